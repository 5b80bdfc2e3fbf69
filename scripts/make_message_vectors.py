"""Write the vectors of what travels in a release, and to a client.

Usage: ``python scripts/make_message_vectors.py [--check]``.

Specs: docs/spec/release-exchange.md, docs/spec/sealed-channel.md, section 3. Every message is what
the product encodes: a member that is added later needs a value in ``VALUES`` and a second run. The
hardware's reports are bytes without meaning, because appraisal has vectors of its own.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from vector_files import VECTORS, as_json, fixed, signing_key, write_or_compare

from regalia.appraisal.config_binding import expected_slot
from regalia.broker.leases import holder_of
from regalia.core.codec import b64, canonical_json
from regalia.core.types import KeyFingerprint, ModelId, PolicyId
from regalia.crypto.dsse import Envelope, sign
from regalia.tlog.note import Checkpoint, sign_checkpoint
from regalia.wire import approval
from regalia.wire.approval import Approval
from regalia.wire.evidence import (
    DeviceEvidence,
    DeviceKind,
    Evidence,
    Role,
    Tee,
    device_nonce,
    devices_digest,
)
from regalia.wire.release import (
    ChallengeRequest,
    ChallengeResponse,
    LeaseReturn,
    LeaseReturned,
    LogProof,
    Reason,
    Refusal,
    ReleaseRequest,
    ReleaseResponse,
)
from regalia.wire.runtime_config import FORMAT as CONFIG_FORMAT
from regalia.wire.runtime_config import Placement, RuntimeConfig
from regalia.wire.serving import ServingEvidence, encode_challenge

if TYPE_CHECKING:
    import msgspec

    from regalia.appraisal.claims import Claims

FOLDER = VECTORS / "messages"
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


def exchange() -> dict[str, Any]:
    """The messages of one release, and what is refused of each."""
    request = message(ReleaseRequest)
    return {
        "challenge_request": message(ChallengeRequest),
        "challenge_response": message(ChallengeResponse),
        "release_request": request,
        "release_request_to_renew": message(ReleaseRequest, lease_id=LEASE_ID),
        "release_response": message(ReleaseResponse, lease_id=LEASE_ID),
        "lease_return": message(LeaseReturn, lease_id=LEASE_ID),
        "lease_returned": message(LeaseReturned, lease_id=LEASE_ID),
        "denial": message(Refusal),
        "refusal_without_record": message(Refusal, code="TOO_LARGE", reasons=[], log=None),
        "refused_challenge_requests": {
            "member_unknown": changed(message(ChallengeRequest), extra=1),
            "model_id_no_text_form": changed(message(ChallengeRequest), model_id="llama"),
            "white_space": message(ChallengeRequest) + " ",
        },
        "refused_lease_returns": {
            "lease_upper_case": changed(message(LeaseReturn), lease_id="lease:" + "A" * 32),
            "member_unknown": changed(message(LeaseReturn, lease_id=LEASE_ID), extra=1),
            "token_short": changed(
                message(LeaseReturn, lease_id=LEASE_ID), token=b64(fixed("return token", 31))
            ),
        },
        # By the code of the denial; the first three are refused before the challenge is spent.
        "refused_release_requests": {
            "challenge_short": ["MALFORMED", changed(request, challenge=b64(bytes(31)))],
            "member_missing": ["MALFORMED", changed(request, lease_id=...)],
            "member_unknown": ["MALFORMED", changed(request, extra=1)],
            "version_zero": ["MALFORMED", changed(request, model_version=0)],
            "version_too_high": ["MALFORMED", changed(request, model_version=2**53)],
            "hpke_key_short": ["MALFORMED", changed(request, hpke_public_key=b64(bytes(1215)))],
            "hpke_key_out_of_range": [
                "HPKE_KEY_MALFORMED",
                changed(request, hpke_public_key=b64(b"\xff" * 1216)),
            ],
            "wrap_key_empty": ["MALFORMED", changed(request, wrap_public_key="")],
            "wrap_key_1025_bytes": [
                "TOO_LARGE",
                changed(request, wrap_public_key=b64(bytes(1025))),
            ],
            "wrap_key_is_none": [
                "WRAP_KEY_MALFORMED",
                changed(request, wrap_public_key=b64(fixed("no key", 422))),
            ],
            "lease_upper_case": ["MALFORMED", changed(request, lease_id="lease:" + "A" * 32)],
            "base64_not_canonical": ["MALFORMED", changed(request, wrap_public_key="QR==")],
        },
    }


def evidence() -> dict[str, Any]:
    """Evidence envelopes and their digests, the runtime configuration, and what is refused."""
    text = CPU.encode().decode()
    device = json.loads(MACHINE.encode())["devices"][0]
    return {
        "accepted": {
            name: {
                "envelope": each.encode().decode(),
                "digest": str(each.digest()),
                "device_evidence": devices_digest(each.devices).raw.hex(),
            }
            for name, each in (("cpu_alone", CPU), ("with_devices", MACHINE))
        },
        "runtime_config": CONFIG.encode().decode(),
        "recorded": {str(tee): expected_slot(tee, CONFIG.encode()).hex() for tee in TEES},
        "refused": {
            "format_unknown": ["MALFORMED", changed(text, format="regalia/evidence/v3")],
            "tee_unknown": ["MALFORMED", changed(text, tee="sev")],
            "member_missing": ["MALFORMED", changed(text, event_log=...)],
            "member_unknown": ["MALFORMED", changed(text, extra="")],
            "white_space": ["MALFORMED", text.replace(",", ", ", 1)],
            "members_out_of_order": ["MALFORMED", f'{{"tee":"sev-snp",{text[1:-17]}}}'],
            "base64_not_canonical": ["MALFORMED", changed(text, event_log="QR==")],
            "nine_endorsements": ["TOO_LARGE", changed(text, endorsements=["AA=="] * 9)],
            "sixty_five_devices": ["TOO_LARGE", changed(text, devices=[device] * 65)],
            "device_unknown": ["MALFORMED", changed(text, devices=[device | {"kind": "gpu"}])],
            "device_nine_endorsements": [
                "TOO_LARGE",
                changed(text, devices=[device | {"endorsements": ["AA=="] * 9}]),
            ],
        },
    }


def devices() -> dict[str, Any]:
    """Nonces of devices, and the digests that the CPU commits to."""
    return {
        "nonces": [
            {
                "role": role.value,
                "challenge": CHALLENGE.hex(),
                "hpke_public_key": HPKE_KEY.hex(),
                "nonce": device_nonce(role, CHALLENGE, HPKE_KEY).hex(),
            }
            for role in Role
        ],
        "devices": [
            {
                "kind": each.kind.value,
                "report": each.report.hex(),
                "endorsements": [der.hex() for der in each.endorsements],
                "digest": each.digest().raw.hex(),
            }
            for each in (GPU, SWITCH)
        ],
        # Numbers are places in the list above.
        "device_evidence": [
            {"order": order, "digest": devices_digest([(GPU, SWITCH)[n] for n in order]).raw.hex()}
            for order in ([], [0], [0, 1], [1, 0], [0, 0])
        ],
    }


@dataclass(frozen=True, slots=True)
class Holder:
    """The claims that tell a lease's holders apart."""

    instance: bytes
    guest: bytes
    measurement: bytes
    config_binding: bytes


def holders() -> list[dict[str, str]]:
    """Holders of leases: with a guest, without one, and with another key in both cases."""
    out = []
    for guest in (fixed("REPORT_ID"), b""):
        for key in (HPKE_KEY, fixed("another HPKE key", 1216)):
            claims = Holder(fixed("CHIP_ID", 64), guest, fixed("MEASUREMENT", 48), fixed("HOST"))
            out.append(
                {field.name: getattr(claims, field.name).hex() for field in fields(claims)}
                | {"hpke_public_key": key.hex(), "holder": holder_of(cast("Claims", claims), key)}
            )
    return out


def serving() -> dict[str, Any]:
    """A runtime's answer to a client's challenge, with and without a release's proof."""
    values: dict[str, Any] = {
        "evidence": CPU,
        "hpke_public_key": HPKE_KEY,
        "wrap_public_key": WRAP_KEY,
        "model_id": MODEL_ID,
        "model_version": 3,
        "recipient": KeyFingerprint(fixed("recipient")),
    }
    names = [each.name for each in fields(ServingEvidence)]

    def made(**more: Any) -> ServingEvidence:  # noqa: ANN401 - any member
        return ServingEvidence(**{name: (values | more)[name] for name in names})

    text = made(release=PROOF).encode().decode()
    binding = made(release=None).binding(CHALLENGE)
    return {
        "challenge": CHALLENGE.hex(),
        "query": encode_challenge(CHALLENGE),
        "audience": binding.audience,
        "report_data": binding.report_data().hex(),
        "accepted": {
            "with_proof": text,
            "without_proof": made(release=None).encode().decode(),
            "version_zero": made(release=None, model_version=0).encode().decode(),
        },
        "refused": {
            "format_unknown": ["MALFORMED", changed(text, format="regalia/serving-evidence/v9")],
            "format_older": ["MALFORMED", changed(text, format="regalia/serving-evidence/v1")],
            "recipient_is_no_key": ["MALFORMED", changed(text, recipient="sha256:" + "00" * 32)],
            "member_missing": ["MALFORMED", changed(text, release=...)],
            "member_unknown": ["MALFORMED", changed(text, extra=1)],
            "white_space": ["MALFORMED", text + "\n"],
            "hpke_key_short": ["MALFORMED", changed(text, hpke_public_key=b64(bytes(1215)))],
            "wrap_key_empty": ["MALFORMED", changed(text, wrap_public_key="")],
            "wrap_key_1025_bytes": ["TOO_LARGE", changed(text, wrap_public_key=b64(bytes(1025)))],
            "version_negative": ["MALFORMED", changed(text, model_version=-1)],
            "version_too_high": ["MALFORMED", changed(text, model_version=2**53)],
            "evidence_malformed": ["MALFORMED", changed(text, evidence=b64(b"{}"))],
        },
        "refused_queries": ["", "AA", encode_challenge(CHALLENGE) + "=", "+" * 43, "_" * 43],
    }


def approvals() -> dict[str, Any]:
    """Signed approvals of two approvers, and what keeps a broker from starting."""
    statement = Approval(
        format=approval.FORMAT,
        policy_id=str(POLICY_ID),
        model_id=str(MODEL_ID),
        not_after="2026-12-31T23:59:59Z",
    )
    payload = statement.encode()
    one, two, stranger = (signing_key(f"approver {name}") for name in ("one", "two", "stranger"))

    def signed(*keys: Any, **other: Any) -> str:  # noqa: ANN401 - keys, and members of the payload
        data = changed(payload.decode(), **other).encode()
        return sign(approval.PAYLOAD_TYPE, data, keys).encode().decode()

    (other,) = sign(approval.PAYLOAD_TYPE, payload, (stranger,)).signatures
    forged = Envelope(
        approval.PAYLOAD_TYPE, payload, ((str(one.verify_key.fingerprint), other[1]),)
    )
    return {
        "policy_id": str(POLICY_ID),
        "model_id": str(MODEL_ID),
        "approvers": [
            {
                "seed": fixed(f"approver {name}").hex(),
                "public_key": b64(key.verify_key.spki),
                "fingerprint": str(key.verify_key.fingerprint),
            }
            for name, key in (("one", one), ("two", two))
        ],
        # By name: the envelope, and whose signatures count.
        "accepted": {
            "one": [signed(one), [0]],
            "both": [signed(two, one), [1, 0]],
            "one_and_a_stranger": [signed(stranger, one), [0]],
        },
        "refused": {
            "unsigned": ["UNSIGNED", signed()],
            "by_a_stranger": ["SIGNER_UNKNOWN", signed(stranger)],
            "forged": ["SIGNATURE_INVALID", forged.encode().decode()],
            "of_another_type": [
                "WRONG_PAYLOAD_TYPE",
                sign("application/json", payload, (one,)).encode().decode(),
            ],
            "of_another_policy": ["APPROVAL_INVALID", signed(one, policy_id="policy:" + "0" * 64)],
            "of_another_model": ["APPROVAL_INVALID", signed(one, model_id="model:" + "0" * 64)],
            "date_with_fraction": ["MALFORMED", signed(one, not_after="2026-12-31T23:59:59.5Z")],
            "member_unknown": ["MALFORMED", signed(one, comment="")],
            "format_unknown": ["MALFORMED", signed(one, format="regalia/approval/v2")],
        },
    }


def files() -> dict[str, bytes]:
    """Contents by name."""
    return {
        "approvals.json": as_json(approvals()),
        "devices.json": as_json(devices()),
        "evidence.json": as_json(evidence()),
        "exchange.json": as_json(exchange()),
        "lease-holders.json": as_json(holders()),
        "serving-evidence.json": as_json(serving()),
    }


if __name__ == "__main__":
    sys.exit(write_or_compare(FOLDER, files()))
