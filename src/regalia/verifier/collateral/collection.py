"""Collateral in memory, by kind: what each verifier's own collateral is made from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regalia.appraisal.pki import Certificate
from regalia.tees.intel.evidence.collateral import IntelCollateral
from regalia.tees.nitro.evidence import NitroCollateral
from regalia.tees.nvidia.evidence import NvidiaCollateral
from regalia.tees.snp.evidence.anchors import SnpCollateral
from regalia.tees.snp.evidence.wire import EndorsementKeyKind
from regalia.tees.tpm.evidence.anchors import TpmCollateral
from regalia.verifier.collateral.deny import DenyIndex
from regalia.verifier.collateral.freshness import Freshness
from regalia.verifier.collateral.intel import IntelDocument
from regalia.verifier.collateral.items import snp_leaf
from regalia.wire.collateral import CollateralKind
from regalia.wire.deny_list import DenyList

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

    from regalia.tees.intel.evidence.collateral import SignedDocument
    from regalia.verifier.collateral.freshness import Validity
    from regalia.verifier.collateral.items import Item


@dataclass(frozen=True, slots=True)
class CollateralSet:
    """Everything that an operator provides, untrusted until a verifier chains it to its anchors.

    Certificates that the operator's own deny-lists name are left out.

    Attributes:
        certificates: DER, in the order of the items; without VCEKs.
        crls: DER.
        tcb_infos, qe_identities: Intel's, signed.
        rims: reference values of devices' firmware, ``regalia/rim/v1``.
        denials: keys that must not be trusted, ``regalia/key-denials/v1``.
        tpm: authorities of TPM makers, and enrolled keys. What a root is trusted for is said by
            a file's name or by the signed bundle, never guessed.
        vceks: DER by (HWID, TCB_VERSION) of the certificate: a fleet has many.
        denied: the site's own revocations.
        validity: dates of the bundle that it came in; None for loose files.
    """

    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    tcb_infos: tuple[SignedDocument, ...] = ()
    qe_identities: tuple[SignedDocument, ...] = ()
    rims: tuple[bytes, ...] = ()
    denials: tuple[bytes, ...] = ()
    tpm: TpmCollateral = field(default_factory=TpmCollateral)
    vceks: dict[tuple[bytes, bytes], bytes] = field(default_factory=dict)
    denied: DenyIndex = field(default_factory=DenyIndex)
    validity: Validity | None = None

    def require_fresh(self, now: datetime, grace: timedelta) -> Freshness:
        """The bundle that all of it came in is in date, or late by no more than ``grace``.

        Loose files have only the dates of their own, which the verifiers look at.

        Raises:
            AttestationError: COLLATERAL_STALE.
        """
        return Freshness.CURRENT if self.validity is None else self.validity.require(now, grace)

    def with_loose(self, loose: CollateralSet) -> CollateralSet:
        """Also what somebody gave by hand; this set's dates and deny-lists stay as they are."""
        return replace(
            self,
            certificates=self.certificates + loose.certificates,
            crls=self.crls + loose.crls,
            tcb_infos=self.tcb_infos + loose.tcb_infos,
            qe_identities=self.qe_identities + loose.qe_identities,
            rims=self.rims + loose.rims,
            denials=self.denials + loose.denials,
            tpm=self.tpm.with_loose(loose.tpm),
            vceks={**loose.vceks, **self.vceks},
        )

    @property
    def intel(self) -> IntelCollateral:
        """What Intel's verifiers need of it."""
        return IntelCollateral(self.tcb_infos, self.qe_identities, self.certificates, self.crls)

    @property
    def nitro(self) -> NitroCollateral:
        """What AWS's verifier needs of it."""
        return NitroCollateral(self.crls)

    @property
    def nvidia(self) -> NvidiaCollateral:
        """What NVIDIA's verifier needs of it."""
        return NvidiaCollateral(self.rims, self.crls, self.denials)

    @property
    def snp(self) -> SnpCollateral:
        """What AMD's verifier needs of it."""
        return SnpCollateral(self.certificates, self.crls, self.vceks)


def collect(items: Iterable[Item], *, validity: Validity | None = None) -> CollateralSet:
    """Put items in their places."""
    items = tuple(items)
    denied = DenyIndex.of(i.parsed for i in items if isinstance(i.parsed, DenyList))
    pool = [item.parsed for item in items if isinstance(item.parsed, Certificate)]
    kept = [
        item
        for item in items
        if not isinstance(item.parsed, Certificate)
        or denied.reason_against(item.parsed, pool) is None
    ]

    def contents(kind: CollateralKind) -> tuple[bytes, ...]:
        return tuple(item.content for item in kept if item.kind is kind)

    def intel(kind: CollateralKind) -> tuple[SignedDocument, ...]:
        return tuple(
            i.parsed.signed for i in kept if i.kind is kind and isinstance(i.parsed, IntelDocument)
        )

    vceks = dict(_vceks(kept))
    fleet = set(vceks.values())
    certificates = tuple(c for c in contents(CollateralKind.CERTIFICATE) if c not in fleet)
    crls, enrolments = contents(CollateralKind.CRL), contents(CollateralKind.ENROLMENT)
    ek_roots, ak_roots = contents(CollateralKind.EK_ROOT), contents(CollateralKind.AK_ROOT)
    # Without TPMs nothing is of use to their verifier, and an empty one says so.
    tpms = ek_roots or ak_roots or enrolments
    return CollateralSet(
        certificates=certificates,
        crls=crls,
        tcb_infos=intel(CollateralKind.TCB_INFO),
        qe_identities=intel(CollateralKind.QE_IDENTITY),
        rims=contents(CollateralKind.RIM),
        denials=contents(CollateralKind.KEY_DENIALS),
        tpm=TpmCollateral(ek_roots, ak_roots, certificates, crls, enrolments)
        if tpms
        else TpmCollateral(),
        vceks=vceks,
        denied=denied,
        validity=validity,
    )


def _vceks(items: Iterable[Item]) -> Iterable[tuple[tuple[bytes, bytes], bytes]]:
    for item in items:
        if item.kind is not CollateralKind.CERTIFICATE or not isinstance(item.parsed, Certificate):
            continue
        found = snp_leaf(item.parsed)
        if found is not None and found[0] is EndorsementKeyKind.VCEK and found[2].hwid is not None:
            yield (found[2].hwid, found[2].tcb), item.content
