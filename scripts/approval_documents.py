"""Approvals for the vectors of messages: whose signatures count, for how long, and what is refused.

Used by ``make_message_vectors.py``. Spec: docs/spec/release-exchange.md, section 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from message_parts import MODEL_ID, POLICY_ID, changed
from vector_files import fixed, signing_key

from regalia.core.codec import b64
from regalia.crypto.dsse import Envelope, pae, sign
from regalia.wire import approval
from regalia.wire.approval import Approval

if TYPE_CHECKING:
    from regalia.crypto.sign import SigningKey

OTHER_TYPE = "application/json"
NOT_AFTER = "2026-12-31T23:59:59Z"
PAYLOAD = Approval(
    format=approval.FORMAT,
    policy_id=str(POLICY_ID),
    model_id=str(MODEL_ID),
    not_after=NOT_AFTER,
).encode()
ONE, TWO, STRANGER = (signing_key(f"approver {name}") for name in ("one", "two", "stranger"))
OTHER_POLICY = "policy:" + "0" * 64
OTHER_MODEL = "model:" + "0" * 64


def payload(**members: Any) -> bytes:  # noqa: ANN401 - any member
    """An approval's payload with other members."""
    return changed(PAYLOAD.decode(), **members).encode()


def sized(size: int) -> bytes:
    """A payload of so many bytes, whose date is none."""
    return payload(not_after="9" * (size - len(payload(not_after=""))))


def signed(*keys: SigningKey, data: bytes = PAYLOAD, kind: str = approval.PAYLOAD_TYPE) -> str:
    """A document that these keys have signed."""
    return sign(kind, data, keys).encode().decode()


def forged(data: bytes = PAYLOAD) -> str:
    """A document with the signature of a stranger and the name of the first approver."""
    signature = STRANGER.sign(pae(approval.PAYLOAD_TYPE, data))
    name = str(ONE.verify_key.fingerprint)
    return Envelope(approval.PAYLOAD_TYPE, data, ((name, signature),)).encode().decode()


def refused() -> dict[str, list[str]]:
    """By name: the code, and a document with one defect."""
    no_form = {
        "policy_id_without_form": {"policy_id": "0" * 64},
        "policy_id_of_a_model": {"policy_id": str(MODEL_ID)},
        "policy_id_in_capitals": {"policy_id": "policy:" + POLICY_ID.raw.hex().upper()},
        "policy_id_short": {"policy_id": str(POLICY_ID)[:-2]},
        "model_id_without_form": {"model_id": "llama"},
        "model_id_of_a_policy": {"model_id": str(POLICY_ID)},
        "date_with_fraction": {"not_after": "2026-12-31T23:59:59.5Z"},
        "date_with_offset": {"not_after": "2026-12-31T23:59:59+00:00"},
        "date_empty": {"not_after": ""},
        "member_missing": {"not_after": ...},
        "member_unknown": {"comment": ""},
        "format_unknown": {"format": "regalia/approval/v2"},
        "number_for_text": {"not_after": 1},
    }
    return {
        "unsigned": ["UNSIGNED", signed()],
        "by_a_stranger": ["SIGNER_UNKNOWN", signed(STRANGER)],
        "forged": ["SIGNATURE_INVALID", forged()],
        "of_another_type": ["WRONG_PAYLOAD_TYPE", signed(ONE, kind=OTHER_TYPE)],
        "of_another_policy": [
            "APPROVAL_INVALID",
            signed(ONE, data=payload(policy_id=OTHER_POLICY)),
        ],
        "of_another_model": ["APPROVAL_INVALID", signed(ONE, data=payload(model_id=OTHER_MODEL))],
        "white_space_in_the_payload": ["MALFORMED", signed(ONE, data=PAYLOAD.replace(b",", b", "))],
        "white_space_behind_the_payload": ["MALFORMED", signed(ONE, data=PAYLOAD + b"\n")],
        "white_space_behind_the_document": ["MALFORMED", signed(ONE) + "\n"],
        # A payload of this size has a member that is ill-formed; its size is looked at first.
        "payload_4097_bytes": ["TOO_LARGE", signed(ONE, data=sized(approval.LIMIT + 1))],
        "payload_4096_bytes_without_a_date": ["MALFORMED", signed(ONE, data=sized(approval.LIMIT))],
    } | {name: ["MALFORMED", signed(ONE, data=payload(**each))] for name, each in no_form.items()}


def two_defects() -> dict[str, dict[str, str]]:
    """Documents whose payload is a defect beside another: that other one is refused first."""
    bad = {
        "MALFORMED": payload(comment=""),
        "TOO_LARGE": sized(approval.LIMIT + 1),
        "APPROVAL_INVALID": payload(policy_id=OTHER_POLICY),
    }
    cases = {}
    for also, data in bad.items():
        first = {
            "WRONG_PAYLOAD_TYPE": signed(ONE, data=data, kind=OTHER_TYPE),
            "UNSIGNED": signed(data=data),
            "SIGNATURE_INVALID": forged(data),
            "SIGNER_UNKNOWN": signed(STRANGER, data=data),
        }
        for code, document in first.items():
            name = f"{code}_before_{also}".lower()
            cases[name] = {"code": code, "also": also, "document": document}
    return cases


def counted() -> dict[str, Any]:
    """Documents that a broker was started with, and the approvers that count at a moment."""
    before, after = (payload(not_after=f"2026-12-31T23:59:{second}Z") for second in (58, 59))
    return {
        "now": NOT_AFTER,
        "cases": {
            "ends_now": [[signed(ONE, data=after)], [0]],
            "ended_a_second_ago": [[signed(ONE, data=before)], []],
            "one_ended": [[signed(ONE, data=before), signed(TWO, data=after)], [1]],
            "one_person_in_two_documents": [[signed(ONE, data=after), signed(TWO, ONE)], [0, 1]],
            "ended_and_approved_again": [[signed(ONE, data=before), signed(ONE, data=after)], [0]],
        },
    }


def approvals() -> dict[str, Any]:
    """``approvals.json``."""
    return {
        "about": [
            "`accepted`: a document, and the places in `approvers` of those who count.",
            "`two_defects`: `code` is that of the defect which a reader meets first.",
            "`counted`: documents together, and the places of those who count at the time `now`.",
        ],
        "policy_id": str(POLICY_ID),
        "model_id": str(MODEL_ID),
        "approvers": [
            {
                "seed": fixed(f"approver {name}").hex(),
                "public_key": b64(key.verify_key.spki),
                "fingerprint": str(key.verify_key.fingerprint),
            }
            for name, key in (("one", ONE), ("two", TWO))
        ],
        # By name: the envelope, and whose signatures count.
        "accepted": {
            "one": [signed(ONE), [0]],
            "both": [signed(TWO, ONE), [1, 0]],
            "one_and_a_stranger": [signed(STRANGER, ONE), [0]],
        },
        "refused": refused(),
        "two_defects": two_defects(),
        "counted": counted(),
    }
