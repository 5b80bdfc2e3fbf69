"""``regalia attest``: one module for each step of its work."""
