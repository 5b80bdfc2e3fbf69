"""A TPM whose registers, keys and counters are chosen: for tests of one defect at a time.

Quotes are format-true and signed by a key that this process holds. For a TPM that nobody here
can cheat, see ``regalia_testing.tees.tpm.swtpm``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from regalia.appraisal.claims import Hardware
from regalia.appraisal.config_binding import TPM_PCR, expected_slot
from regalia.tees.boot.evidence import replay_pcrs
from regalia.tees.boot.evidence.log import Algorithm
from regalia.tees.tpm.evidence import assumed_attestation_key
from regalia.tees.tpm.evidence.credential import EK_REQUIRED
from regalia.tees.tpm.evidence.document import TpmQuote, qualifying_data
from regalia.tees.tpm.evidence.enrol_steps import EnrolmentRequest
from regalia.tees.tpm.evidence.enrolment import Enrolment
from regalia.tees.tpm.evidence.layout import HashAlg, SignatureAlg
from regalia.tees.tpm.evidence.wire import EcdsaSignature, PcrSelection, Quote, RsaSignature
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.tees.boot.eventlog import SimulatedBoot
from regalia_testing.tees.tpm.authority import HARDWARE_TPM, LeafSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from regalia.tees.tpm.evidence.public import PublicArea
    from regalia_testing.tees.tpm.authority import TpmAuthority

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
RUNTIME_CONFIG = b"the measured configuration"
RESET_COUNT = 7

_HASHES: dict[HashAlg, hashes.HashAlgorithm] = {
    HashAlg.SHA1: hashes.SHA1(),  # noqa: S303 - to show that it is refused
    HashAlg.SHA256: hashes.SHA256(),
    HashAlg.SHA384: hashes.SHA384(),
    HashAlg.SHA512: hashes.SHA512(),
}


def _boot_registers() -> dict[HashAlg, dict[int, bytes]]:
    return registers(SimulatedBoot())


def registers(
    boot: SimulatedBoot, config: bytes = RUNTIME_CONFIG
) -> dict[HashAlg, dict[int, bytes]]:
    """All registers of both banks after a boot, with the configuration in PCR 15."""
    log = boot.pcr_log()
    found: dict[HashAlg, dict[int, bytes]] = {}
    for alg in (HashAlg.SHA256, HashAlg.SHA384):
        values = replay_pcrs(log, Algorithm(alg))
        dynamic = dict.fromkeys(range(17, 23), b"\xff" * alg.size)
        found[alg] = {**values, **dynamic}
    found[HashAlg.SHA256][TPM_PCR] = expected_slot(Tee.TPM, config)
    return found


@dataclass(frozen=True, slots=True)
class TpmSimulator:
    """One TPM. ``dataclasses.replace`` changes a thing of it."""

    authority: TpmAuthority
    ek_key: PrivateKey
    ak_key: PrivateKey
    ak: PublicArea
    pcrs: Mapping[HashAlg, Mapping[int, bytes]] = field(default_factory=_boot_registers)
    boot: SimulatedBoot = field(default_factory=SimulatedBoot)
    reset_count: int = RESET_COUNT

    @classmethod
    def create(
        cls,
        authority: TpmAuthority,
        *,
        key: PrivateKey | None = None,
        alg: SignatureAlg = SignatureAlg.ECDSA,
        hash_alg: HashAlg = HashAlg.SHA256,
    ) -> TpmSimulator:
        """Fresh keys; the AK is ECDSA P-256 unless ``key`` and ``alg`` say otherwise."""
        ak_key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
        ak = assumed_attestation_key(ak_key.public_key(), alg, hash_alg)
        return cls(authority, ec.generate_private_key(ec.SECP384R1()), ak_key, ak)

    @property
    def ek_certificate(self) -> bytes:
        """DER."""
        return self.authority.leaf(LeafSpec.ek(self.ek_key.public_key()))

    @property
    def ek(self) -> PublicArea:
        """Public area of the EK."""
        public = assumed_attestation_key(
            self.ek_key.public_key(), SignatureAlg.ECDSA, HashAlg.SHA384
        )
        storage = replace(public.parameters, aes_bits=256)
        return replace(public, attributes=EK_REQUIRED, parameters=storage)

    def quote(
        self,
        data: bytes,
        *,
        bank: HashAlg = HashAlg.SHA256,
        **changes: Any,  # noqa: ANN401 - fields
    ) -> TpmQuote:
        """A quote of all registers of a bank over ``data``; ``changes`` are fields of it."""
        scheme = self.ak.parameters.scheme.hash_alg or HashAlg.SHA256
        values = self.pcrs[bank]
        quote = Quote(
            qualified_signer=self.ak.name,
            extra_data=data,
            clock=123_456,
            reset_count=self.reset_count,
            restart_count=0,
            safe=True,
            firmware_version=0x0007_0002_0000_0000,
            selection=(PcrSelection.of(bank, frozenset(values)),),
            pcr_digest=scheme.digest(b"".join(values[pcr] for pcr in sorted(values))),
        )
        quoted = replace(quote, **changes).encode()
        return TpmQuote(quoted, self.sign(quoted), self.ak.encode(), {bank: dict(values)})

    def sign(self, message: bytes) -> bytes:
        """TPMT_SIGNATURE by the AK, in its own scheme."""
        scheme = self.ak.parameters.scheme
        hash_alg = scheme.hash_alg or HashAlg.SHA256
        digest = _HASHES[hash_alg]
        if isinstance(self.ak_key, ec.EllipticCurvePrivateKey):
            size = (self.ak_key.curve.key_size + 7) // 8
            r, s = decode_dss_signature(self.ak_key.sign(message, ec.ECDSA(digest)))
            return EcdsaSignature(
                hash_alg, r.to_bytes(size, "big"), s.to_bytes(size, "big")
            ).encode()
        alg = SignatureAlg(scheme.alg)
        pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=hash_alg.size)
        chosen = padding.PKCS1v15() if alg is SignatureAlg.RSASSA else pss
        return RsaSignature(alg, hash_alg, self.ak_key.sign(message, chosen, digest)).encode()

    def evidence(self, report_data: bytes, *, config: bytes = RUNTIME_CONFIG) -> Evidence:
        """As ``regalia.tees.tpm.source`` makes it."""
        return Evidence(
            tee=Tee.TPM,
            report=self.quote(qualifying_data(report_data)).encode(),
            endorsements=(),
            runtime_config=config,
            event_log=self.boot.pcr_log().encode(),
        )

    def request(self) -> EnrolmentRequest:
        """What starts an enrolment."""
        return EnrolmentRequest(
            self.ak.encode(), self.ek.encode(), (self.ek_certificate, self.authority.issuer())
        )

    def enrolment(self, now: datetime) -> Enrolment:
        """What an enrolment ends in."""
        request = self.request()
        return Enrolment(
            ak_name=self.ak.name,
            ek_certificates=request.ek_certificates,
            ek_public=request.ek_public,
            model=HARDWARE_TPM,
            reset_count=RESET_COUNT,
            enrolled_at=now,
            hardware=Hardware.GENUINE,
        )


REPORT_DATA = hashlib.sha512(b"the expected report data").digest()
