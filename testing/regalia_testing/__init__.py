"""Simulated TEEs, attack fixtures and Hypothesis strategies. Nothing below imports this.

What is made here protects nothing: its keys lie on the disk of whoever runs it.
"""

__version__ = "0.1.0"
