"""``regalia collateral``: one module for each step of its work."""
