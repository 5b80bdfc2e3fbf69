"""Control without a lone administrator: chains of signed statements, and what follows from them."""
