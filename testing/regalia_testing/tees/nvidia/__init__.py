"""Simulated NVIDIA devices. They protect nothing."""
