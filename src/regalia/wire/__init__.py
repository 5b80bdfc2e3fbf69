"""Documents and encodings that travel between two parties. Each has a page in docs/spec."""
