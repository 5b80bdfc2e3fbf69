"""The attested runtime: proves itself, receives the model key, serves the model."""
