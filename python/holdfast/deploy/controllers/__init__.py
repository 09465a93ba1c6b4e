"""Controllers that stand in for an operator and for NVSentinel. They know a cluster by its API alone: the same on a real one."""
