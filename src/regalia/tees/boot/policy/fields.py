"""Fields about a measured boot, wherever in a policy they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.appraisal.config_binding import TPM_PCR
from regalia.appraisal.explanation import accepted
from regalia.appraisal.field_kinds import allow_or_deny, required_or_any
from regalia.appraisal.finding import in_full
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import Field
from regalia.appraisal.policy_words import Entry, bad, each, hex_bytes
from regalia.core.codec import unhex
from regalia.tees.boot.policy.rules import all_listed, register_findings
from regalia.tees.boot.policy.section import DIGEST_SIZES, PCR_COUNT, PCR_SIZE, REGISTERS, TEXT_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from regalia.appraisal.policy_doc import Unrestricted
    from regalia.appraisal.policy_field import PinChoices
    from regalia.tees.boot.claims import BootFacts
    from regalia.tees.boot.policy.section import Pcrs

# Firmware, loaders, Secure Boot's state, GRUB, kernel and its parts (TCG PC Client profile; UAPI
# Linux TPM PCR Registry). The others change between boots of one image, or nobody extends them.
PINNED_PCRS = (0, 2, 3, 4, 6, 7, 8, 9, 11)


def _digest(value: str, path: str) -> None:
    if len(unhex(value, what=f"policy, {path}")) not in DIGEST_SIZES:
        raise bad(path, f"want {' or '.join(str(size) for size in DIGEST_SIZES)} bytes in hex")


def _text(value: str, path: str) -> None:
    if not 0 < len(value) <= TEXT_MAX:
        raise bad(path, f"want 1 to {TEXT_MAX} characters")


_DIGESTS: Entry[str] = Entry("hex32 or hex48", _digest)
_TEXTS: Entry[str] = Entry(f"text of 1 to {TEXT_MAX:,} characters", _text)


def _only(noun: str) -> Callable[[list[str]], str]:
    """Of a list that everything seen must be in."""
    say = accepted(noun)

    def sentence(values: list[str]) -> str:
        return f"{say(values)} Nothing else may have been measured." if values else say(values)

    return sentence


def _all_of(  # noqa: PLR0913 - all are named
    name: str,
    *,
    entry: Entry[str],
    seen: Callable[[BootFacts], Sequence[str]],
    pin: Callable[[BootFacts], list[str] | Unrestricted],
    content: str,
    noun: str,
    unrestricted: str,
    risk: str,
) -> Field[BootFacts | None, Any]:
    """A list that holds everything of one kind that the log shows."""
    return Field(
        name=name,
        type=f"list of {entry.type}, or any",
        content=content,
        required=_only(noun),
        unrestricted=unrestricted,
        risk=risk,
        check=lambda values, path: each(values, path, entry.check),
        pin=lambda facts, _: "any" if facts is None else pin(facts),
        baseline=lambda _: "any",
        compare=lambda values, facts, path: (
            iter(()) if facts is None else all_listed(values, seen(facts), path)
        ),
    )


def _images(facts: BootFacts) -> list[str]:
    return [digest.hex() for digest in facts.boot_images or ()]


def _loader_digests(facts: BootFacts) -> list[str]:
    return [digest.hex() for digest in facts.loader_digests]


def _loader_spoke(facts: BootFacts) -> bool:
    """Texts and digests are one rule, so both are pinned if the log shows either."""
    return bool(facts.loader_texts or facts.loader_digests)


def _secure_boot_state(facts: BootFacts | None) -> str:
    unknown = facts is None or facts.secure_boot is None
    return f"Secure Boot is {'unknown' if unknown else 'off'}"


FIELDS: tuple[Field[BootFacts | None, Any], ...] = (
    Field(
        name="event_log",
        type="`required`, or any",
        content="a log came along that leads to the quoted registers. Where another member here is"
        " not any, one must come along too",
        required="An event log that leads to the quoted registers must come along.".format,
        unrestricted="An event log need not come along.",
        risk="without one only register values say what booted, as far as pcrs lists them.",
        check=lambda _value, _path: None,
        pin=lambda facts, _: "any" if facts is None else "required",
        baseline=lambda _: "any",
    ),
    required_or_any(
        "secure_boot",
        met=lambda facts: facts is None or bool(facts.secure_boot),
        pin=lambda facts, _: "required" if facts is not None and facts.secure_boot else "any",
        code=PolicyCode.SECURE_BOOT_OFF,
        what=_secure_boot_state,
        required="UEFI Secure Boot must have been on.",
        unrestricted="UEFI Secure Boot may have been off.",
        risk="whoever writes the disk chooses what boots, as far as the other rules let it.",
        content="UEFI Secure Boot was on",
    ),
    _all_of(
        "boot_images",
        entry=_DIGESTS,
        seen=_images,
        pin=lambda facts: sorted(set(_images(facts))) or "any",
        content="all programs that were started: loaders, kernels",
        noun="programs of the boot (digest)",
        unrestricted="Any programs may have been started.",
        risk="other loaders and kernels than yours may boot, as far as pcrs lets them.",
    ),
    _all_of(
        "loader_texts",
        entry=_TEXTS,
        seen=lambda facts: facts.loader_texts,
        pin=lambda facts: (
            list(dict.fromkeys(facts.loader_texts)) if _loader_spoke(facts) else "any"
        ),
        content="all texts that boot loaders measured: command lines, commands",
        noun="texts of boot loaders",
        unrestricted="Boot loaders may have measured any text.",
        risk="a kernel command line such as init=/bin/sh passes, as far as pcrs lets it.",
    ),
    _all_of(
        "loader_digests",
        entry=_DIGESTS,
        seen=_loader_digests,
        pin=lambda facts: sorted(set(_loader_digests(facts))) if _loader_spoke(facts) else "any",
        content="all else that they measured: kernels, initrds, sections. Any if and only if"
        " `loader_texts` is: a log can show a text as a digest alone",
        noun="files of boot loaders (digest)",
        unrestricted="Boot loaders may have measured any files.",
        risk="another kernel or initrd may have been loaded, as far as pcrs lets it.",
    ),
    allow_or_deny(
        "unknown_events",
        absent=lambda facts: facts is None or not facts.unknown_events,
        code=PolicyCode.EVENT_LOG_INSUFFICIENT,
        what=lambda facts: (
            f"{0 if facts is None else facts.unknown_events} events are of a type that is not known"
        ),
        allowed="The event log may hold events of unknown types.",
        denied="The event log must not hold events of unknown types.",
        content="events of types without a known meaning",
    ),
)


def _check_pcrs(pcrs: Pcrs, path: str) -> None:
    if isinstance(pcrs, str):  # "any"
        return
    for register, values in pcrs.items():
        where = f"{path}.{register[:8]}"
        if register not in REGISTERS:
            raise bad(where, f"is no register from 0 to {PCR_COUNT - 1}")
        each(values, where, hex_bytes(PCR_SIZE))


def _pin_pcrs(seen: Mapping[int, bytes], choices: PinChoices) -> Pcrs:
    registers = {
        str(index): [seen[index].hex()]
        for index in ((*PINNED_PCRS, TPM_PCR) if choices.config else PINNED_PCRS)
        if len(seen[index]) == PCR_SIZE  # policies list values of the SHA-256 bank
    }
    return registers or "any"


def pcrs_field(quoted_by: str, risk: str) -> Field[Mapping[int, bytes], Pcrs]:
    """Accepted values of the registers that a TPM quoted.

    Args:
        quoted_by: the TPM, at the beginning of a sentence.
        risk: of leaving the registers open.
    """

    def say(values: dict[str, list[str]]) -> str:
        if not values:
            return "No register is listed: this policy denies everything."
        parts = [f"PCR{register} one of {in_full(accepts)}" for register, accepts in values.items()]
        return (
            f"{quoted_by} must have quoted {'; '.join(parts)}. Other registers are not looked at."
        )

    return Field(
        name="pcrs",
        type="object, or any",
        content="by register, `0` to `23`: list of hex32, the accepted values of the SHA-256 bank."
        " Registers that do not stand there are not looked at",
        required=say,
        unrestricted="Any register values are accepted.",
        risk=risk,
        check=_check_pcrs,
        pin=_pin_pcrs,
        baseline=lambda _: "any",
        compare=register_findings,
    )
