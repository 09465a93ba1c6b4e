"""The names under which deployments start the stand-in."""
