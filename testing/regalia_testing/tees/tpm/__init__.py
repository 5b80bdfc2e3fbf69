"""Simulated and software TPMs. They protect nothing."""
