"""From evidence of any TEE to claims, with the anchors and the collateral of one relying party.

    Evidence -> unbound: genuine, whatever it is bound to -> fresh: bound to this very purpose

What is particular to a TEE is in its plug-in; ``verifier.registry`` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import Cache
from regalia.core.errors import AttestationError
from regalia.verifier.collateral import (
    Freshness,
    checks,
    mark_grace,
    require_certificates_not_denied,
    require_device_not_denied,
    require_not_denied,
)
from regalia.verifier.composite import verify_composite
from regalia.verifier.registry import VENDORS, plugin_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.claims import Claims, DeviceClaims, Unbound
    from regalia.appraisal.collateral_rule import CollateralRule
    from regalia.verifier.anchors import TrustAnchors
    from regalia.verifier.collateral import CollateralSet
    from regalia.verifier.registry import Plugin
    from regalia.wire.evidence import Binding, DeviceEvidence, Evidence


@dataclass(frozen=True, slots=True)
class Verifier:
    """A relying party's verifier: the same anchors and collateral for all evidence.

    Attributes:
        anchors: pinned roots.
        collateral: what the operator provides.
        cache: authorities that were parsed and whose signatures held.

    Raises:
        ParseError: some vendor's collateral is malformed.
    """

    anchors: TrustAnchors
    collateral: CollateralSet
    cache: Cache = field(default_factory=Cache)
    _prepared: Mapping[str, Callable[[Any, Cache], Any]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        prepared = {vendor.name: vendor.prepare(self.collateral) for vendor in VENDORS}
        object.__setattr__(self, "_prepared", prepared)

    def verify(
        self,
        evidence: Evidence,
        *,
        expected: Binding,
        rule: CollateralRule,
        now: datetime,
        check_log: CheckLog = NO_LOG,
    ) -> Claims:
        """Genuine, fresh, and made for exactly this purpose, devices included?

        Args:
            evidence: raw, untrusted.
            expected: what the report data must commit to. Its ``device_evidence`` is computed
                here from the devices that came along.
            rule: what the policy demands of collateral.
            now: the moment of the appraisal, aware.
            check_log: records the checks.

        Raises:
            ParseError: evidence or collateral is malformed.
            AttestationError: it is not genuine, or not for this purpose.
            ValueError: ``now`` has no time zone (the caller's bug).
        """
        at = self.appraisal_context(rule, now, check_log)
        # Computed once for all devices; skipped if there are none.
        of_devices = (
            self.appraisal_context(rule.for_devices(), now, check_log) if evidence.devices else at
        )

        def cpu(evidence: Evidence, report_data: bytes) -> Claims:
            return self._fresh(evidence, report_data, at)

        def device(evidence: DeviceEvidence, nonce: bytes) -> DeviceClaims:
            return self._fresh_device(evidence, nonce, of_devices)

        claims = verify_composite(
            evidence, binding=expected, verify_cpu=cpu, verify_device=device, check_log=check_log
        )
        # ``_unbound`` has already applied the deny lists to the CPU's claims.
        return self._apply_deny_lists(claims, at) if claims.devices else claims

    def verify_cpu(
        self,
        evidence: Evidence,
        *,
        report_data: bytes,
        rule: CollateralRule,
        now: datetime,
        check_log: CheckLog = NO_LOG,
    ) -> Claims:
        """The CPU's evidence alone, against a given report data. Raises as ``verify``.

        Raises:
            ValueError: ``report_data`` has not 64 bytes (the caller's bug).
        """
        return self._fresh(evidence, report_data, self.appraisal_context(rule, now, check_log))

    def verify_device(
        self,
        evidence: DeviceEvidence,
        *,
        nonce: bytes,
        rule: CollateralRule,
        now: datetime,
        check_log: CheckLog = NO_LOG,
    ) -> DeviceClaims:
        """One device's evidence, against a given nonce. Raises as ``verify``.

        Of the rule only its grace counts: ``CollateralRule.for_devices`` says why.

        Raises:
            ValueError: ``nonce`` has not 32 bytes (the caller's bug).
        """
        return self._fresh_device(
            evidence, nonce, self.appraisal_context(rule.for_devices(), now, check_log)
        )

    def unbound(
        self,
        evidence: Evidence,
        *,
        rule: CollateralRule,
        now: datetime,
        check_log: CheckLog = NO_LOG,
    ) -> Unbound[Claims]:
        """The CPU's evidence alone, of unknown age: for looking at evidence.

        Devices that came along are not looked at.

        Args:
            evidence: raw, untrusted.
            rule: what is demanded of collateral.
            now: the moment of the appraisal, aware.
            check_log: records the checks.

        Raises:
            ParseError: evidence or collateral is malformed.
            AttestationError: it is not genuine.
            ValueError: ``now`` has no time zone (the caller's bug).
        """
        at = self.appraisal_context(rule, now, check_log)
        return self._unbound(plugin_for(evidence.tee), evidence, at)

    def unbound_device(
        self,
        evidence: DeviceEvidence,
        *,
        rule: CollateralRule,
        now: datetime,
        check_log: CheckLog = NO_LOG,
    ) -> Unbound[DeviceClaims]:
        """One device's evidence alone, of unknown age. Raises as ``unbound``."""
        at = self.appraisal_context(rule.for_devices(), now, check_log)
        return self._unbound_device(plugin_for(evidence.kind), evidence, at)

    def appraisal_context(
        self, rule: CollateralRule, now: datetime, check_log: CheckLog
    ) -> AppraisalContext:
        """That of one appraisal, which finds what this verifier found before.

        Args:
            rule: what is demanded of collateral.
            now: the moment of the appraisal, aware.
            check_log: records the checks.

        Raises:
            ValueError: ``now`` has no time zone (the caller's bug).
        """
        return AppraisalContext(now=now, rule=rule, cache=self.cache, check_log=check_log)

    def _fresh(self, evidence: Evidence, report_data: bytes, at: AppraisalContext) -> Claims:
        plugin = plugin_for(evidence.tee)
        nonce = plugin.expected(report_data)
        return self._unbound(plugin, evidence, at).fresh(nonce, at.check_log)

    def _fresh_device(
        self, evidence: DeviceEvidence, nonce: bytes, at: AppraisalContext
    ) -> DeviceClaims:
        plugin = plugin_for(evidence.kind)
        nonce = plugin.expected(nonce)
        return self._unbound_device(plugin, evidence, at).fresh(nonce, at.check_log)

    def _unbound(self, plugin: Plugin, evidence: Evidence, at: AppraisalContext) -> Unbound[Claims]:
        self._require_admissible(evidence, at)
        found: Unbound[Claims] = self._genuine(plugin, evidence, at)
        if not self.collateral.denied and self.collateral.validity is None:
            return found
        return found.map(lambda claims: self._apply_deny_lists(claims, at))

    def _unbound_device(
        self, plugin: Plugin, evidence: DeviceEvidence, at: AppraisalContext
    ) -> Unbound[DeviceClaims]:
        self.collateral.require_fresh(at.now, at.rule.grace)
        found: Unbound[DeviceClaims] = self._genuine(plugin, evidence, at)
        require_device_not_denied(found.dangerous_without_freshness(), self.collateral.denied)
        return found

    def _genuine(
        self, plugin: Plugin, evidence: Evidence | DeviceEvidence, at: AppraisalContext
    ) -> Unbound[Any]:
        anchors = self.anchors.by_vendor.get(plugin.vendor.name)
        if anchors is None:
            raise AttestationError(
                AttestCode.ROOT_UNTRUSTED, f"no root is pinned for {plugin.kind}"
            )
        parsed = plugin.parse(evidence, at.check_log)
        collateral = self._prepared[plugin.vendor.name](anchors, self.cache)
        return plugin.genuine(parsed, anchors=anchors, collateral=collateral, at=at)

    def _require_admissible(self, evidence: Evidence, at: AppraisalContext) -> None:
        """What comes before every vendor's checks: the bundle is in date, no certificate denied.

        Raises:
            ParseError: a certificate is malformed.
            AttestationError: COLLATERAL_STALE or DEVICE_DENIED.
        """
        given = self.collateral
        if given.validity is not None:
            at.check_log.begin(checks.BUNDLE, at.now, given.validity)
            given.require_fresh(at.now, at.rule.grace)
        if given.denied:
            at.check_log.begin(checks.CERTIFICATES)
            require_certificates_not_denied(evidence, given.denied, given.certificates)

    def _apply_deny_lists(self, claims: Claims, at: AppraisalContext) -> Claims:
        """What the site's own deny-lists and the age of its bundle add to a vendor's verdict.

        Raises:
            AttestationError: COLLATERAL_STALE or DEVICE_DENIED.
        """
        if self.collateral.denied:
            at.check_log.begin(checks.DEVICES, claims.instance)
        require_not_denied(claims, self.collateral.denied)
        late = self.collateral.require_fresh(at.now, at.rule.grace) is Freshness.GRACE
        return mark_grace(claims) if late else claims
