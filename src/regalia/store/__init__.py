"""Stores of named ciphertext. The package imports no cipher and no key."""
