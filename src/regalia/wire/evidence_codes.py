"""Reason codes that the evidence parsers of all TEEs share."""

from __future__ import annotations

from regalia.core.errors import Code


class EvidenceCode(Code):
    """Refusals of evidence whose bytes are not what the TEE's specification says."""

    UNSUPPORTED_VERSION = (
        "The layout of this version is not known here, so its fields could be misread.",
        "Update Regalia, or the firmware of the machine, so that both know the same version.",
    )
    RESERVED_BIT_SET = (
        "A reserved bit may switch on something that no check here knows about.",
        "Check that the evidence was not altered; if it is genuine, update Regalia.",
    )
    TRAILING_DATA = (
        "Bytes after the end are signed by nobody and would let one report have many names.",
        "Send the report alone, exactly as the hardware returned it.",
    )
    EVENTLOG_SHA1_ONLY = (
        "SHA-1 collisions can be made, so a log with no stronger digest proves no boot.",
        "Enable the SHA-256 bank of the TPM in the firmware's settings, and boot again.",
    )
