"""Reason codes that the evidence parsers of all TEEs share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.core.errors import Code, ParseError

if TYPE_CHECKING:
    from collections.abc import Collection


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
    FORM_UNKNOWN = (
        "Files are told by their content, and nothing is guessed: what is misread proves nothing.",
        "Give it in one of the forms that the message lists, or as raw bytes.",
    )
    EVENTLOG_SHA1_ONLY = (
        "SHA-1 collisions can be made, so a log with no stronger digest proves no boot.",
        "Enable the SHA-256 bank of the TPM in the firmware's settings, and boot again.",
    )


def unsupported_version(what: str, seen: int, known: Collection[int]) -> ParseError:
    """The refusal of a version whose layout is not known. It names the newest one that is.

    Parsers ask before anything else: sizes and reserved bits are those of one version.

    Args:
        what: the format and its field, e.g. "SNP report: VERSION".
        seen: in the evidence, untrusted.
        known: versions that the parser reads; at least one.
    """
    others = ", ".join(map(str, sorted(known)))
    text = f"{what} {seen}; the newest known here is {max(known)} (known: {others})"
    return ParseError(EvidenceCode.UNSUPPORTED_VERSION, text)
