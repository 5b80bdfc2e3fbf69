"""Measured boot: are verified claims acceptable?"""
