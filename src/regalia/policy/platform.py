"""Only the platform: for evidence that is looked at by itself, without a release around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from regalia.appraisal.collateral_rule import RevocationRule
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import BaselineWords
from regalia.policy.device_set import baseline_devices
from regalia.policy.documents import collateral_rule
from regalia.policy.rules import config_findings, lone_device_findings, platform_findings
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from regalia.appraisal.claims import Claims, DeviceClaims
    from regalia.appraisal.finding import Finding
    from regalia.policy.documents import Platform


@dataclass(frozen=True, slots=True)
class PlatformRules:
    """The platform rules of a policy, or of the baseline.

    Attributes:
        platform: the rules.
        built_in: the baseline, which knows nobody's workload and nobody's device set: those are
            not judged, and the result says so.
    """

    platform: Platform
    built_in: bool

    def judge(self, claims: Claims) -> PlatformFindings:
        """Rules about a release (model, placement, lease, configuration) do not apply here."""
        return self._findings(platform_findings(self._for(claims.devices), claims))

    def judge_configured(self, claims: Claims, runtime_config: bytes) -> PlatformFindings:
        """As ``judge``, and whether the hardware recorded the configuration that came along.

        Args:
            claims: verified, of the CPU.
            runtime_config: exact bytes, untrusted; empty if none came along.
        """
        found = self.judge(claims)
        if not runtime_config:
            return found
        forged = tuple(config_findings(claims, runtime_config))
        return replace(found, findings=found.findings + forged)

    def judge_devices(self, devices: Sequence[DeviceClaims]) -> PlatformFindings:
        """Devices without a CPU."""
        return self._findings(lone_device_findings(self._for(devices), devices))

    def _for(self, devices: Sequence[DeviceClaims]) -> Platform:
        if not self.built_in:
            return self.platform
        # The baseline has one word for revocation, which stands in every section that it can.
        rule = collateral_rule(self.platform, Tee.SEV_SNP)
        words = BaselineWords(
            hardware=self.platform.hardware,
            revocation="any" if rule.revocation is RevocationRule.ANY else "required",
            machines=(),
            grace_days=rule.grace.days,
        )
        entries = baseline_devices(devices, words)
        return msgspec.structs.replace(self.platform, devices=entries)

    def _findings(self, found: Iterable[Finding]) -> PlatformFindings:
        if not self.built_in:
            return PlatformFindings(tuple(found), ())
        kept = tuple(each for each in found if each.code is not PolicyCode.WORKLOAD_UNPINNED)
        return PlatformFindings(kept, (PolicyCode.WORKLOAD_UNPINNED.name,))


@dataclass(frozen=True, slots=True)
class PlatformFindings:
    """What the platform rules say. No verdict: nothing is released for it.

    Attributes:
        findings: empty if the platform meets every rule that was asked.
        not_judged: codes of rules that were left out on purpose.
    """

    findings: tuple[Finding, ...]
    not_judged: tuple[str, ...]


NOTHING_JUDGED = PlatformFindings((), ())
