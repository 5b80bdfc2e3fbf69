"""Simulated AMD SEV-SNP. It protects nothing."""
