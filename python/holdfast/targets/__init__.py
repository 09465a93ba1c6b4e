"""What `holdfast list` is given: test programs (GoogleTest, Catch2, doctest), CTest build folders, files with commands, and what pytest
collects; and the tests that each has."""
