"""Rules about a measured boot, for every TEE whose claims have the facts of an event log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.finding import empty, finding, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_plugin import RuleInput, judges
from regalia.tees.boot.claims import WORKLOAD_PCRS, BootFacts
from regalia.tees.boot.policy.section import Boot

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from regalia.appraisal.finding import Finding
    from regalia.tees.boot.policy.section import Pcrs

_SHOWN_MAX = 8  # of values that are not accepted; one is enough to deny

BootRuleInput = RuleInput[Boot, BootFacts | None]


def needs_log(rule: Boot) -> bool:
    """Whether the policy asks something that needs a log."""
    closed = (rule.boot_images, rule.loader_texts, rule.loader_digests)
    return any(value != "any" for value in (rule.event_log, rule.secure_boot, *closed))


@judges("event_log")
def log(case: BootRuleInput) -> Iterator[Finding]:
    """Where a rule needs a log, one must have come along; the other rules then say nothing."""
    if case.claims is None and needs_log(case.section):
        yield finding(
            PolicyCode.EVENT_LOG_INSUFFICIENT, f"no event log came along; {case.path} asks for one"
        )


@judges()
def firmware(case: BootRuleInput) -> Iterator[Finding]:
    """(a) There is no word for a debugger in the firmware, nor for a boot that failed."""
    if case.claims is None:
        return
    if case.claims.firmware_debugger:
        yield finding(PolicyCode.BOOT_DENIED, "the firmware announced a debugger")
    if case.claims.firmware_error:
        yield finding(PolicyCode.BOOT_DENIED, "the firmware says that it met an error")


@judges("boot_images")
def started(case: BootRuleInput) -> Iterator[Finding]:
    """(c) Where programs are listed, the log must show some."""
    if case.section.boot_images != "any" and case.claims and not case.claims.boot_images:
        yield finding(PolicyCode.BOOT_DENIED, "the log shows nothing that was started")


@judges("loader_texts", "loader_digests")
def loaded(case: BootRuleInput) -> Iterator[Finding]:
    """(d) Where texts are listed, the log must show something that loaders measured."""
    facts = case.claims
    if case.section.loader_texts == "any" or facts is None:
        return
    if not facts.loader_texts and not facts.loader_digests:
        yield finding(PolicyCode.BOOT_DENIED, "the log shows nothing that a loader measured")


def all_listed(accepted: Sequence[str] | str, seen: Iterable[str], path: str) -> Iterator[Finding]:
    """Every value is accepted; a list that is empty accepts none. Built by hand, so a str too.

    Args:
        accepted: the policy's list, or ``any``, which accepts every value.
        seen: values in verified claims.
        path: of the list in the policy, for the findings.
    """
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


def workload_findings(pcrs: Pcrs, boot: Boot) -> Iterator[Finding]:
    """What booted must be held to something: registers, or what the log shows as started.

    Args:
        pcrs: the policy's accepted values of registers, or ``any``.
        boot: the policy's section about the boot.
    """
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
    """Every listed register has an accepted value.

    Args:
        pcrs: the policy's accepted values of registers, or ``any``.
        seen: values in verified claims, by register.
        path: of ``pcrs`` in the policy, for the findings.
    """
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
