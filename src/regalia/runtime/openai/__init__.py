"""The OpenAI-compatible service inside the sealed channel."""
