"""Keys in a PKCS#11 token, such as an HSM. Spec: docs/spec/pkcs11-key-store.md."""
