"""Simulated Azure confidential VMs. They protect nothing."""
