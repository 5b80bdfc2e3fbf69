"""Simulated platforms, one folder for each TEE."""
