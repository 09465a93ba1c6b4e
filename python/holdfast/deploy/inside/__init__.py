"""What runs in a cluster besides the fault service: what prepares a node, hands out its simulated GPUs, takes it out of use when it is
broken, and makes pods of deployments (`python -m holdfast.deploy.inside --help`)."""
