"""Intel TDX and SGX."""
