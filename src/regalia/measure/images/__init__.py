"""Firmware, kernel and enclave images as bytes, untrusted."""
