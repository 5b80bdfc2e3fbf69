"""What the vectors of messages are made of: keys, ids, evidence, and a value for each member.

Used by ``make_message_vectors.py`` and by the modules that it is divided into. The hardware's
reports are bytes without meaning, because appraisal has vectors of its own.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from vector_files import fixed, signing_key

from regalia.core.codec import b64, canonical_json
from regalia.core.types import ModelId, PolicyId
from regalia.tlog.note import Checkpoint, sign_checkpoint
from regalia.wire.evidence import DeviceEvidence, DeviceKind, Evidence, Tee
from regalia.wire.release import LogProof, Reason
from regalia.wire.runtime_config import FORMAT as CONFIG_FORMAT
from regalia.wire.runtime_config import Placement, RuntimeConfig

if TYPE_CHECKING:
    import msgspec

MODEL_ID = ModelId(fixed("model"))
POLICY_ID = PolicyId(fixed("policy"))
ORIGIN = "log.example/regalia-vectors"
LEASE_ID = "lease:000102030405060708090a0b0c0d0e0f"
CHALLENGE = fixed("challenge")
HPKE_KEY = fixed("HPKE public key", 1216)
# An odd number of 3,072 bits in the form of a public key; nobody has its private half.
WRAP_KEY = (
    RSAPublicNumbers(65537, int.from_bytes(b"\xc0" + fixed("wrap public key", 383)) | 1)
    .public_key()
    .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
)
CONFIG = RuntimeConfig(
    format=CONFIG_FORMAT,
    model_id=str(MODEL_ID),
    owner_key=str(signing_key("owner").verify_key.fingerprint),
    log_key="log.example/regalia-vectors+ae841854+AaUi9VX3AhINmEz37Z5TDQGdgpNgWDCDrGqn1gPnT6n+",
    placement=Placement(region="eu-west", site="hall 1", tier="own"),
    egress=["store.example:443"],
)
GPU = DeviceEvidence(DeviceKind.NVIDIA_GPU, fixed("GPU report", 40), (b"leaf", b"issuer"))
SWITCH = DeviceEvidence(DeviceKind.NVIDIA_SWITCH, fixed("switch report", 40), ())
PROOF = LogProof(
    record=b64(b"{}"),
    index=41,
    path=[b64(fixed("sibling"))],
    checkpoint=sign_checkpoint(Checkpoint(ORIGIN, 42, fixed("root")), signing_key("log")),
)
CPU = Evidence(Tee.SEV_SNP, fixed("report", 64), (), CONFIG.encode())
MACHINE = Evidence(
    Tee.TDX,
    fixed("quote", 64),
    (b"leaf", b"issuer", b"root"),
    CONFIG.encode(),
    event_log=fixed("event log", 20),
    devices=(GPU, SWITCH),
)
# Named here, so that another TEE leaves these files as they are.
TEES = (
    Tee.SEV_SNP,
    Tee.TDX,
    Tee.SGX,
    Tee.NITRO,
    Tee.TPM,
    Tee.AZURE_SNP,
    Tee.AZURE_TDX,
)
# By the name of a message's member; what is the same in two messages stands here once.
VALUES: dict[str, Any] = {
    "challenge": b64(CHALLENGE),
    "audience": ORIGIN,
    "expires_in_s": 60,
    "model_id": str(MODEL_ID),
    "model_version": 3,
    "policy_id": str(POLICY_ID),
    "hpke_public_key": b64(HPKE_KEY),
    "wrap_public_key": b64(WRAP_KEY),
    "evidence": b64(CPU.encode()),
    "lease_id": None,
    "encapsulated_key": b64(fixed("encapsulated key", 1120)),
    "wrapped_key": b64(fixed("wrapped key", 48)),
    "custody": "broker",
    "key_wrapping": "none",
    "lease_s": 900,
    "token": b64(fixed("return token")),
    "log": PROOF,
    "code": "DEBUG_ENABLED",
    "what": "guest policy 0xb0000",
    "why": "why it matters",
    "fix": "what to do",
    "reasons": [
        Reason(code="DEBUG_ENABLED", what="guest policy 0xb0000"),
        Reason(code="VMPL_MISMATCH", what="VMPL 1"),
    ],
}


def message(kind: type[msgspec.Struct], **other: Any) -> str:  # noqa: ANN401 - any member
    """One message as it is sent.

    Args:
        kind: its type.
        other: members in place of those of ``VALUES``.
    """
    values = VALUES | other
    made = kind(**{name: values[name] for name in kind.__struct_fields__})
    return canonical_json(made).decode()


def changed(text: str, **members: Any) -> str:  # noqa: ANN401 - any member
    """The same document with other members; ``...`` removes one.

    Args:
        text: canonical JSON of an object.
        members: by name.
    """
    document = json.loads(text) | members
    return canonical_json({k: v for k, v in document.items() if v is not ...}).decode()
