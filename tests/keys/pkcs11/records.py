"""Records and recipients of releases, for stores that are asked without a broker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from regalia.core.types import ModelId
from regalia.keys.base import Recipient
from regalia.seal.format.sealed import SealId, wrap_context
from regalia.wire.release import MINT, RECORD_FORMAT, LoggedRecord, LogProof, ReleaseRecord

MODEL = ModelId(b"m" * 32)
OTHER_MODEL = ModelId(b"x" * 32)
CONTEXT = wrap_context(MODEL, 1, SealId(b"s" * 32))
KEY = bytes(range(100, 132))


@dataclass(frozen=True)
class Runtime:
    """A runtime's RSA key."""

    private: rsa.RSAPrivateKey

    @property
    def spki(self) -> bytes:
        public = self.private.public_key()
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def recipient(self) -> Recipient:
        return Recipient(self.spki, "sev-snp", b"")


@cache
def runtime(bits: int = 3072) -> Runtime:
    """A runtime; the same one each time, because its key takes a while to make."""
    return Runtime(rsa.generate_private_key(65537, bits))


def logged(decision: str = "release", model_id: str = str(MODEL)) -> LoggedRecord:
    record = ReleaseRecord(
        format=RECORD_FORMAT,
        decision="release" if decision == "release" else "denial",
        time="2026-11-22T10:00:00Z",
        broker="b",
        model_id=model_id,
        model_version=1,
        policy_id="policy:" + "0" * 64,
        policy_version=1,
        hardware="simulated",
        tee="sev-snp",
        product="Genoa",
        measurement="",
        chip_id="",
        revocation="",
        devices=[],
        evidence_digest="",
        recipient="",
        custody="hsm",
        control="",
        key_wrapping="rsa-oaep-sha1",
        lease_id="",
        lease_until="",
        wildcards=[],
        reasons=[],
    )
    proof = LogProof(record="", index=0, path=[], checkpoint="")
    return LoggedRecord(record, record.encode(), 0, proof, MINT)
