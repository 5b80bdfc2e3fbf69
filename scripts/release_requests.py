"""Release requests that are refused, for the vectors of messages.

Used by ``make_message_vectors.py``. Spec: docs/spec/release-exchange.md, sections 1 and 5. A case
says what differs from ``release_request``; the place of its HPKE key takes a real one.
"""

from __future__ import annotations

import hashlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from make_release_vectors import recipient
from message_parts import MODEL_ID, POLICY_ID, WRAP_KEY
from vector_files import fixed, short

from regalia.core.codec import MIB, b64

ML_KEM_KEY = recipient().public_key[:1184]
# Points of X25519 whose order divides 8: an exchange with them gives zeros (RFC 7748, section 6.1).
LOW_ORDER = {
    "zero": bytes(32),
    "one": b"\x01" + bytes(31),
    "order_8": bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    "minus_one": (2**255 - 20).to_bytes(32, "little"),
}


def rsa_key(label: str, *, bits: int = 3072, exponent: int = 65537) -> rsa.RSAPublicKey:
    """A public key that can be parsed; nobody has its private half."""
    modulus = int.from_bytes(hashlib.shake_256(label.encode()).digest(bits // 8), "big")
    modulus |= 1 | 1 << (bits - 1)
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def spki(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> bytes:
    """Its SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def wrap_keys() -> dict[str, bytes]:
    """What is WRAP_KEY_MALFORMED."""
    good = rsa_key("wrap key")
    curve = ec.derive_private_key(5, ec.SECP384R1()).public_key()
    return {
        "is_none": fixed("no key", 422),
        "exponent_3": spki(rsa_key("wrap key", exponent=3)),
        "exponent_65539": spki(rsa_key("wrap key", exponent=65539)),
        "2048_bits": spki(rsa_key("wrap key", bits=2048)),
        "3064_bits": spki(rsa_key("wrap key", bits=3064)),
        "4096_bits": spki(rsa_key("wrap key", bits=4096)),
        "p384": spki(curve),
        "pkcs1": good.public_bytes(Encoding.DER, PublicFormat.PKCS1),
        "pem": good.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "a_byte_behind": WRAP_KEY + b"\0",
        "a_byte_less": WRAP_KEY[:-1],
        # The length of the outer sequence in three bytes where two are enough.
        "length_not_minimal": WRAP_KEY[:1] + b"\x83\x00" + WRAP_KEY[2:],
    }


def denied() -> dict[str, tuple[str, dict[str, Any]]]:
    """Refused in step 2, after the challenge was spent: by name the code, and other members."""
    x_wing = {name: ML_KEM_KEY + half for name, half in LOW_ORDER.items()}
    policy, model = POLICY_ID.raw.hex(), MODEL_ID.raw.hex()
    return {
        "version_zero": ("MALFORMED", {"model_version": 0}),
        "version_negative": ("MALFORMED", {"model_version": -1}),
        "version_too_high": ("MALFORMED", {"model_version": 2**53}),
        "model_id_without_form": ("MALFORMED", {"model_id": "llama"}),
        "model_id_in_capitals": ("MALFORMED", {"model_id": f"model:{model.upper()}"}),
        "model_id_of_a_policy": ("MALFORMED", {"model_id": str(POLICY_ID)}),
        "model_id_of_another": ("REQUEST_MISMATCH", {"model_id": "model:" + "0" * 64}),
        "policy_id_without_form": ("MALFORMED", {"policy_id": policy}),
        "policy_id_short": ("MALFORMED", {"policy_id": f"policy:{policy[2:]}"}),
        "policy_id_empty": ("MALFORMED", {"policy_id": ""}),
        "policy_id_of_another": ("REQUEST_MISMATCH", {"policy_id": "policy:" + "0" * 64}),
        "hpke_key_short": ("MALFORMED", {"hpke_public_key": b64(bytes(1215))}),
        "hpke_key_long": ("MALFORMED", {"hpke_public_key": b64(bytes(1217))}),
        "hpke_key_out_of_range": (
            "HPKE_KEY_MALFORMED",
            {"hpke_public_key": b64(b"\xff" * 1216)},
        ),
        **{
            f"hpke_key_of_low_order_{name}": ("HPKE_KEY_MALFORMED", {"hpke_public_key": b64(key)})
            for name, key in x_wing.items()
        },
        "wrap_key_empty": ("MALFORMED", {"wrap_public_key": ""}),
        "wrap_key_1025_bytes": ("TOO_LARGE", {"wrap_public_key": b64(bytes(1025))}),
        **{
            f"wrap_key_{name}": ("WRAP_KEY_MALFORMED", {"wrap_public_key": b64(key)})
            for name, key in wrap_keys().items()
        },
        "lease_upper_case": ("MALFORMED", {"lease_id": "lease:" + "A" * 32}),
        "lease_without_form": ("MALFORMED", {"lease_id": "a" * 32}),
        "lease_empty": ("MALFORMED", {"lease_id": ""}),
        "base64_not_canonical": ("MALFORMED", {"wrap_public_key": "QR=="}),
        "evidence_empty": ("MALFORMED", {"evidence": ""}),
        "evidence_no_base64": ("MALFORMED", {"evidence": "*"}),
        # Zeros are no envelope either; that is found out where their number is allowed.
        "evidence_4_mib_of_zeros": ("MALFORMED", {"evidence": b64(bytes(4 * MIB))}),
        "evidence_4_mib_and_a_byte": ("TOO_LARGE", {"evidence": b64(bytes(4 * MIB + 1))}),
    }


def unread() -> dict[str, tuple[str, int, dict[str, Any]]]:
    """Refused before the challenge is spent: by name the code, the status, and what differs."""
    return {
        "challenge_short": ("MALFORMED", 400, {"members": {"challenge": b64(bytes(31))}}),
        "challenge_long": ("MALFORMED", 400, {"members": {"challenge": b64(bytes(33))}}),
        "challenge_no_base64": ("MALFORMED", 400, {"members": {"challenge": "*"}}),
        "member_missing": ("MALFORMED", 400, {"removed": ["lease_id"]}),
        "member_unknown": ("MALFORMED", 400, {"members": {"extra": 1}}),
        "member_of_another_type": ("MALFORMED", 400, {"members": {"model_version": "3"}}),
        "white_space": ("MALFORMED", 400, {"behind": "\n"}),
        "bytes_behind": ("MALFORMED", 400, {"behind": "{}"}),
        "larger_than_8_mib": ("TOO_LARGE", 413, {"members": {"evidence": b64(bytes(6 * MIB))}}),
    }


def refused_requests() -> dict[str, dict[str, Any]]:
    """By name: code, status, whether the log has a record of it, and what differs."""
    cases = {
        name: {"code": code, "status": status, "logged": False} | differs
        for name, (code, status, differs) in unread().items()
    }
    cases |= {
        name: {"code": code, "status": 403, "logged": True, "members": members}
        for name, (code, members) in denied().items()
    }
    for case in cases.values():
        members = case.get("members", {})
        if isinstance(members.get("evidence"), str):
            members["evidence"] = short(members["evidence"])
    return cases
