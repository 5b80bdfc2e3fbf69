"""Key stores, which hold key-encryption keys (KEKs) for the broker and for the owner's CLI."""
