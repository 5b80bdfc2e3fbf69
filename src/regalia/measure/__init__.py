"""Launch measurements computed from build artifacts: bytes in, reference values out.

What a platform should report about a machine that was started from these very files. Nothing here
reads a clock, opens a socket, or looks at the machine it runs on. Spec: docs/spec/measurements.md.
"""
