"""One appraisal as a value: what was asked, what came of it, and the EAR that says so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from regalia import __version__
from regalia.appraisal.check import Outcome
from regalia.appraisal.claims import FRESHNESS
from regalia.cli.attest.device_steps import device_of_steps
from regalia.policy.documents import wildcards_for
from regalia.policy.ear import device_submod, refused_submod, submod
from regalia.policy.ear_document import PROFILE, Ear, Status
from regalia.policy.warnings import (
    cpu_warnings,
    device_warnings,
    open_checks,
    unbound_devices,
    unchecked_freshness,
)
from regalia.verifier.registry import PLUGINS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from regalia.appraisal.claims import Hardware
    from regalia.appraisal.finding import Finding
    from regalia.appraise.recorded import FileAppraisal
    from regalia.cli.attest.input import Rules
    from regalia.inspect.recognized import Recognized
    from regalia.policy.ear_document import Submod

DEVELOPER = "regalia"
EXIT_AFFIRMED, EXIT_REFUSED, EXIT_WARNED = 0, 5, 11
_NONCE_CHECKS = frozenset({FRESHNESS, *(plugin.nonce.check for plugin in PLUGINS)})


class Freshness(StrEnum):
    """What became of the comparison with the challenge."""

    BOUND = "bound"
    UNCHECKED = "unchecked"  # the word any
    FAILED = "failed"
    NOT_REACHED = "not_reached"  # something else was refused before


@dataclass(frozen=True, slots=True)
class Warnings:
    """What accepted evidence leaves to be desired beside what its own claims say.

    Attributes:
        cpu: of the exchange, for the CPU.
        devices: likewise, for each device in the order of the evidence.
    """

    cpu: tuple[Finding, ...]
    devices: tuple[tuple[Finding, ...], ...]

    def listed(self, found: FileAppraisal) -> tuple[Finding, ...]:
        """All warnings, those about the claims included, each once."""
        every: list[Finding] = []
        if found.claims is not None:
            every += [*cpu_warnings(found.claims), *self.cpu]
        for device, more in zip(found.devices, self.devices, strict=True):
            every += [*device_warnings(device), *more]
        return tuple(dict.fromkeys(every))


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was asked.

    Attributes:
        found: the evidence.
        rules: what it is held against.
        challenge: what it must be bound to; None if that was left open.
        now: the moment of the appraisal.
    """

    found: Recognized
    rules: Rules
    challenge: bytes | None
    now: datetime

    def answered(self, found: FileAppraisal) -> Result:
        """The answer, of which the EAR is a part."""
        warnings = self._warnings(found)
        cpu = self._cpu_submod(found, warnings.cpu)
        submods = {} if cpu is None else {"cpu" if self.found.evidence else self.found.subject: cpu}
        if found.refusal is None:
            submods |= self._device_submods(found, warnings)
        listed = warnings.listed(found)
        return Result(question=self, found=found, ear=self._ear(submods), warnings=listed)

    def _warnings(self, found: FileAppraisal) -> Warnings:
        """Those of the exchange: freshness, and which devices there are."""
        if found.refusal is not None:
            return Warnings((), ())
        devices = [self._age(str(device.kind)) for device in found.devices]
        if found.claims is None:
            # Without a CPU the checks stand in the devices' own parts.
            return self._with_open_checks(found, Warnings((), tuple(devices)))
        cpu = self._age(str(found.claims.tee))
        if self.unbound_devices:
            cpu = (*cpu, unbound_devices(self.unbound_devices))
        return self._with_open_checks(found, Warnings(cpu, tuple(devices)))

    def _age(self, name: str) -> tuple[Finding, ...]:
        return () if self.challenge is not None else (unchecked_freshness(name),)

    @staticmethod
    def _with_open_checks(found: FileAppraisal, made: Warnings) -> Warnings:
        """No check that was left open goes without a warning."""
        more = tuple(open_checks(found.steps, made.listed(found)))
        if found.claims is not None:
            return replace(made, cpu=(*made.cpu, *more))
        return replace(made, devices=tuple((*each, *more) for each in made.devices))

    def _cpu_submod(self, found: FileAppraisal, warnings: Sequence[Finding]) -> Submod | None:
        """Describe the CPU, or else what the verifier refused."""
        policy_ids = [self.rules.policy_id]
        if found.refusal is not None:
            return refused_submod(found.refusal.code.name, policy_ids=policy_ids, steps=found.steps)
        if found.claims is None:
            return None
        return submod(
            self.rules.applied.platform,
            found.claims,
            found.judged.findings,
            warnings=warnings,
            policy_ids=policy_ids,
            steps=found.steps,
            wildcards=self.wildcards,
            workload_judged=not found.judged.not_judged,
        )

    @property
    def wildcards(self) -> tuple[str, ...]:
        """Rules about this kind of attester that were left open."""
        evidence = self.found.evidence
        tee = None if evidence is None else evidence.tee
        return wildcards_for(self.rules.applied.platform, tee)

    @property
    def unbound_devices(self) -> int:
        """Devices beside a CPU of which nothing shows that they are its own.

        What a CPU must commit to is known from a runtime's whole answer and its challenge alone.
        """
        found = self.found
        if found.evidence is None or (found.serving is not None and self.challenge is not None):
            return 0
        return len(found.evidence.devices)

    def _device_submods(self, found: FileAppraisal, warnings: Warnings) -> dict[str, Submod]:
        """Describe the devices. If there is a CPU, its part already lists all steps."""
        steps = found.steps if found.claims is None else ()
        return {
            f"{device.kind}-{index}": device_submod(
                device,
                found.judged.findings,
                warnings=more,
                policy_ids=[self.rules.policy_id],
                steps=steps,
            )
            for index, (device, more) in enumerate(
                zip(found.devices, warnings.devices, strict=True)
            )
        }

    def _ear(self, submods: Mapping[str, Submod]) -> Ear:
        beside = [name for name in submods if name != "cpu"]
        return Ear(
            profile=PROFILE,
            issued_at=int(self.now.timestamp()),
            nonce="" if self.challenge is None else self.challenge.hex(),
            developer=DEVELOPER,
            build=__version__,
            submods=submods,
            topology={"cpu": tuple(beside)} if "cpu" in submods and beside else {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The answer.

    Attributes:
        found: what verifier and policy said.
        ear: the result for programs.
        warnings: what accepted evidence leaves to be desired.
    """

    question: Question
    found: FileAppraisal
    ear: Ear
    warnings: tuple[Finding, ...]

    @property
    def exit_status(self) -> int:
        """0 only for an affirming result."""
        status = self.ear.status()
        if status is Status.AFFIRMING:
            return EXIT_AFFIRMED
        return EXIT_WARNED if status is Status.WARNING else EXIT_REFUSED

    @property
    def freshness(self) -> Freshness:
        """What became of the comparison with the challenge, in full."""
        if self.question.challenge is None:
            return Freshness.UNCHECKED
        if self.found.refusal is None:
            return Freshness.BOUND
        failed = any(
            step.outcome is Outcome.FAIL and step.check in _NONCE_CHECKS
            for step in self.found.steps
        )
        return Freshness.FAILED if failed else Freshness.NOT_REACHED

    @property
    def device_of_steps(self) -> tuple[int | None, ...]:
        """For each check the device that it is about, if there are several."""
        evidence = self.question.found.evidence
        devices = self.question.found.devices if evidence is None else evidence.devices
        return device_of_steps(self.found.steps, len(devices))

    def identity_of(self, index: int) -> str:
        """A device's identity in hex; empty if something was refused before it was known.

        Args:
            index: of the device in the evidence.
        """
        devices = self.found.devices
        return devices[index].identity.hex() if index < len(devices) else ""

    @property
    def hardware(self) -> Hardware | None:
        """None if nothing was verified."""
        first = self.found.claims or next(iter(self.found.devices), None)
        return None if first is None else first.hardware
