"""An example TEE: an accelerator whose evidence is a signed CBOR document. No vendor makes it."""
