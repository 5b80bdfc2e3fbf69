"""One room for each TEE. Evidence and policy are its two halves, and neither imports the other."""
