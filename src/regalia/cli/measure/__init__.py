"""``regalia measure``: one module for each kind of image."""
