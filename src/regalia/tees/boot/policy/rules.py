"""Rules about a measured boot, for every TEE whose claims have the facts of an event log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.finding import Finding, empty, finding, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.tees.boot.claims import WORKLOAD_PCRS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from regalia.tees.boot.claims import BootFacts
    from regalia.tees.boot.policy.section import Boot, Pcrs


@dataclass(frozen=True, slots=True)
class BootRuleInput:
    """What every rule here looks at. ``path`` is where the rule stands in the policy."""

    rule: Boot
    facts: BootFacts
    path: str


BootRule = Callable[[BootRuleInput], Iterator[Finding]]


def boot_findings(rule: Boot, facts: BootFacts | None, path: str) -> Iterator[Finding]:
    """All findings about the boot, in the order of the rules."""
    if facts is None:
        if not is_open(rule):
            yield finding(
                PolicyCode.EVENT_LOG_INSUFFICIENT, f"no event log came along; {path} asks for one"
            )
        return
    for each in BOOT_RULES:
        yield from each(BootRuleInput(rule, facts, path))


def is_open(rule: Boot) -> bool:
    """Whether the policy asks nothing that needs a log."""
    closed = (rule.boot_images, rule.loader_texts, rule.loader_digests)
    words = (rule.event_log, rule.secure_boot)
    return all(value == "any" for value in (*words, *closed))


def firmware(case: BootRuleInput) -> Iterator[Finding]:
    """(a) There is no word for a debugger in the firmware, nor for a boot that failed."""
    if case.facts.firmware_debugger:
        yield finding(PolicyCode.BOOT_DENIED, "the firmware announced a debugger")
    if case.facts.firmware_error:
        yield finding(PolicyCode.BOOT_DENIED, "the firmware says that it met an error")


def secure_boot(case: BootRuleInput) -> Iterator[Finding]:
    """(b) UEFI Secure Boot. A log that says nothing of it says no."""
    if case.rule.secure_boot != "any" and not case.facts.secure_boot:
        state = "unknown" if case.facts.secure_boot is None else "off"
        yield finding(PolicyCode.SECURE_BOOT_OFF, f"Secure Boot is {state}")


def images(case: BootRuleInput) -> Iterator[Finding]:
    """(c) Everything that the firmware started."""
    started = case.facts.boot_images or ()
    if case.rule.boot_images != "any" and not started:
        yield finding(PolicyCode.BOOT_DENIED, "the log shows nothing that was started")
    seen = [digest.hex() for digest in started]
    yield from _all_listed(case.rule.boot_images, seen, f"{case.path}.boot_images")


def loader(case: BootRuleInput) -> Iterator[Finding]:
    """(d) Everything that boot loaders measured: texts, and digests of all else."""
    texts = case.facts.loader_texts
    digests = [digest.hex() for digest in case.facts.loader_digests]
    if case.rule.loader_texts != "any" and not texts and not digests:
        yield finding(PolicyCode.BOOT_DENIED, "the log shows nothing that a loader measured")
    yield from _all_listed(case.rule.loader_texts, texts, f"{case.path}.loader_texts")
    yield from _all_listed(case.rule.loader_digests, digests, f"{case.path}.loader_digests")


def unknown_events(case: BootRuleInput) -> Iterator[Finding]:
    """(e) Events whose meaning is not known."""
    count = case.facts.unknown_events
    if case.rule.unknown_events != "allow" and count:
        yield finding(
            PolicyCode.EVENT_LOG_INSUFFICIENT, f"{count} events are of a type that is not known"
        )


def _all_listed(accepted: Sequence[str] | str, seen: Iterable[str], path: str) -> Iterator[Finding]:
    """Every value is accepted; a list that is empty accepts none. Built by hand, so a str too."""
    if accepted == "any":
        return
    strangers = [value for value in dict.fromkeys(seen) if value not in accepted]
    if strangers and not accepted:
        yield empty(path)
        return
    for value in strangers[:_SHOWN_MAX]:
        yield finding(
            PolicyCode.BOOT_STEP_UNKNOWN,
            f"{shown(value)} was measured, which is not in {path}",
            f"Boot without it, or add it to {path} after checking what it is.",
        )


_SHOWN_MAX = 8  # of values that are not accepted; one is enough to deny
BOOT_RULES: tuple[BootRule, ...] = (firmware, secure_boot, images, loader, unknown_events)


def workload_findings(pcrs: Pcrs, boot: Boot) -> Iterator[Finding]:
    """What booted must be held to something: registers, or what the log shows as started."""
    listed: Collection[str] = () if isinstance(pcrs, str) else pcrs
    if boot.boot_images != "any" or any(str(index) in listed for index in WORKLOAD_PCRS):
        return
    names = ", ".join(str(index) for index in WORKLOAD_PCRS)
    yield finding(
        PolicyCode.WORKLOAD_UNPINNED,
        f"none of the registers {names}, which hold what boots, is listed, and boot_images is open",
        "List accepted values of the registers that hold loader and kernel, or boot_images.",
    )


def register_findings(pcrs: Pcrs, seen: Mapping[int, bytes], path: str) -> Iterator[Finding]:
    """Every listed register has an accepted value."""
    if isinstance(pcrs, str):  # "any"
        return
    if not pcrs:
        yield empty(path)
    for register, accepted in pcrs.items():
        value = seen.get(int(register), b"").hex() if register.isdecimal() else ""
        if not accepted:
            yield empty(f"{path}.{register}")
        elif value not in accepted:
            yield finding(
                PolicyCode.PCR_UNKNOWN,
                f"PCR{register} is {value}, which is none of the {len(accepted)} accepted",
            )
