"""Codes of warnings: evidence is accepted, and something that a careful reader wants is missing.

Beside these, a warning may have the code of the rule that would refuse it: REVOCATION_UNKNOWN,
COLLATERAL_LATE, SIMULATED_HARDWARE and RIM_MISSING are policy codes.
"""

from __future__ import annotations

from regalia.core.errors import Code


class WarningCode(Code):
    """Evidence is accepted, and yet not all that could be known of it is known and good."""

    FRESHNESS_UNCHECKED = (
        "Without a challenge the evidence may be a recording, or somebody else's.",
        "Send a random challenge, and give it as --challenge.",
    )
    PLATFORM_WEAKENED = (
        "The vendor itself lists weaknesses of this platform, so its protection may be broken.",
        "Update the platform as its vendor's advisories say, or decide that you accept them.",
    )
    MEMORY_NOT_ISOLATED = (
        "A TPM shows what booted; it hides no memory from whoever runs the machine.",
        "Run on a TEE, or trust the machine's operator.",
    )
    DEVICES_UNBOUND = (
        "Genuine devices of another machine would look the same.",
        "Give a runtime's whole answer and the challenge that it was asked with.",
    )
    DEVICE_MODE_UNSTATED = (
        "In some modes links between GPUs are not protected, and old drivers state no mode.",
        "Update the driver, or find out the mode in another way.",
    )
    CHECK_LEFT_OPEN = (
        "A check that was not made in full protects from nothing.",
        "Look at what the check wanted, and give it to the verifier.",
    )
