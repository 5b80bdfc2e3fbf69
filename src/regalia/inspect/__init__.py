"""Recognizing and decoding evidence for people. Nothing here verifies anything."""
