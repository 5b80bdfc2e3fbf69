"""Verifiers: raw evidence in, claims out. One subpackage for each TEE.

A verifier answers one question, *is it genuine and fresh?*, and stops at the first check that
fails. Whether the claims are acceptable is for ``regalia.policy``. Nothing here opens a socket
or reads a clock: time, collateral and trust anchors are arguments.
"""
