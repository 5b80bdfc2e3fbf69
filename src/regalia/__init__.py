"""Regalia: model weights that only a verified trusted execution environment can read."""

__version__ = "0.1.0"
