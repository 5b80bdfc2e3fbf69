"""Fields about a measured boot, wherever in a policy they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from regalia.appraisal.config_binding import TPM_PCR
from regalia.appraisal.field_kinds import Demand, Switch
from regalia.appraisal.finding import empty, finding, in_full, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import Field, accepted
from regalia.appraisal.policy_words import Entry, bad, each, hex_bytes
from regalia.core.codec import unhex
from regalia.tees.boot.claims import BootFacts
from regalia.tees.boot.policy.section import DIGEST_SIZES, PCR_COUNT, PCR_SIZE, REGISTERS, TEXT_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_doc import Unrestricted
    from regalia.appraisal.policy_field import PinChoices
    from regalia.tees.boot.policy.section import Pcrs

C = TypeVar("C")  # claims

_SHOWN_MAX = 8  # of values that are not accepted; one is enough to deny

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


def _all_listed(listed: Sequence[str] | str, seen: Iterable[str], path: str) -> Iterator[Finding]:
    """Every value is accepted; a list that is empty accepts none. Built by hand, so a str too."""
    if listed == "any":
        return
    strangers = [value for value in dict.fromkeys(seen) if value not in listed]
    if strangers and not listed:
        yield empty(path)
        return
    for value in strangers[:_SHOWN_MAX]:
        yield finding(
            PolicyCode.BOOT_STEP_UNKNOWN,
            f"{shown(value)} was measured, which is not in {path}",
            f"Boot without it, or add it to {path} after checking what it is.",
        )


def _all_of(
    name: str,
    entry: Entry[str],
    seen: Callable[[BootFacts], Sequence[str]],
    pin: Callable[[BootFacts], list[str] | Unrestricted],
) -> Callable[[str, str, str, str], Field[BootFacts | None, Any]]:
    """A list that holds everything of one kind that the log shows; its words follow."""
    return lambda content, noun, unrestricted, risk: Field(
        name=name,
        type=f"list of {entry.type}, or any",
        content=content,
        required=_only(noun),
        unrestricted=unrestricted,
        risk=risk,
        check=lambda values, path: each(values, path, entry.check),
        pin=lambda facts, _: "any" if facts is None else pin(facts),
        compare=lambda values, facts, path: (
            iter(()) if facts is None else _all_listed(values, seen(facts), path)
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
        pin=lambda facts, _: "any" if facts is None else "required",
    ),
    Demand[BootFacts | None](
        "secure_boot",
        lambda facts: facts is None or bool(facts.secure_boot),
        PolicyCode.SECURE_BOOT_OFF,
        pin=lambda facts, _: "required" if facts is not None and facts.secure_boot else "any",
    ).words(
        "UEFI Secure Boot was on",
        _secure_boot_state,
        "UEFI Secure Boot must have been on.",
        "UEFI Secure Boot may have been off.",
        "whoever writes the disk chooses what boots, as far as the other rules let it.",
    ),
    _all_of(
        "boot_images",
        _DIGESTS,
        _images,
        lambda facts: sorted(set(_images(facts))) or "any",
    )(
        "all programs that were started: loaders, kernels",
        "programs of the boot (digest)",
        "Any programs may have been started.",
        "other loaders and kernels than yours may boot, as far as pcrs lets them.",
    ),
    _all_of(
        "loader_texts",
        _TEXTS,
        lambda facts: facts.loader_texts,
        lambda facts: list(dict.fromkeys(facts.loader_texts)) if _loader_spoke(facts) else "any",
    )(
        "all texts that boot loaders measured: command lines, commands",
        "texts of boot loaders",
        "Boot loaders may have measured any text.",
        "a kernel command line such as init=/bin/sh passes, as far as pcrs lets it.",
    ),
    _all_of(
        "loader_digests",
        _DIGESTS,
        _loader_digests,
        lambda facts: sorted(set(_loader_digests(facts))) if _loader_spoke(facts) else "any",
    )(
        "all else that they measured: kernels, initrds, sections. Any if and only if"
        " `loader_texts` is: a log can show a text as a digest alone",
        "files of boot loaders (digest)",
        "Boot loaders may have measured any files.",
        "another kernel or initrd may have been loaded, as far as pcrs lets it.",
    ),
    Switch[BootFacts | None](
        "unknown_events",
        lambda facts: facts is None or not facts.unknown_events,
        PolicyCode.EVENT_LOG_INSUFFICIENT,
    ).words(
        "events of types without a known meaning",
        lambda facts: (
            f"{0 if facts is None else facts.unknown_events} events are of a type that is not known"
        ),
        "The event log must not hold events of unknown types.",
        "The event log may hold events of unknown types.",
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


def _register_findings(pcrs: Pcrs, seen: Mapping[int, bytes], path: str) -> Iterator[Finding]:
    """Every listed register has an accepted value."""
    if isinstance(pcrs, str):  # "any"
        return
    if not pcrs:
        yield empty(path)
    for register, values in pcrs.items():
        value = seen.get(int(register), b"").hex() if register.isdecimal() else ""
        if not values:
            yield empty(f"{path}.{register}")
        elif value not in values:
            yield finding(
                PolicyCode.PCR_UNKNOWN,
                f"PCR{register} is {value}, which is none of the {len(values)} accepted",
            )


def pcrs_field(
    quoted_by: str, risk: str, quoted: Callable[[C], Mapping[int, bytes]]
) -> Field[C, Pcrs]:
    """Accepted values of the registers that a TPM quoted.

    Args:
        quoted_by: the TPM, at the beginning of a sentence.
        risk: of leaving the registers open.
        quoted: registers by number.
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
        pin=lambda claims, choices: _pin_pcrs(quoted(claims), choices),
        compare=lambda pcrs, claims, path: _register_findings(pcrs, quoted(claims), path),
    )
