"""A double of AWS KMS, which verifies enclaves and encrypts to them as the real one does."""
