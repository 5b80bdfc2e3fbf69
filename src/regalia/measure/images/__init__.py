"""Parsers of firmware, kernel and enclave images, which are untrusted."""
