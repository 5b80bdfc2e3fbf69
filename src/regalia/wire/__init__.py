"""Documents and encodings that are exchanged between parties. docs/spec specifies them."""
