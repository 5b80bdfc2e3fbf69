"""Values to values: AEAD, key derivation, signatures, HPKE, OHTTP. No I/O, no clock."""
