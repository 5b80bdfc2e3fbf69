"""Answers to a release request, and what a runtime makes of them, for the vectors of messages.

Used by ``make_message_vectors.py``. Spec: docs/spec/release-exchange.md, sections 8 and 9. The
runtime's key and the encapsulation to it are those of ``release/released-key.json``.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from make_release_vectors import LEASE_ID, MODEL_ID, POLICY_ID, recipient
from message_parts import CPU, ORIGIN, changed, message
from vector_files import VECTORS, fixed, short, signing_key

from regalia.core.codec import MIB, b64, unb64
from regalia.core.types import Digest, KeyFingerprint
from regalia.crypto.hpke import DEFAULT_SUITE, SenderContext
from regalia.tlog.merkle import Frontier, inclusion_path, leaf_hash
from regalia.tlog.note import Checkpoint, log_key, sign_checkpoint
from regalia.wire.release import RECORD_FORMAT, LogProof, ReleaseRecord, ReleaseRequest

INDEX = 41
LEASE_S = 900
OTHER_LEASE = "lease:" + "f" * 32
YEAR_S = 366 * 24 * 3600
RELEASED = json.loads((VECTORS / "release" / "released-key.json").read_bytes())
REQUEST = message(
    ReleaseRequest,
    model_id=str(MODEL_ID),
    policy_id=str(POLICY_ID),
    hpke_public_key=b64(recipient().public_key),
)


def proof(entry: bytes, signer: str = "log") -> dict[str, Any]:
    """The proof that an entry is in the log, behind the others."""
    frontier, hashes = Frontier(), {}
    for number in range(INDEX):
        hashes.update(frontier.append(leaf_hash(str(number).encode())))
    hashes.update(frontier.append(leaf_hash(entry)))
    size = INDEX + 1
    note = sign_checkpoint(Checkpoint(ORIGIN, size, frontier.root()), signing_key(signer))
    path = [b64(item) for item in inclusion_path(INDEX, size, hashes.__getitem__)]
    built = LogProof(record=b64(entry), index=INDEX, path=path, checkpoint=note)
    fields: dict[str, Any] = msgspec.to_builtins(built)
    return fields


def record(**changes: Any) -> bytes:  # noqa: ANN401 - any member
    """The record of this release."""
    fields: dict[str, Any] = {
        "format": RECORD_FORMAT,
        "decision": "release",
        "time": "2026-11-22T10:00:00Z",
        "broker": ORIGIN,
        "model_id": str(MODEL_ID),
        "model_version": 3,
        "policy_id": str(POLICY_ID),
        "policy_version": 7,
        "hardware": "genuine",
        "tee": "sev-snp",
        "product": "Genoa",
        "measurement": fixed("MEASUREMENT", 48).hex(),
        "chip_id": fixed("CHIP_ID", 64).hex(),
        "devices": [],
        "revocation": "checked",
        "evidence_digest": str(CPU.digest()),
        "recipient": str(KeyFingerprint.of(recipient().public_key)),
        "custody": "broker",
        "key_wrapping": "none",
        "control": "",
        "lease_id": LEASE_ID,
        "lease_until": "2026-11-22T10:15:00Z",
        "wildcards": [],
        "reasons": [],
    }
    return ReleaseRecord(**(fields | changes)).encode()


def sealed(model_key: bytes) -> str:
    """A model key in the encapsulation of ``released-key.json``."""
    secret = recipient().decapsulate(unb64(RELEASED["encapsulated_key"], what="enc"))
    context = SenderContext(DEFAULT_SUITE, secret, RELEASED["info"].encode())
    return b64(context.seal(b"", model_key))


def flipped(text: str, place: int) -> str:
    """The same base64 with one bit of the data changed."""
    data = bytearray(unb64(text, what="vector"))
    data[place] ^= 1
    return b64(data)


def answer() -> dict[str, Any]:
    """The answer that releases the key."""
    return {
        "encapsulated_key": RELEASED["encapsulated_key"],
        "wrapped_key": RELEASED["wrapped_key"],
        "custody": "broker",
        "key_wrapping": "none",
        "lease_id": LEASE_ID,
        "lease_s": LEASE_S,
        "log": proof(record()),
    }


def logged(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any member
    """The ``log`` of an answer whose record differs."""
    return {"log": proof(record(**changes))}


def accepted() -> dict[str, dict[str, Any]]:
    """What differs from ``answer`` and ``request`` in an answer that a runtime takes."""
    return {
        "plain": {},
        "lease_shorter": {"members": {"lease_s": 1}},
        "lease_a_second_more_than_the_times_say": {"members": {"lease_s": LEASE_S + 1}},
        "lease_of_366_days": {
            "members": {"lease_s": YEAR_S} | logged(lease_until="2027-11-23T10:00:00Z")
        },
        "custody_hsm": {"members": {"custody": "hsm"} | logged(custody="hsm")},
        "renewed": {"request_members": {"lease_id": LEASE_ID}},
    }


def mismatches() -> dict[str, dict[str, Any]]:
    """What a runtime refuses because of the record, or of the lease."""
    records: dict[str, dict[str, Any]] = {
        "of_a_denial": {"decision": "denial"},
        "of_another_model": {"model_id": "model:" + "0" * 64},
        "of_another_version": {"model_version": 2},
        "of_another_policy": {"policy_id": "policy:" + "0" * 64},
        "of_older_evidence": {"evidence_digest": str(Digest.of(b"older evidence"))},
        "of_another_recipient": {"recipient": str(KeyFingerprint.of(b"another key"))},
        "of_another_custody": {"custody": "hsm"},
        "of_another_wrapping": {"key_wrapping": "rsa-oaep-sha256"},
        "of_another_lease": {"lease_id": OTHER_LEASE},
        "with_a_time_of_no_form": {"time": "2026-11-22 10:00:00"},
        "without_lease_until": {"lease_until": ""},
    }
    longer = logged(lease_until="2027-11-24T10:00:00Z")
    return {
        **{f"record_{name}": {"members": logged(**each)} for name, each in records.items()},
        "lease_0": {"members": {"lease_s": 0}},
        "lease_negative": {"members": {"lease_s": -1}},
        "lease_two_seconds_more": {"members": {"lease_s": LEASE_S + 2}},
        "lease_longer_than_366_days": {"members": {"lease_s": YEAR_S + 1} | longer},
        "lease_of_another_answer": {"members": {"lease_id": OTHER_LEASE}},
        "another_lease_was_to_be_renewed": {"request_members": {"lease_id": OTHER_LEASE}},
    }


def unusable() -> dict[str, dict[str, Any]]:
    """Keys that do not open, or are none, though the log has the release."""
    enc, wrapped = RELEASED["encapsulated_key"], RELEASED["wrapped_key"]
    raw, ciphertext = unb64(enc, what="enc"), unb64(wrapped, what="key")
    members = {
        "encapsulated_key_empty": {"encapsulated_key": ""},
        "encapsulated_key_1119_bytes": {"encapsulated_key": b64(raw[:-1])},
        "encapsulated_key_1121_bytes": {"encapsulated_key": b64(raw + b"\0")},
        "encapsulated_key_no_base64": {"encapsulated_key": "*"},
        "encapsulated_key_ml_kem_changed": {"encapsulated_key": flipped(enc, 0)},
        "encapsulated_key_x25519_changed": {"encapsulated_key": flipped(enc, -2)},
        "encapsulated_key_x25519_zero": {"encapsulated_key": b64(raw[:-32] + bytes(32))},
        "wrapped_key_empty": {"wrapped_key": ""},
        "wrapped_key_47_bytes": {"wrapped_key": b64(ciphertext[:-1])},
        "wrapped_key_49_bytes": {"wrapped_key": b64(ciphertext + b"\0")},
        "wrapped_key_changed": {"wrapped_key": flipped(wrapped, 0)},
        "wrapped_key_no_base64": {"wrapped_key": "*"},
        "model_key_31_bytes": {"wrapped_key": sealed(fixed("model key", 31))},
        "model_key_33_bytes": {"wrapped_key": sealed(fixed("model key", 33))},
    }
    return {name: {"members": each} for name, each in members.items()}


def unread() -> dict[str, tuple[str, dict[str, Any]]]:
    """Answers that are none, or prove nothing: the code, and what differs."""
    good = proof(record())
    empty = len(changed(json.dumps(answer()), custody="").encode())
    return {
        "member_unknown": ("MALFORMED", {"members": {"extra": 1}}),
        "member_missing": ("MALFORMED", {"removed": ["custody"]}),
        "lease_s_text": ("MALFORMED", {"members": {"lease_s": "900"}}),
        "custody_unknown": ("MALFORMED", {"members": {"custody": "vault"}}),
        "key_wrapping_unknown": ("MALFORMED", {"members": {"key_wrapping": "rsa-pkcs1"}}),
        "lease_id_of_another_form": ("MALFORMED", {"members": {"lease_id": "lease:1"}}),
        "log_null": ("MALFORMED", {"members": {"log": None}}),
        "white_space": ("MALFORMED", {"behind": "\n"}),
        "1_mib_and_a_byte": ("TOO_LARGE", {"members": {"custody": short("x" * (MIB + 1 - empty))}}),
        # Of the largest size that is read, and then the custody is none that there is.
        "1_mib": ("MALFORMED", {"members": {"custody": short("x" * (MIB - empty))}}),
        "path_cut": ("PROOF_INVALID", {"members": {"log": good | {"path": good["path"][:-1]}}}),
        "index_of_another": ("PROOF_INVALID", {"members": {"log": good | {"index": INDEX - 1}}}),
        "another_entry": ("PROOF_INVALID", {"members": {"log": proof(b"41")}}),
        "another_log": ("CHECKPOINT_INVALID", {"members": {"log": proof(record(), "other log")}}),
    }


def release_answers() -> dict[str, Any]:
    """One request, the answer to it, and what else a runtime may get instead."""
    groups = {"RELEASE_RECORD_MISMATCH": mismatches(), "RELEASED_KEY_UNUSABLE": unusable()}
    refused = {name: {"code": code} | differs for name, (code, differs) in unread().items()}
    for code, cases in groups.items():
        refused |= {name: {"code": code} | each for name, each in cases.items()}
    return {
        "log_key": str(log_key(ORIGIN, signing_key("log").verify_key)),
        "request": REQUEST,
        "answer": changed(json.dumps(answer())),
        "model_key": RELEASED["model_key"],
        "return_token": RELEASED["return_token"],
        "accepted": accepted(),
        "refused": refused,
    }
