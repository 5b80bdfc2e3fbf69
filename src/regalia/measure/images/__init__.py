"""Firmware and kernel images as bytes, untrusted."""
