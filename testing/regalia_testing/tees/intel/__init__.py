"""Simulated Intel TDX and SGX. It protects nothing."""
