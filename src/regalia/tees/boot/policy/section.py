"""What a measured boot must be, by its event log: part of the sections of TEEs that quote PCRs.

Spec: docs/spec/policy.md, section "boot". What a log proves is in docs/spec/event-logs.md.
"""

from __future__ import annotations

from typing import Literal

from regalia.appraisal.policy_doc import Doc, Unrestricted
from regalia.appraisal.policy_words import bad, each, hex_bytes
from regalia.core.codec import unhex

TEXT_MAX = 4096  # characters of one text of a boot loader, such as a kernel command line
DIGEST_SIZES = (32, 48)  # bytes; of the quoted bank
PCR_COUNT = 24
PCR_SIZE = 32  # bytes; the banks' digests differ in size, so policies speak of SHA-256 alone
REGISTERS = tuple(str(index) for index in range(PCR_COUNT))

Pcrs = dict[str, list[str]] | Unrestricted  # by register: accepted values, 32 bytes each


class Boot(Doc, frozen=True, kw_only=True):
    """Rules about the event log. Where one is closed, a log must come along.

    ``loader_texts`` and ``loader_digests`` are one rule: a log can show a text as a digest alone,
    so a list of texts means something only beside a list of digests.
    """

    event_log: Literal["required", "any"]
    secure_boot: Literal["required", "any"]
    boot_images: (
        list[str] | Unrestricted
    )  # digests of loaders, kernels and whatever else was started
    loader_texts: (
        list[str] | Unrestricted
    )  # all that loaders measured as text: command lines, commands
    loader_digests: (
        list[str] | Unrestricted
    )  # all else that they measured: kernels, initrds, sections
    unknown_events: Literal["deny", "allow"]


def check_boot(boot: Boot, path: str) -> None:
    """Raise ParseError MALFORMED at the first rule that the part breaks."""
    each(boot.boot_images, f"{path}.boot_images", _digest)
    each(boot.loader_texts, f"{path}.loader_texts", _text)
    each(boot.loader_digests, f"{path}.loader_digests", _digest)
    if (boot.loader_texts == "any") != (boot.loader_digests == "any"):
        raise bad(
            f"{path}.loader_texts",
            "a log can show a text as a digest alone, so loader_digests is closed or open with it",
        )


def _digest(value: str, path: str) -> None:
    if len(unhex(value, what=f"policy, {path}")) not in DIGEST_SIZES:
        raise bad(path, f"want {' or '.join(str(size) for size in DIGEST_SIZES)} bytes in hex")


def _text(value: str, path: str) -> None:
    if not 0 < len(value) <= TEXT_MAX:
        raise bad(path, f"want 1 to {TEXT_MAX} characters")


def check_pcrs(pcrs: Pcrs, path: str) -> None:
    """Raise ParseError MALFORMED at the first register or value that is none."""
    if isinstance(pcrs, str):  # "any"
        return
    for register, values in pcrs.items():
        where = f"{path}.{register[:8]}"
        if register not in REGISTERS:
            raise bad(where, f"is no register from 0 to {PCR_COUNT - 1}")
        each(values, where, hex_bytes(PCR_SIZE))
