"""What key stores are asked with: contexts of models, and records of releases."""

from __future__ import annotations

from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from regalia.core.secret import SecretBytes
from regalia.core.types import ModelId
from regalia.keys.base import Recipient
from regalia.seal.format.sealed import SealId, wrap_context
from regalia.wire.release import MINT, RECORD_FORMAT, LoggedRecord, LogProof, ReleaseRecord

MODEL = ModelId(b"m" * 32)
OTHER_MODEL = ModelId(b"x" * 32)
CONTEXT = wrap_context(MODEL, 1, SealId(b"s" * 32))
OTHER_CONTEXT = wrap_context(OTHER_MODEL, 1, SealId(b"s" * 32))
MODEL_KEY = bytes(range(32))


def secret(data: bytes = MODEL_KEY) -> SecretBytes:
    """A secret of its own, as whoever takes it closes it."""
    return SecretBytes(bytearray(data))


@cache
def runtime_key() -> rsa.RSAPrivateKey:
    """The RSA key of a runtime."""
    return rsa.generate_private_key(65537, 3072)


def recipient(tee: str = "sev-snp", report: bytes = b"") -> Recipient:
    """The runtime whose key ``runtime_key`` is."""
    spki = runtime_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Recipient(spki, tee, report)


def logged(decision: str = "release", model_id: ModelId | str = MODEL) -> LoggedRecord:
    """A record that is in the log; stores look at its decision and its model alone."""
    record = ReleaseRecord(
        format=RECORD_FORMAT,
        decision="release" if decision == "release" else "denial",
        time="2026-11-22T10:00:00Z",
        broker="b",
        model_id=str(model_id),
        model_version=1,
        policy_id="policy:" + "0" * 64,
        policy_version=1,
        hardware="simulated",
        tee="sev-snp",
        product="Genoa",
        measurement="",
        chip_id="",
        devices=[],
        revocation="",
        evidence_digest="",
        recipient="",
        control="",
        key_wrapping="none",
        custody="kms",
        lease_id="",
        lease_until="",
        wildcards=[],
        reasons=[],
    )
    proof = LogProof(record="", index=0, path=[], checkpoint="")
    return LoggedRecord(record, record.encode(), 0, proof, MINT)
