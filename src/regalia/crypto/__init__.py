"""Cryptographic building blocks: AEAD, key derivation, signatures, HPKE and OHTTP.

The package does no I/O and reads no clock.
"""
