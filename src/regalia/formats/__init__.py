"""Bytes to values and back. Every format here has a page in docs/spec and is canonical:
``encode(parse(b)) == b`` for every ``b`` that parses.
"""
