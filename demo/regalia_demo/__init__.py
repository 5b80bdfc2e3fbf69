"""The one-command tour: everything real but the TEE, and every theft beside a control."""

__version__ = "0.1.0"
