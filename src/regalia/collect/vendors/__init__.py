"""Fetches collateral from its vendors, on a machine that has a network. Nothing here verifies:
whoever calls it does, before anything is written or used.
"""
