"""One sentence for every field of a policy, closed and open. A test compares with the document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regalia.policy.case import in_full

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.formats.policy import FirmwareMinimum, TcbMinimum


@dataclass(frozen=True, slots=True)
class Sentence:
    """How one field reads.

    Attributes:
        path: the field.
        closed: from the field's value to a sentence.
        opened: the sentence when the field demands nothing.
        risk: what that risks. Both are empty for fields that cannot be left open.
    """

    path: str
    # Any: each function knows the type of its own field; the test calls all of them.
    closed: Callable[[Any], str]
    opened: str = ""
    risk: str = ""


def _hardware(value: str) -> str:
    return f"The evidence must come from {value} hardware."


def _accepted(noun: str) -> Callable[[list[Any]], str]:
    def say(values: list[Any]) -> str:
        if not values:
            return f"No {noun} is accepted: this policy denies everything."
        return f"Accepted {noun}: {in_full([str(value) for value in values])}."

    return say


def _csp_ids(values: list[str]) -> str:
    if not values:
        return "No cloud provider's VLEK is accepted."
    return f"A VLEK must belong to: {in_full(values)}."


def _devices(values: list[str]) -> str:
    if not values:
        return "The device set is empty: CPU only."
    return f"Exactly these devices must be there: {in_full(values)}. No evidence can show this yet."


def _tcb(minima: dict[str, TcbMinimum]) -> str:
    if not minima:
        return "No product has a TCB minimum: this policy denies everything."
    parts = [
        f"{product} at least fmc {low.fmc}, bootloader {low.bootloader}, tee {low.tee},"
        f" snp {low.snp}, microcode {low.microcode}"
        for product, low in sorted(minima.items())
    ]
    return f"Reported, committed and launch TCB: {'; '.join(parts)}."


def _firmware(low: FirmwareMinimum) -> str:
    return f"SEV firmware, current and committed: at least {low.major}.{low.minor}.{low.build}."


def _provisional(value: str) -> str:
    if value == "allow":
        return "Firmware that is not committed is accepted; the host can roll it back."
    return "Current firmware must be committed, so that it cannot be rolled back."


def _smt(value: str) -> str:
    if value == "allow":
        return "The guest may run with SMT; another guest's thread may share a core."
    return "The guest must refuse to run with SMT."


def _cxl(value: str) -> str:
    if value == "allow":
        return "CXL memory may be attached."
    return "CXL memory must not be attached."


def _egress(values: list[str]) -> str:
    if not values:
        return "The workload's configuration may list no outbound address."
    return f"The workload's configuration may list only these addresses: {in_full(values)}."


def _approvers(values: list[str]) -> str:
    if not values:
        return "There are no approvers."
    return f"Approvers: {in_full(values)}."


def _threshold(value: int) -> str:
    if value == 0:
        return "A release needs no person's approval."
    return f"A release needs {value} approvers' signatures."


def _conditions(values: list[str]) -> str:
    if not values:
        return "There are no further conditions."
    return f"All of these must be true: {in_full(values)}."


_SNP = "platform.snp"
_GUEST = "platform.snp.guest_policy"

SENTENCES: tuple[Sentence, ...] = (
    Sentence("format", "The document's format is {}.".format),
    Sentence("name", "The policy is called {}.".format),
    Sentence("version", "It is version {}; a broker never goes back to an older one.".format),
    Sentence("model.id", "It is about {}.".format),
    Sentence("model.version_minimum", "The model's version must be at least {}.".format),
    Sentence(
        "platform.hardware",
        _hardware,
        "Only SIMULATED evidence is accepted.",
        "anybody with the throw-away root's key can forge it, and the host can read the weights.",
    ),
    Sentence(f"{_SNP}.products", _accepted("processor lines")),
    Sentence(
        f"{_SNP}.measurements",
        _accepted("launch measurements"),
        "Any launch measurement is accepted.",
        "other software than yours may get the key, as far as id_keys lets it.",
    ),
    Sentence(
        f"{_SNP}.host_data",
        _accepted("runtime configurations (SHA-256)"),
        "Any runtime configuration is accepted that meets the rules below.",
        "the operator may change placement and egress as far as the other rules let them.",
    ),
    Sentence(
        f"{_SNP}.id_keys",
        _accepted("ID block signing keys (digest)"),
        "Any ID block, or none, is accepted.",
        "who signed the launch is not checked; the measurement alone says what runs.",
    ),
    Sentence(f"{_SNP}.vmpl", _accepted("privilege levels (VMPL)")),
    Sentence(
        f"{_GUEST}.abi_major_min", "The guest must insist on SEV ABI major {} or more.".format
    ),
    Sentence(f"{_GUEST}.abi_minor_min", "With it, on ABI minor {} or more.".format),
    Sentence(f"{_GUEST}.smt", _smt),
    Sentence(
        f"{_GUEST}.single_socket",
        "The guest must run on a single socket.".format,
        "The guest may span sockets.",
        "memory traffic crosses the link between sockets, which can be tapped.",
    ),
    Sentence(f"{_GUEST}.cxl", _cxl),
    Sentence(
        f"{_SNP}.platform_info_required",
        lambda values: f"The platform must report: {in_full(values)}.",
        "No platform protection is demanded.",
        "without ALIAS_CHECK_COMPLETE memory aliasing (BadRAM) can defeat the guest's integrity.",
    ),
    Sentence(
        f"{_SNP}.tcb_minimum",
        _tcb,
        "Any TCB is accepted.",
        "firmware with published attacks is accepted.",
    ),
    Sentence(
        f"{_SNP}.firmware_minimum",
        _firmware,
        "Any SEV firmware version is accepted.",
        "firmware with published attacks is accepted as far as the TCB minimum lets it.",
    ),
    Sentence(f"{_SNP}.provisional_firmware", _provisional),
    Sentence(
        f"{_SNP}.mitigations_required",
        lambda bits: f"Mitigation vectors at launch and now must have the bits {bits:#x}.",
        "No firmware mitigation is demanded.",
        "fixes that no TCB number shows may be missing.",
    ),
    Sentence(f"{_SNP}.report_version_minimum", "Reports must be of version {} or later.".format),
    Sentence(f"{_SNP}.signing_keys", _accepted("kinds of signing key")),
    Sentence(
        f"{_SNP}.csp_ids",
        _csp_ids,
        "A VLEK of any cloud provider is accepted.",
        "a provider that you have no contract with may vouch for its machines.",
    ),
    Sentence(
        f"{_SNP}.chip_ids",
        _accepted("chips"),
        "Any chip of the accepted lines is accepted.",
        "a genuine chip in an attacker's hands, with an interposer on its memory bus, passes.",
    ),
    Sentence(
        f"{_SNP}.revocation",
        "It must be known that no certificate is revoked.".format,
        "Certificates need not be checked for revocation.",
        "a key that AMD has revoked after a leak still passes.",
    ),
    Sentence("platform.devices", _devices),
    Sentence("freshness.challenge_max_age_s", "The challenge must be at most {} s old.".format),
    Sentence(
        "placement.regions",
        _accepted("regions"),
        "Any region is accepted.",
        "the model may run in any country.",
    ),
    Sentence(
        "placement.sites",
        _accepted("sites"),
        "Any site is accepted.",
        "the model may run in a building that nobody has looked at.",
    ),
    Sentence(
        "placement.tiers",
        _accepted("tiers"),
        "Any tier is accepted.",
        "the model may run with any provider in the chain.",
    ),
    Sentence(
        "runtime.owner_key",
        "The runtime must trust exactly this owner: {}.".format,
        "The runtime may trust any owner's key.",
        "a runtime set up for another owner's policies and models passes.",
    ),
    Sentence(
        "runtime.log_key",
        "The runtime must trust exactly this transparency log: {}.".format,
        "The runtime may trust any transparency log.",
        "releases may be logged where you do not look.",
    ),
    Sentence(
        "runtime.egress",
        _egress,
        "The workload's configuration may list any outbound address.",
        "every address is a way out for weights and prompts.",
    ),
    Sentence("holders_max", "At most {} runtimes hold the key at the same time.".format),
    Sentence("lease_s", "A lease lasts {} s; then the runtime attests again or wipes.".format),
    Sentence("custody", _accepted("custody of the model key during a release")),
    Sentence("approvals.threshold", _threshold),
    Sentence("approvals.approvers", _approvers),
    Sentence("conditions", _conditions),
)
