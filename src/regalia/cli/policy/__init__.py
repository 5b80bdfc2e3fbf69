"""``regalia policy``: one module for each step of its work."""
