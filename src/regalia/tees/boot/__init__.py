"""Measured boot."""
