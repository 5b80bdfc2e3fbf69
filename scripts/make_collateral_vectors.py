"""Write the collateral bundle's vectors: python scripts/make_collateral_vectors.py [--check].

Spec: docs/spec/collateral-bundle.md. Keys, certificates and dates are fixed and published, and
signatures are Ed25519, so a second run gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from vector_files import write_or_compare

from regalia.core.clock import rfc3339
from regalia.core.codec import canonical_json
from regalia.crypto import dsse
from regalia.crypto.sign import SigningKey
from regalia.verifier.collateral import make_bundle, sort_files
from regalia.wire.collateral import PAYLOAD_TYPE
from regalia_testing.collateral import DENY_LIST, SITE, tcb_info_body

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).parents[1] / "tests" / "vectors" / "collateral"
ISSUED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOW = ISSUED + timedelta(days=3)
NEXT_UPDATE = ISSUED + timedelta(days=28)


def raw_key(label: str) -> Ed25519PrivateKey:
    """A key that is published."""
    seed = hashlib.sha256(f"regalia test vector: {label}".encode()).digest()
    return Ed25519PrivateKey.from_private_bytes(seed)


KEYS = tuple(SigningKey(raw_key(f"collateral signer {n}")) for n in (1, 2))
STRANGER = SigningKey(raw_key("collateral stranger"))


def certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate and its revocation list, DER."""
    key = raw_key("collateral authority")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Regalia vector - nobody's root")])
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ISSUED)
        .not_valid_after(ISSUED + timedelta(days=3650))
        .sign(key, None)
    )
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name)
        .last_update(ISSUED)
        .next_update(NEXT_UPDATE)
        .sign(key, None)
    )
    return root.public_bytes(Encoding.DER), crl.public_bytes(Encoding.DER)


def bundle(**changes: Any) -> bytes:  # noqa: ANN401
    """The accepted bundle, or one that differs."""
    root, crl = certificate()
    items = sort_files(
        {
            "root.der": root,
            "list.crl": crl,
            "sgx.json": tcb_info_body(number=18),
            "deny.json": DENY_LIST.encode(),
        }
    )
    fields: dict[str, Any] = {
        "name": SITE,
        "serial": 7,
        "issued": ISSUED,
        "next_update": NEXT_UPDATE,
        "tcb_evaluation_data_number": 18,
        "keys": KEYS,
    }
    return make_bundle(items, **(fields | changes))


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The accepted payload with one change, signed by the right people."""
    document = json.loads(dsse.parse_envelope(bundle(), what="x").unverified_payload)
    change(document)
    return dsse.sign(PAYLOAD_TYPE, canonical_json(document), KEYS).encode()


def entry(**changes: Any) -> bytes:  # noqa: ANN401
    """The first entry changed."""
    return changed(lambda doc: doc["entries"][0].update(changes))


def refused() -> dict[str, tuple[bytes, str]]:
    """Name: (bytes, code)."""
    day = timedelta(days=1)
    envelope = dsse.parse_envelope(bundle(), what="x")
    flipped = envelope.unverified_payload.replace(b'"serial":7', b'"serial":9')
    forged = dsse.Envelope(envelope.payload_type, flipped, envelope.signatures).encode()
    other_type = dsse.sign("text/plain", envelope.unverified_payload, KEYS).encode()
    return {
        "unsigned": (bundle(keys=()), "COLLATERAL_SIG_INVALID"),
        "one_of_two": (bundle(keys=KEYS[:1]), "COLLATERAL_SIG_INVALID"),
        "one_and_a_stranger": (bundle(keys=(KEYS[0], STRANGER)), "COLLATERAL_SIG_INVALID"),
        "forged": (forged, "COLLATERAL_SIG_INVALID"),
        "wrong_payload_type": (other_type, "WRONG_PAYLOAD_TYPE"),
        "white_space": (bundle() + b"\n", "MALFORMED"),
        "another_site": (bundle(name="site-two"), "COLLATERAL_MISSING"),
        "older": (bundle(serial=4), "COLLATERAL_ROLLBACK"),
        "same_serial_other_payload": (bundle(serial=5), "COLLATERAL_ROLLBACK"),
        "lower_floor": (bundle(tcb_evaluation_data_number=16), "COLLATERAL_ROLLBACK"),
        "document_below_floor": (
            changed(lambda doc: doc["floors"].update(tcb_evaluation_data_number=19)),
            "COLLATERAL_ROLLBACK",
        ),
        "expired": (bundle(next_update=ISSUED + day), "COLLATERAL_STALE"),
        "from_the_future": (bundle(issued=NOW + day), "COLLATERAL_STALE"),
        "no_entries": (changed(lambda doc: doc.update(entries=[])), "MALFORMED"),
        "unknown_member": (changed(lambda doc: doc.update(more=1)), "MALFORMED"),
        "entries_out_of_order": (changed(lambda doc: doc["entries"].reverse()), "MALFORMED"),
        "entry_twice": (
            changed(lambda doc: doc["entries"].insert(0, doc["entries"][0])),
            "MALFORMED",
        ),
        "entry_size": (entry(size=1), "MALFORMED"),
        "entry_digest": (entry(digest="sha256:" + "00" * 32), "MALFORMED"),
        "entry_kind": (entry(kind="crl"), "MALFORMED"),
        "entry_kind_unknown": (entry(kind="archive"), "MALFORMED"),
        "entry_name": (entry(name="ARK-Genoa 0000000000000000"), "MALFORMED"),
        "entry_date": (entry(valid_until="2099-01-01T00:00:00Z"), "MALFORMED"),
    }


def files() -> dict[str, bytes]:
    """Contents by name."""
    out = {"bundle.json": bundle()}
    out |= {f"signer-{n}.pub": key.verify_key.to_pem() for n, key in enumerate(KEYS, 1)}
    facts = {
        "name": SITE,
        "threshold": 2,
        "now": rfc3339(NOW),
        "floor": {"serial": 5, "digest": "sha256:" + "00" * 32, "tcb_evaluation_data_number": 17},
        "refused": {name: code for name, (_, code) in refused().items()},
    }
    out["refused.json"] = json.dumps(facts, indent=1).encode() + b"\n"
    return out | {f"refused/{name}.json": data for name, (data, _) in refused().items()}


def main() -> int:
    """Write the files, or compare them."""
    return write_or_compare(FOLDER, files())


if __name__ == "__main__":
    sys.exit(main())
