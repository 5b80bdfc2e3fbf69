"""Key stores: where key-encryption keys (KEKs) live. Imported by the broker and the owner's CLI."""
