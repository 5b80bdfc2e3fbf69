"""Computes launch measurements from build artifacts, as reference values for policies.

The results are the values that a platform reports about a machine that was started from these
files. The package reads no clock, opens no socket, and does not inspect the machine that it runs
on. Spec: docs/spec/measurements.md.
"""
