"""Parsers of firmware and kernel images, which are untrusted."""
