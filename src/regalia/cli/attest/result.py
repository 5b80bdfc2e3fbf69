"""One appraisal as a value: what was asked, what came of it, and the EAR that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia import __version__
from regalia.policy.documents import platform_wildcards
from regalia.policy.ear import device_submod, refused_submod, submod, with_unbound_devices
from regalia.policy.ear_document import PROFILE, Ear, Status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from regalia.appraisal.claims import Hardware
    from regalia.appraise.recorded import FileAppraisal
    from regalia.cli.attest.input import Rules
    from regalia.inspect.recognized import Recognized
    from regalia.policy.ear_document import Submod

DEVELOPER = "regalia"
EXIT_AFFIRMED, EXIT_REFUSED, EXIT_WARNED = 0, 5, 11


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
        cpu = self._cpu_submod(found)
        submods = {} if cpu is None else {"cpu" if self.found.evidence else self.found.subject: cpu}
        if found.refusal is None:
            submods |= self._device_submods(found)
        return Result(question=self, found=found, ear=self._ear(submods))

    def _cpu_submod(self, found: FileAppraisal) -> Submod | None:
        """Describe the CPU, or else what the verifier refused."""
        policy_ids = [self.rules.policy_id]
        if found.refusal is not None:
            return refused_submod(found.refusal.code.name, policy_ids=policy_ids, steps=found.steps)
        if found.claims is None:
            return None
        body = submod(
            self.rules.applied.platform,
            found.claims,
            found.judged.findings,
            policy_ids=policy_ids,
            steps=found.steps,
            wildcards=self.wildcards,
            workload_judged=not found.judged.not_judged,
        )
        return with_unbound_devices(body) if self.unbound_devices else body

    @property
    def wildcards(self) -> tuple[str, ...]:
        """Rules that were left open."""
        return platform_wildcards(self.rules.applied.platform)

    @property
    def unbound_devices(self) -> int:
        """Devices beside a CPU of which nothing shows that they are its own.

        What a CPU must commit to is known from a runtime's whole answer and its challenge alone.
        """
        found = self.found
        if found.evidence is None or (found.serving is not None and self.challenge is not None):
            return 0
        return len(found.evidence.devices)

    def _device_submods(self, found: FileAppraisal) -> dict[str, Submod]:
        """Describe the devices. If there is a CPU, its part already lists all steps."""
        steps = found.steps if found.claims is None else ()
        return {
            f"{device.kind}-{index}": device_submod(
                device, found.judged.findings, policy_ids=[self.rules.policy_id], steps=steps
            )
            for index, device in enumerate(found.devices)
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
    """

    question: Question
    found: FileAppraisal
    ear: Ear

    @property
    def exit_status(self) -> int:
        """0 only for an affirming result."""
        status = self.ear.status()
        if status is Status.AFFIRMING:
            return EXIT_AFFIRMED
        return EXIT_WARNED if status is Status.WARNING else EXIT_REFUSED

    @property
    def hardware(self) -> Hardware | None:
        """None if nothing was verified."""
        first = self.found.claims or next(iter(self.found.devices), None)
        return None if first is None else first.hardware
