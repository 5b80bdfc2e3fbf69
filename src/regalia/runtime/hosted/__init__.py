"""Engines in processes of their own: their life, their key, and the way to their API."""
