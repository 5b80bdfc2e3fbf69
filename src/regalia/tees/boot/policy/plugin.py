"""What the policies of TPMs and of Azure's VMs say of a measured boot, by its event log."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from regalia.appraisal.condition_types import Reading, because, derived
from regalia.appraisal.finding import finding
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_plugin import RuleInput, Section, judges
from regalia.appraisal.policy_words import bad
from regalia.tees.boot.claims import WORKLOAD_PCRS, BootFacts
from regalia.tees.boot.policy.fields import FIELDS
from regalia.tees.boot.policy.section import Boot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from regalia.appraisal.finding import Finding
    from regalia.tees.boot.policy.section import Pcrs

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


def _loader_words_go_together(boot: Boot, path: str) -> None:
    if (boot.loader_texts == "any") != (boot.loader_digests == "any"):
        raise bad(
            f"{path}.loader_texts",
            "a log can show a text as a digest alone, so loader_digests is closed or open with it",
        )


BOOT: Section[Boot, BootFacts | None] = Section(
    section=Boot,
    fields=FIELDS,
    order=(
        *(log, firmware, "secure_boot", started, "boot_images"),
        *(loaded, "loader_texts", "loader_digests", "unknown_events"),
    ),
    cross_check=_loader_words_go_together,
)


# -- what conditions may say of it ----------------------------------------------------------------

_LEFT_OUT = {
    **because("firmware that measures them is rare", "deployed_mode", "audit_mode"),
    **because("always refused", "firmware_debugger", "firmware_error"),
    **because("db and dbx decide what starts", "pk", "kek", "option_roms"),
    **because(
        "parts of loader_texts and loader_digests, under labels that nothing proves",
        *("kernel_command_lines", "loader_commands", "load_options", "initrds", "uki_sections"),
    ),
    **because("grow while the workload runs", "runtime_events", "runtime_digests"),
}
# Secure Boot of which the log says nothing counts as off.
_BOOL_OR_UNKNOWN: Reading[bool | None] = Reading("bool", bool)
_MEMBERS = derived(BootFacts, left_out=_LEFT_OUT, readings={"bool | None": _BOOL_OR_UNKNOWN})
_EMPTY: Mapping[object, Callable[[], object]] = MappingProxyType(
    {"bool": bool, "int": int, "text": str, "list of text": list}
)


def _read(facts: BootFacts | None) -> dict[str, object]:
    """Without a log everything is false, 0 or empty."""
    if facts is None:
        return {"has_event_log": False} | {
            name: _EMPTY[each.kind]() for name, each in _MEMBERS.items()
        }
    return {"has_event_log": True} | {name: each.read(facts) for name, each in _MEMBERS.items()}


_KIND: dict[str, Any] = {"has_event_log": "bool"}
BOOT_CONDITIONS: Reading[BootFacts | None] = Reading(
    MappingProxyType(_KIND | {name: each.kind for name, each in _MEMBERS.items()}), _read
)
