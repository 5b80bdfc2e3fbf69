"""Errors, secrets, codecs and basic types. The package does no I/O and imports no other one."""
