"""The key store ``aws-kms``: KEKs in AWS KMS, which encrypts to attested enclaves itself."""
