"""Azure confidential VMs."""
