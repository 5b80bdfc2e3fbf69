"""Evidence from a file, for people who look at it. Nothing is released for what is found here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from regalia.appraisal.check_log import NO_LOG, CheckLog
from regalia.appraisal.claims import FRESHNESS
from regalia.core.errors import AttestationError, ParseError
from regalia.policy.documents import collateral_rule
from regalia.policy.platform import NOTHING_JUDGED
from regalia.tees.tpm.evidence import TpmCode
from regalia.tees.tpm.evidence.checks import AK_BOUND
from regalia.verifier.composite import CPU, DISTINCT, join_unbound, require_distinct
from regalia.wire.evidence import Binding, Tee
from regalia.wire.evidence_codes import EvidenceCode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from regalia.appraisal.check import Step
    from regalia.appraisal.claims import Claims, DeviceClaims, Unbound
    from regalia.appraisal.collateral_rule import CollateralRule
    from regalia.core.errors import RegaliaError
    from regalia.inspect.recognized import Recognized
    from regalia.policy.platform import PlatformFindings, PlatformRules
    from regalia.verifier.verifier import Verifier
    from regalia.wire.evidence import DeviceEvidence, Evidence

C = TypeVar("C")

# What a file must be bound to: all of it, or a bare nonce, or None where a replay is accepted.
Expected = Binding | bytes | None

_REFUSALS = frozenset({EvidenceCode.TRAILING_DATA, EvidenceCode.RESERVED_BIT_SET})


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAppraisal:
    """What came of one file.

    Attributes:
        steps: the verifier's checks, up to the one that refused.
        claims: of the CPU; None if a verifier refused or there is none.
        devices: their claims, whether there is a CPU or not.
        refusal: why a verifier refused.
        judged: what the platform's rules say.
    """

    steps: tuple[Step, ...]
    claims: Claims | None = None
    devices: tuple[DeviceClaims, ...] = ()
    refusal: RegaliaError | None = None
    judged: PlatformFindings = NOTHING_JUDGED


def appraise_file(
    found: Recognized,
    rules: PlatformRules,
    verifier: Verifier,
    *,
    expected: Expected,
    now: datetime,
) -> FileAppraisal:
    """Verify a file of evidence and hold it against the rules about platforms.

    Args:
        found: raw, untrusted.
        rules: of a policy, or the baseline.
        verifier: whose anchors and collateral are used.
        expected: what the evidence must be bound to.
        now: the moment of the appraisal, aware.

    Raises:
        ParseError: it is not readable as evidence.
    """
    check_log = CheckLog()
    try:
        return _appraise(found, rules, verifier, expected, now, check_log)
    except AttestationError as error:
        return FileAppraisal(steps=check_log.failed(error), refusal=error)
    except ParseError as error:
        # Well-formed evidence that itself reports a failure is a refusal, not a parse error.
        if error.code not in _REFUSALS:
            raise
        return FileAppraisal(steps=check_log.failed(error), refusal=error)


def _appraise(  # noqa: PLR0913, PLR0917 - as its caller
    found: Recognized,
    rules: PlatformRules,
    verifier: Verifier,
    expected: Expected,
    now: datetime,
    check_log: CheckLog,
) -> FileAppraisal:
    found.require_whole()
    tee = Tee.SEV_SNP if found.evidence is None else found.evidence.tee
    recorded = RecordedVerifier(verifier, collateral_rule(rules.platform, tee), now, check_log)
    require_bound_key(found, check_log)
    if found.evidence is not None:
        claims = recorded.claims(found.evidence, expected)
        return FileAppraisal(
            steps=check_log.steps(),
            claims=claims,
            devices=claims.devices,
            judged=rules.judge_configured(claims, found.evidence.runtime_config),
        )
    devices = recorded.devices(found.devices, expected)
    check_log.begin(DISTINCT, f"{len({each.identity for each in devices})} different devices")
    require_distinct(devices)
    return FileAppraisal(
        steps=check_log.steps(), devices=devices, judged=rules.judge_devices(devices)
    )


def require_bound_key(found: Recognized, check_log: CheckLog = NO_LOG) -> None:
    """The file holds more than a quote beside a bare key. Raises AttestationError AK_UNBOUND.

    Args:
        found: the file, recognized and untrusted.
        check_log: records the check.
    """
    if found.bare_quote is None:
        return
    check_log.begin(AK_BOUND, "a bare public key", "an enrolment, a certificate, or a TEE report")
    raise AttestationError(
        TpmCode.AK_UNBOUND, "the quote comes with a bare public key, which could be anybody's"
    )


@dataclass(frozen=True, slots=True)
class RecordedVerifier:
    """A verifier of recorded evidence, at one moment and under one rule.

    Attributes:
        verifier: whose anchors and collateral are used.
        rule: how fresh collateral must be.
        now: the moment of the appraisal, aware.
        check_log: records the checks.
    """

    verifier: Verifier
    rule: CollateralRule
    now: datetime
    check_log: CheckLog = NO_LOG

    def claims(self, evidence: Evidence, expected: Expected) -> Claims:
        """Claims of a CPU or TPM, those of its devices included.

        Unless a whole binding is expected, devices are joined without proof that they are this
        CPU's: what their nonce must be is not known.

        Args:
            evidence: raw, untrusted.
            expected: what it must be bound to.

        Raises:
            ParseError, AttestationError: it is malformed, not genuine, or not bound so.
        """
        if isinstance(expected, Binding):
            return self.verifier.verify(
                evidence,
                expected=expected,
                rule=self.rule,
                now=self.now,
                check_log=self.check_log,
            )
        unbound = self.verifier.unbound(
            evidence, rule=self.rule, now=self.now, check_log=self.check_log
        )
        claims = self._fresh(unbound, expected)
        if not evidence.devices:
            return claims
        self.check_log.begin(CPU)
        self.check_log.leave_open(f"{len(evidence.devices)} devices", "a runtime's whole answer")
        devices = tuple(
            self._device(each).dangerous_without_freshness() for each in evidence.devices
        )
        return join_unbound(claims, devices, self.check_log)

    def devices(
        self, devices: Sequence[DeviceEvidence], expected: Expected
    ) -> tuple[DeviceClaims, ...]:
        """Claims of devices without a CPU. Raises as ``claims``."""
        return tuple(self._fresh(self._device(each), expected) for each in devices)

    def _device(self, device: DeviceEvidence) -> Unbound[DeviceClaims]:
        return self.verifier.unbound_device(
            device, rule=self.rule, now=self.now, check_log=self.check_log
        )

    def _fresh(self, found: Unbound[C], expected: Expected) -> C:
        if expected is None:
            self.check_log.begin(FRESHNESS)
            self.check_log.leave_open(found.bound_to or "nothing", "any")
            return found.dangerous_without_freshness()
        if isinstance(expected, Binding):
            raise TypeError("a binding is for a CPU's evidence as a whole")
        return found.fresh(expected, self.check_log, check=FRESHNESS)
