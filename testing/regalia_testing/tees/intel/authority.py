"""A throw-away Intel: root, PCK CAs, TCB signing, PCK certificates and revocation lists."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from regalia.tees.intel.evidence.anchors import ROOT_NAME
from regalia.tees.intel.evidence.chain import PCK_CA_NAMES, PCK_NAME, TCB_SIGNING_NAME
from regalia.tees.intel.evidence.pck import OID_SGX
from regalia_testing.certificates import AUTHORITY_USAGE, BACKDATED, CertificatePlan, CrlPlan
from regalia_testing.der import BOOLEAN, OCTET_STRING, SEQUENCE, integer, oid, tlv
from regalia_testing.folder import new_ec_keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from regalia.tees.intel.evidence.pck import PckFacts

ROOT_YEARS = timedelta(days=25 * 365)
LEAF_YEARS = timedelta(days=7 * 365)
CRL_YEAR = timedelta(days=365)
_ENUMERATED = 0x0A
_SERIALS = {"root": 1, "platform_ca": 2, "processor_ca": 3, "tcb_signing": 4, "pck": 0x100}


@dataclass(frozen=True, slots=True, repr=False)
class IntelKeys:
    """Private keys of a simulated Intel and of one platform; all P-256."""

    root: ec.EllipticCurvePrivateKey
    platform_ca: ec.EllipticCurvePrivateKey
    processor_ca: ec.EllipticCurvePrivateKey
    tcb_signing: ec.EllipticCurvePrivateKey
    pck: ec.EllipticCurvePrivateKey
    attestation: ec.EllipticCurvePrivateKey  # the quoting enclave's

    @classmethod
    def generate(cls) -> IntelKeys:
        """Fresh keys."""
        return new_ec_keys(cls, ec.SECP256R1())


@dataclass(frozen=True, slots=True)
class IntelAuthority:
    """What the simulated Intel issues. All DER."""

    keys: IntelKeys
    since: datetime

    def root(self) -> bytes:
        """The self-signed root."""
        return self._authority(ROOT_NAME, "root", 1)

    def pck_ca(self, *, processor: bool = False) -> bytes:
        """The PCK Platform or Processor CA."""
        name = "processor_ca" if processor else "platform_ca"
        return self._authority(PCK_CA_NAMES[processor], name, 0)

    def tcb_signing(self) -> bytes:
        """What TCB infos and identities are signed with."""
        plan = self._plan(TCB_SIGNING_NAME, "tcb_signing", ROOT_NAME, "root")
        return plan.sign(self.keys.root)

    def pck(self, facts: PckFacts, *, processor: bool = False, expired: bool = False) -> bytes:
        """The platform's certificate."""
        issuer = "processor_ca" if processor else "platform_ca"
        plan = self._plan(PCK_NAME, "pck", PCK_CA_NAMES[processor], issuer)
        value = x509.UnrecognizedExtension(x509.ObjectIdentifier(OID_SGX), sgx_extension(facts))
        plan = replace(plan, extensions=(*plan.extensions, (value, False)))
        if expired:
            plan = replace(plan, not_after=plan.not_before + timedelta(seconds=1))
        return plan.sign(self._key(issuer))

    def root_crl(self, revoked: Sequence[str] = (), **dates: datetime) -> bytes:
        """The root's list; ``revoked`` names certificates as this class's methods do."""
        return self._crl(ROOT_NAME, self.keys.root, revoked, **dates)

    def pck_crl(
        self, revoked: Sequence[str] = (), *, processor: bool = False, **dates: datetime
    ) -> bytes:
        """A PCK CA's list."""
        key = self._key("processor_ca" if processor else "platform_ca")
        return self._crl(PCK_CA_NAMES[processor], key, revoked, **dates)

    def _key(self, name: str) -> ec.EllipticCurvePrivateKey:
        key: ec.EllipticCurvePrivateKey = getattr(self.keys, name)
        return key

    def _plan(self, subject: str, name: str, issuer: str, issuer_key: str) -> CertificatePlan:
        """A certificate that is no authority's, of the key called ``name``."""
        key, since = self._key(name).public_key(), self.since - BACKDATED
        return CertificatePlan(
            subject=subject,
            issuer=issuer,
            serial=_SERIALS[name],
            key=key,
            not_before=since,
            not_after=since + LEAF_YEARS,
            ca=False,
            usage=("digital_signature", "content_commitment"),
            extensions=(
                (x509.SubjectKeyIdentifier.from_public_key(key), False),
                (_key_identifier(self._key(issuer_key)), False),
            ),
            digest=hashes.SHA256(),
        )

    def _authority(self, subject: str, name: str, path_length: int) -> bytes:
        plan = self._plan(subject, name, ROOT_NAME, "root")
        return replace(
            plan,
            not_after=plan.not_before + ROOT_YEARS,
            ca=True,
            path_length=path_length,
            usage=AUTHORITY_USAGE,
        ).sign(self.keys.root)

    def _crl(
        self,
        issuer: str,
        key: ec.EllipticCurvePrivateKey,
        revoked: Sequence[str],
        *,
        this_update: datetime | None = None,
        next_update: datetime | None = None,
    ) -> bytes:
        return CrlPlan(
            issuer=issuer,
            this_update=this_update or self.since - BACKDATED,
            next_update=next_update or self.since + CRL_YEAR,
            serials=[_SERIALS[name] for name in revoked],
            extensions=(x509.CRLNumber(1), _key_identifier(key)),
            digest=hashes.SHA256(),
        ).sign(key)


def sgx_extension(facts: PckFacts) -> bytes:
    """The octets of Intel's extension, inverse of ``regalia.tees.intel.evidence.pck.read_pck``."""
    tcb = [_pair(f"2.{n}", integer(svn)) for n, svn in enumerate(facts.svns, start=1)]
    tcb += [_pair("2.17", integer(facts.pce_svn)), _pair("2.18", tlv(OCTET_STRING, facts.cpu_svn))]
    parts = [
        _pair("1", tlv(OCTET_STRING, facts.ppid)),
        _pair("2", tlv(SEQUENCE, *tcb)),
        _pair("3", tlv(OCTET_STRING, facts.pce_id)),
        _pair("4", tlv(OCTET_STRING, facts.fmspc)),
        _pair("5", tlv(_ENUMERATED, bytes((facts.sgx_type,)))),
    ]
    if facts.platform_instance_id is not None:
        parts.append(_pair("6", tlv(OCTET_STRING, facts.platform_instance_id)))
    flags = (facts.dynamic_platform, facts.cached_keys, facts.smt)
    configuration = [
        _pair(f"7.{n}", tlv(BOOLEAN, b"\xff" if flag else b"\x00"))
        for n, flag in enumerate(flags, start=1)
        if flag is not None
    ]
    if configuration:
        parts.append(_pair("7", tlv(SEQUENCE, *configuration)))
    return tlv(SEQUENCE, *parts)


def _pair(arc: str, value: bytes) -> bytes:
    return tlv(SEQUENCE, oid(f"{OID_SGX}.{arc}"), value)


def _key_identifier(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
