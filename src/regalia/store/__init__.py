"""Ciphertext by name. Nothing here imports a cipher or a key."""
