"""Simulated AWS Nitro. It protects nothing."""
