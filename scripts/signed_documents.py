"""Signed documents for the vectors of conventions: thresholds, P-384, and the order of refusals.

Used by ``make_convention_vectors.py``. Spec: docs/spec/conventions.md, "Signed documents".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from vector_files import fixed, short, signing_key

from regalia.core.codec import MIB, b64, canonical_json
from regalia.crypto.dsse import Envelope, pae, sign
from regalia.crypto.sign import SigningKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

TYPE = "application/vnd.regalia.test-vector.v1+json"
OTHER_TYPE = "application/json"
PAYLOAD = canonical_json({"i": 1, "l": [], "t": "é"})
ILL_FORMED = b'{"i": 1,"l":[],"t":""}'
ONE, TWO, STRANGER = (signing_key(f"signer {name}") for name in ("one", "two", "three"))
# The order of the curve's base point (SEC 2, section 2.5.1).
P384_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffff"
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)
P384_SECRET = int.from_bytes(fixed("signer P-384", 47)) + 1
P384 = ec.derive_private_key(P384_SECRET, ec.SECP384R1())


def name_of(key: SigningKey) -> str:
    """What stands in ``keyid``."""
    return str(key.verify_key.fingerprint)


def by(key: SigningKey, kind: str = TYPE, payload: bytes = PAYLOAD) -> tuple[str, bytes]:
    """A signature that holds, with its name."""
    return name_of(key), key.sign(pae(kind, payload))


def forged(key: SigningKey) -> tuple[str, bytes]:
    """A signature of a stranger with the name of a key."""
    return name_of(key), by(STRANGER)[1]


def envelope(*signatures: tuple[str, bytes], kind: str = TYPE, payload: bytes = PAYLOAD) -> str:
    """An envelope with these signatures, whatever they are of."""
    return Envelope(kind, payload, signatures).encode().decode()


def thresholds() -> dict[str, Any]:
    """Envelopes for a reader that demands the signatures of both keys."""
    elsewhere = ("key:" + "0" * 64, by(ONE)[1])
    return {
        "threshold": 2,
        "accepted": {
            "both": envelope(by(ONE), by(TWO)),
            "both_in_the_other_order": envelope(by(TWO), by(ONE)),
            "both_and_a_stranger": envelope(by(STRANGER), by(ONE), by(TWO)),
        },
        "refused": {
            "one_alone": {"code": "SIGNER_UNKNOWN", "envelope": envelope(by(ONE))},
            "one_and_a_stranger": {
                "code": "SIGNER_UNKNOWN",
                "envelope": envelope(by(ONE), by(STRANGER)),
            },
            "one_key_twice": {"code": "MALFORMED", "envelope": envelope(by(ONE), by(ONE))},
            "one_key_with_another_keyid": {
                "code": "SIGNER_UNKNOWN",
                "envelope": envelope(by(ONE), elsewhere),
            },
            "one_key_with_its_keyid_in_capitals": {
                "code": "SIGNER_UNKNOWN",
                "envelope": envelope(by(ONE), (name_of(ONE).upper(), by(ONE)[1])),
            },
            "one_and_a_forged_one": {
                "code": "SIGNATURE_INVALID",
                "envelope": envelope(by(ONE), forged(TWO)),
            },
        },
    }


def order() -> dict[str, Any]:
    """Envelopes with two defects: the code of the first in the reader's order, and the other."""
    other = {"kind": OTHER_TYPE}
    ill_signed = {"payload": ILL_FORMED}
    many = [(f"key:{n:064x}", b"\0") for n in range(17)]

    def case(code: str, other_code: str, text: str, threshold: int = 1) -> dict[str, Any]:
        return {"code": code, "also": other_code, "threshold": threshold, "envelope": text}

    return {
        "too_many_signatures_of_another_type": case(
            "TOO_LARGE", "WRONG_PAYLOAD_TYPE", envelope(*many, **other)
        ),
        "one_key_twice_of_another_type": case(
            "MALFORMED",
            "WRONG_PAYLOAD_TYPE",
            envelope(by(ONE, OTHER_TYPE), by(ONE, OTHER_TYPE), **other),
        ),
        "white_space_and_no_signature": case("MALFORMED", "UNSIGNED", envelope() + "\n"),
        "another_type_and_no_signature": case("WRONG_PAYLOAD_TYPE", "UNSIGNED", envelope(**other)),
        "another_type_than_was_signed": case(
            "WRONG_PAYLOAD_TYPE", "SIGNATURE_INVALID", envelope(by(ONE), **other)
        ),
        "another_type_by_a_stranger": case(
            "WRONG_PAYLOAD_TYPE", "SIGNER_UNKNOWN", envelope(by(STRANGER, OTHER_TYPE), **other)
        ),
        "no_signature_and_an_ill_formed_payload": case(
            "UNSIGNED", "MALFORMED", envelope(**ill_signed)
        ),
        "forged_and_too_few": case("SIGNATURE_INVALID", "SIGNER_UNKNOWN", envelope(forged(ONE)), 2),
        "forged_and_an_ill_formed_payload": case(
            "SIGNATURE_INVALID", "MALFORMED", envelope(by(ONE), **ill_signed)
        ),
        "by_a_stranger_and_an_ill_formed_payload": case(
            "SIGNER_UNKNOWN",
            "MALFORMED",
            envelope(by(STRANGER, payload=ILL_FORMED), **ill_signed),
        ),
        "too_few_and_an_ill_formed_payload": case(
            "SIGNER_UNKNOWN", "MALFORMED", envelope(by(ONE, payload=ILL_FORMED), **ill_signed), 2
        ),
    }


def p384() -> dict[str, Any]:
    """A P-384 key, and signatures of it. They are deterministic (RFC 6979)."""
    key = SigningKey(P384)
    message = pae(TYPE, PAYLOAD)

    def raw(algorithm: HashAlgorithm) -> bytes:
        return P384.sign(message, ec.ECDSA(algorithm, deterministic_signing=True))

    good = raw(SHA384())
    r, s = decode_dss_signature(good)
    changed = {
        "r_changed": encode_dss_signature(r ^ 1, s),
        "s_changed": encode_dss_signature(r, s ^ 1),
        "zeros": encode_dss_signature(0, 0),
        "empty": b"",
        "r_and_s_without_der": r.to_bytes(48) + s.to_bytes(48),
        "a_byte_behind": good + b"\0",
        "cut": good[:-1],
        "with_sha_256": raw(SHA256()),
        "without_type": P384.sign(PAYLOAD, ec.ECDSA(SHA384(), deterministic_signing=True)),
    }
    one = by(ONE)
    return {
        "secret": P384_SECRET.to_bytes(48).hex(),
        "public_key": b64(key.verify_key.spki),
        "fingerprint": name_of(key),
        "threshold": 1,
        "accepted": {
            "alone": envelope((name_of(key), good)),
            "beside_ed25519": envelope((name_of(key), good), one),
            # ECDSA takes both; this format counts keys, so neither is worth more.
            "other_sign_of_s": envelope((name_of(key), encode_dss_signature(r, P384_ORDER - s))),
        },
        "refused": {
            name: {"code": "SIGNATURE_INVALID", "envelope": envelope((name_of(key), signature))}
            for name, signature in changed.items()
        },
    }


def signed() -> dict[str, Any]:
    """``signed-documents.json``."""
    first, second = by(ONE), by(TWO)
    text = sign(TYPE, PAYLOAD, (ONE, TWO)).encode().decode()
    too_long = bytes(16 * MIB + 1)
    refused = {
        "no_signature": ("UNSIGNED", envelope()),
        "stranger_alone": ("SIGNER_UNKNOWN", envelope(by(STRANGER))),
        "one_holds_and_one_does_not": (
            "SIGNATURE_INVALID",
            envelope(first, (second[0], first[1])),
        ),
        "other_type": (
            "WRONG_PAYLOAD_TYPE",
            envelope(by(ONE, OTHER_TYPE), kind=OTHER_TYPE),
        ),
        "signed_without_type": (
            "SIGNATURE_INVALID",
            envelope((first[0], ONE.sign(PAYLOAD))),
        ),
        "signature_of_63_bytes": ("SIGNATURE_INVALID", envelope((first[0], first[1][:-1]))),
        "signature_of_65_bytes": ("SIGNATURE_INVALID", envelope((first[0], first[1] + b"\0"))),
        "signature_empty": ("SIGNATURE_INVALID", envelope((first[0], b""))),
        "payload_ill_formed": (
            "MALFORMED",
            envelope(by(ONE, payload=ILL_FORMED), payload=ILL_FORMED),
        ),
        "payload_of_16_mib_and_a_byte": (
            "TOO_LARGE",
            envelope(by(ONE, payload=too_long), payload=too_long),
        ),
        "one_key_twice": ("MALFORMED", envelope(first, first)),
        "seventeen_signatures": (
            "TOO_LARGE",
            envelope(*((f"key:{n:064x}", b"\0") for n in range(17))),
        ),
        "member_missing": ("MALFORMED", text.replace(f'"payloadType":"{TYPE}",', "")),
        "member_unknown": ("MALFORMED", text[:-1] + ',"z":0}'),
        "white_space": ("MALFORMED", text + " "),
        "payload_base64_without_padding": (
            "MALFORMED",
            text.replace('=","payloadType', '","payloadType'),
        ),
    }
    return {
        "about": [
            "The payload is an object of i, l and t as in canonical-json.json.",
            "`accepted`, `refused`: one of the two `keys` must have signed.",
            "`two_must_sign`: both of them. `p384`: a third key; one of all three must sign.",
            "`two_defects`: as many of them as `threshold` says must have signed. `code` is that",
            "of the defect which a reader meets first, and `also` that of the other one.",
        ],
        "payload_type": TYPE,
        "payload": PAYLOAD.decode(),
        "signed_bytes": pae(TYPE, PAYLOAD).hex(),
        "keys": [
            {
                "seed": fixed(f"signer {name}").hex(),
                "public_key": b64(key.verify_key.spki),
                "fingerprint": name_of(key),
            }
            for name, key in (("one", ONE), ("two", TWO))
        ],
        "accepted": {
            "one_signature": envelope(first),
            "two_signatures": text,
            "and_a_stranger": sign(TYPE, PAYLOAD, (STRANGER, ONE)).encode().decode(),
            "and_a_keyid_of_no_form": envelope(("witness", b"\0"), first),
            "sixteen_signatures": envelope(first, *((f"key:{n:064x}", b"\0") for n in range(15))),
        },
        "refused": {
            name: {"envelope": short(each), "code": code} for name, (code, each) in refused.items()
        },
        "two_must_sign": thresholds(),
        "p384": p384(),
        "two_defects": order(),
    }
