"""Names and habits of other tools that suites already use: a small file each, mapped to Holdfast's own."""
