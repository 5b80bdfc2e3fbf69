"""How the attest commands show an appraisal, to people and to programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from regalia.appraisal.check import Outcome
from regalia.appraisal.claims import Hardware
from regalia.cli.attest.result import Freshness
from regalia.cli.attest.words import GENERAL, STANDING
from regalia.cli.key_files import read_signing_keys
from regalia.cli.output import Styled, say, show_facts, show_json
from regalia.cli.policy.output import finding_json
from regalia.core.clock import rfc3339
from regalia.crypto.jws import sign_compact
from regalia.host.localfs import write_new
from regalia.policy.ear_document import MEDIA_TYPE, Status
from regalia.verifier.registry import plugin_for
from regalia.wire.evidence import DeviceKind, Tee

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.appraisal.check import Step
    from regalia.appraisal.claims import Claims
    from regalia.appraisal.finding import Finding
    from regalia.cli.attest.result import Result

_COLORS = {Status.AFFIRMING: "green", Status.WARNING: "yellow"}
_SAYS = {
    Status.AFFIRMING: "AFFIRMED",
    Status.WARNING: "ACCEPTED WITH A WARNING",
    Status.CONTRAINDICATED: "REFUSED",
    Status.NONE: "REFUSED",
}
_FRESHNESS = {
    Freshness.BOUND: "bound to the challenge",
    Freshness.UNCHECKED: (
        "NOT CHECKED (--challenge any): this may be a replay of somebody else's evidence"
    ),
    Freshness.FAILED: "FAILED: the evidence was not made for this challenge",
    Freshness.NOT_REACHED: "not reached: something was refused before",
}
_IDENTITY_SHOWN = 12  # hex digits of a device's identity beside its number
_NAME_WIDTH = 8  # characters of the name before a value of a check
_VALUE_WIDTH = 64  # characters of a value in the table


def show_result(result: Result, *, explain: bool, as_json: bool) -> None:
    """Print the answer.

    Args:
        result: the answer.
        explain: say of each check why it is made.
        as_json: print for programs.
    """
    if as_json:
        show_json(result_json(result))
        return
    _show_headline(result)
    if explain:
        _show_words(result.question.found.subject)
    _show_steps(result, explain=explain)
    _show_findings(result)
    _show_warnings(result)
    _show_open(result)


def result_json(result: Result) -> dict[str, object]:
    """The answer for programs; ``ok`` only for an affirming one."""
    question = result.question
    refusal = result.found.refusal
    devices = [_device_json(result, index) for index in result.device_of_steps]
    codes = [each.code.name for each in result.found.judged.findings]
    return {
        "ok": result.exit_status == 0,
        "status": result.ear.status().value,
        "form": question.found.form,
        "tee": question.found.subject,
        "hardware": "unverified" if result.hardware is None else str(result.hardware),
        "policy": {"name": question.rules.name, "id": question.rules.policy_id},
        "fresh": result.freshness is Freshness.BOUND,
        "freshness": result.freshness.value,
        "now": rfc3339(question.now),
        "codes": codes if refusal is None else [refusal.code.name],
        "refusal": None if refusal is None else refusal.as_dict(),
        "findings": [finding_json(each) for each in result.found.judged.findings],
        "warnings": [finding_json(each) for each in result.warnings],
        "not_judged": list(result.found.judged.not_judged),
        "not_applied": list(question.rules.not_applied),
        "unbound_devices": question.unbound_devices,
        "wildcards": list(question.wildcards),
        "checks": [
            {
                "name": step.check.name,
                "title": step.check.title,
                "meaning": step.check.meaning,
                "outcome": step.outcome.value,
                "passed": step.passed,
                "code": step.code,
                "seen": step.seen,
                "wanted": step.wanted,
                "source": step.check.source.value,
                **({} if device is None else {"device": device}),
            }
            for step, device in zip(result.found.steps, devices, strict=True)
        ],
        "ear": result.ear.wire(),
    }


def write_ear(path: Path, result: Result, key: Path | None, passphrase_file: Path | None) -> None:
    """The EAR as canonical JSON, or signed as a JWT. Raises LocalError or KeyAccessError.

    Args:
        path: where to; it must not exist.
        result: whose EAR is written.
        key: signs it; None for the bare document.
        passphrase_file: of the key; None to ask for it.
    """
    if key is None:
        write_new(path, result.ear.encode())
        return
    (signer,) = read_signing_keys((key,), passphrase_file)
    write_new(path, sign_compact(result.ear.encode(), signer, typ=MEDIA_TYPE).encode("ascii"))


def _show_headline(result: Result) -> None:
    question, claims = result.question, result.found.claims
    status = result.ear.status()
    facts = [
        ("evidence", question.found.form),
        ("hardware", _hardware(result)),
        ("policy", f"{question.rules.name} ({question.rules.signature})"),
        ("time", rfc3339(question.now)),
        ("freshness", _freshness(result)),
    ]
    facts += [
        (
            "device" if len(result.found.devices) == 1 else f"device {index}",
            f"{device.kind} {device.identity.hex()}, {device.revocation}",
        )
        for index, device in enumerate(result.found.devices)
    ]
    if claims is not None:
        facts += [("measurement", claims.measurement.hex())]
        facts += [("machine", _machine(claims))]
        facts += _standing(claims)
        facts += [("revocation", str(claims.revocation))]
    show_facts(_SAYS[status], facts, color=_COLORS.get(status, "red"))


def _standing(claims: Claims) -> Iterator[tuple[str, str]]:
    """What the vendor says of the platform, and then its security versions in one line."""
    numbers = {name: value for name, value in claims.tcb.items() if isinstance(value, int)}
    for name, value in claims.tcb.items():
        if name not in numbers:
            yield _spaced(name), str(value)
    if numbers:
        yield "TCB", ", ".join(f"{_spaced(n)} {value}" for n, value in numbers.items())


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _machine(claims: Claims) -> str:
    name = claims.instance
    if not any(name):
        return "the evidence names none"
    return plugin_for(claims.tee).machine_names.show(name)


def _show_words(subject: str) -> None:
    kind = Tee(subject) if subject in set(Tee) else DeviceKind(subject)
    for text in (GENERAL, plugin_for(kind).about, STANDING):
        say()
        for line in click.wrap_text(text, width=100).split("\n"):
            say(line)


def _hardware(result: Result) -> str:
    subject = result.question.found.subject
    if result.found.claims is not None:
        subject = f"{subject}, {result.found.claims.product}"
    if result.hardware is None:
        return "unverified"
    if result.hardware is not Hardware.GENUINE:
        return f"SIMULATED {subject}: protects nothing from the host"
    return f"genuine {subject}"


def _freshness(result: Result) -> str:
    return _FRESHNESS[result.freshness]


def _device_json(result: Result, index: int | None) -> dict[str, object] | None:
    """Which device a check is about; its identity is empty unless all of it was verified."""
    if index is None:
        return None
    return {"index": index, "identity": result.identity_of(index)}


def _device_name(result: Result, index: int | None) -> str:
    if index is None:
        return ""
    identity = result.identity_of(index)
    return f" [device {index}{f', {identity[:_IDENTITY_SHOWN]}...' if identity else ''}]"


def _show_steps(result: Result, *, explain: bool) -> None:
    _show_heading("Checks of the verifier")
    both = zip(result.found.steps, result.device_of_steps, strict=True)
    for number, (step, index) in enumerate(both, start=1):
        say(_mark(step), f" {number:2}. {step.check.title}{_device_name(result, index)}")
        for name, text in _step_lines(step, explain=explain):
            say("         ", Styled(name.ljust(_NAME_WIDTH), dim=True), text)


def _show_heading(text: str, color: str | None = None) -> None:
    say()
    say(Styled(text, color, bold=True))


def _mark(step: Step) -> Styled:
    """A check that could not be made, and that the policy left open, is not shown as passed."""
    color = {Outcome.FAIL: "red", Outcome.OPEN: "yellow", Outcome.PASS: "green"}[step.outcome]
    word = "FAIL" if step.outcome is Outcome.FAIL else step.outcome.value
    return Styled(word, color)


def _step_lines(step: Step, *, explain: bool) -> Iterator[tuple[str, str]]:
    if step.seen:
        yield "seen", _short(step.seen)
    if step.wanted:
        yield "wanted", _short(step.wanted)
    if step.code:
        yield "code", step.code
    if explain or step.outcome is Outcome.FAIL:
        yield "means", step.check.meaning


def _short(text: str) -> str:
    tame = text if text.isprintable() else ascii(text)
    return tame if len(tame) <= _VALUE_WIDTH * 3 else f"{tame[: _VALUE_WIDTH * 3]}..."


def _show_findings(result: Result) -> None:
    if result.found.refusal is not None:
        _show_heading(f"Refused: {result.found.refusal.code.name}", "red")
        for line in result.found.refusal.explain().split("\n"):
            say(line)
        return
    _show_heading(f"Rules of {result.question.rules.name}")
    if not result.found.judged.findings:
        say(Styled("pass", "green"), " every rule about the platform is met")
    for finding in result.found.judged.findings:
        _show_finding(Styled("FAIL", "red"), finding)


def _show_finding(mark: Styled, finding: Finding) -> None:
    say(mark, f" {finding.code.name}: {finding.what}.")
    say(f"         {finding.code.why}")
    say(f"         To do: {finding.fix}")


def _show_warnings(result: Result) -> None:
    if not result.warnings:
        return
    _show_heading("Warnings: not all of this is known and good")
    for each in result.warnings:
        _show_finding(Styled("warn", "yellow"), each)


def _show_open(result: Result) -> None:
    if result.found.refusal is not None:
        return
    if result.found.judged.not_judged:
        say("Not judged: whose workload this is. A policy of its owner says that.")
    if result.question.rules.not_applied:
        say(
            "Not judged, since nothing is released here: "
            f"{', '.join(result.question.rules.not_applied)} of the policy."
        )
    if result.found.claims is None:
        say("No CPU commits to these devices: by themselves they say nothing of a machine.")
    wildcards = result.question.wildcards
    if wildcards and not result.question.rules.applied.built_in:
        say(f"Left open by the policy: {', '.join(wildcards)}.")
    for name, submod in result.ear.submods.items():
        said = ", ".join(
            f"{claim} {value}" for claim, value in submod.vector.claims().items() if value
        )
        say(Styled(f"Trustworthiness of {name} (AR4SI): {said}", dim=True))
