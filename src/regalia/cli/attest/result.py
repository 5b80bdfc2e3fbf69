"""One appraisal as a value: what was asked, what came of it, and the EAR that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia import __version__
from regalia.policy.ear import device_submod, refused_submod, submod, with_unbound_devices
from regalia.policy.ear_document import PROFILE, Ear, Status
from regalia.policy.platform import NOTHING_JUDGED
from regalia.policy.wildcards import platform_wildcards

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from regalia.appraisal.check import Step
    from regalia.appraisal.claims import Claims, DeviceClaims, Hardware
    from regalia.appraisal.finding import Finding
    from regalia.cli.attest.input import Rules
    from regalia.core.errors import RegaliaError
    from regalia.inspect.recognized import Recognized
    from regalia.policy.ear_document import Submod
    from regalia.policy.platform import PlatformFindings

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

    def refused(self, steps: tuple[Step, ...], error: RegaliaError) -> Result:
        """The answer when a verifier refused."""
        body = refused_submod(error.code.name, policy_ids=[self.rules.policy_id], steps=steps)
        name = self.found.subject if self.found.evidence is None else "cpu"
        return self._result(steps, {name: body}, refusal=error)

    def judged(self, steps: tuple[Step, ...], claims: Claims) -> Result:
        """The answer when the evidence of a TEE is genuine."""
        judged = self.rules.applied.judge(claims)
        body = submod(
            self.rules.applied.platform,
            claims,
            judged.findings,
            policy_ids=[self.rules.policy_id],
            steps=steps,
            wildcards=self.wildcards,
            workload_judged=not judged.not_judged,
        )
        if self.unbound_devices:
            body = with_unbound_devices(body)
        submods = {"cpu": body, **self._device_submods(claims.devices, judged)}
        return self._result(steps, submods, claims=claims, judged=judged)

    def judged_devices(self, steps: tuple[Step, ...], devices: tuple[DeviceClaims, ...]) -> Result:
        """The answer when devices are genuine that came without a CPU."""
        judged = self.rules.applied.judge_devices(devices)
        submods = self._device_submods(devices, judged, steps)
        return self._result(steps, submods, devices=devices, judged=judged)

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

    def _device_submods(
        self,
        devices: Sequence[DeviceClaims],
        judged: PlatformFindings,
        steps: tuple[Step, ...] = (),
    ) -> dict[str, Submod]:
        return {
            f"{device.kind}-{index}": device_submod(
                device, judged.findings, policy_ids=[self.rules.policy_id], steps=steps
            )
            for index, device in enumerate(devices)
        }

    def _result(
        self,
        steps: tuple[Step, ...],
        submods: Mapping[str, Submod],
        *,
        claims: Claims | None = None,
        devices: tuple[DeviceClaims, ...] = (),
        refusal: RegaliaError | None = None,
        judged: PlatformFindings = NOTHING_JUDGED,
    ) -> Result:
        beside = [name for name in submods if name != "cpu"]
        ear = Ear(
            profile=PROFILE,
            issued_at=int(self.now.timestamp()),
            nonce="" if self.challenge is None else self.challenge.hex(),
            developer=DEVELOPER,
            build=__version__,
            submods=submods,
            topology={"cpu": tuple(beside)} if "cpu" in submods and beside else {},
        )
        return Result(
            question=self,
            steps=steps,
            claims=claims,
            devices=devices if claims is None else claims.devices,
            refusal=refusal,
            findings=judged.findings,
            not_judged=judged.not_judged,
            ear=ear,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The answer.

    Attributes:
        steps: the verifier's checks, up to the one that refused.
        claims: of the CPU; None if a verifier refused or there is none.
        devices: their claims, whether there is a CPU or not.
        refusal: why a verifier refused.
        findings: rules that the claims do not meet.
        not_judged: rules that were left out on purpose, by code.
        ear: the result for programs.
    """

    question: Question
    steps: tuple[Step, ...]
    claims: Claims | None
    devices: tuple[DeviceClaims, ...]
    refusal: RegaliaError | None
    findings: tuple[Finding, ...]
    not_judged: tuple[str, ...]
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
        first = self.claims or next(iter(self.devices), None)
        return None if first is None else first.hardware
