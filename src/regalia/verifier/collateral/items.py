"""One piece of collateral: parsed as what it claims to be, untrusted, with the dates it carries."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cryptography.x509.oid import NameOID

from regalia.appraisal.pki import parse_certificate, parse_crl
from regalia.core.errors import RegaliaError
from regalia.tees.nvidia.evidence.key_denials import parse_key_denials
from regalia.tees.nvidia.evidence.rims import parse_rim
from regalia.tees.snp.evidence.leaf import read_leaf
from regalia.tees.snp.evidence.products import intermediate_name, leaf_name
from regalia.tees.snp.evidence.wire import EndorsementKeyKind, Product
from regalia.tees.tpm.evidence.enrolment import parse_enrolment
from regalia.verifier.collateral.intel import parse_intel
from regalia.wire.collateral import NAME_MAX, CollateralKind
from regalia.wire.deny_list import parse_deny_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from regalia.appraisal.pki import Certificate, Crl
    from regalia.tees.nvidia.evidence.key_denials import KeyDenials
    from regalia.tees.nvidia.evidence.rims import Rim
    from regalia.tees.snp.evidence.leaf import LeafFacts
    from regalia.tees.tpm.evidence.enrolment import Enrolment
    from regalia.verifier.collateral.intel import IntelDocument
    from regalia.wire.deny_list import DenyList

_SHORT = 16  # hex digits of a digest or chip in a name


@dataclass(frozen=True, slots=True)
class Item:
    """A piece of collateral.

    Attributes:
        name: for people; the same for its successor.
        content: exact bytes.
        valid_from, valid_until: None if the content names no date.
        parsed: what the content is.
        source: where it came from, for people.
    """

    kind: CollateralKind
    name: str
    content: bytes
    valid_from: datetime | None
    valid_until: datetime | None
    parsed: Certificate | Crl | IntelDocument | DenyList | Enrolment | Rim | KeyDenials
    source: str = ""


def parse_item(kind: CollateralKind, content: bytes, *, what: str) -> Item:
    """Parse content of a known kind.

    Raises:
        ParseError: it is something else, or not canonical.
    """
    return _PARSERS[kind](kind, content, what)


def _certificate(kind: CollateralKind, content: bytes, what: str) -> Item:
    found = parse_certificate(content, what=what)
    name = _leaf_name(found) or (
        f"{found.common_name or 'certificate'} {hashlib.sha256(found.spki).hexdigest()[:_SHORT]}"
    )
    return Item(kind, _printable(name), content, found.not_before, found.not_after, found)


def _crl(kind: CollateralKind, content: bytes, what: str) -> Item:  # noqa: ARG001 - as its siblings
    found = parse_crl(content)
    names = found.revoked.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if names else hashlib.sha256(found.issuer).hexdigest()[:_SHORT]
    return Item(kind, _printable(name), content, found.this_update, found.next_update, found)


def _intel(kind: CollateralKind, content: bytes, what: str) -> Item:
    found = parse_intel(kind, content, what=what)
    return Item(kind, found.name, content, found.issued, found.next_update, found)


def _deny_list(kind: CollateralKind, content: bytes, what: str) -> Item:  # noqa: ARG001
    found = parse_deny_list(content)
    return Item(kind, found.name, content, None, None, found)


def _enrolment(kind: CollateralKind, content: bytes, what: str) -> Item:  # noqa: ARG001
    found = parse_enrolment(content)
    return Item(kind, f"AK {found.ak_name.hex()}", content, found.enrolled_at, None, found)


def _rim(kind: CollateralKind, content: bytes, what: str) -> Item:  # noqa: ARG001
    found = parse_rim(content)
    return Item(kind, found.id, content, found.ingested_at, None, found)


def _key_denials(kind: CollateralKind, content: bytes, what: str) -> Item:  # noqa: ARG001
    found = parse_key_denials(content)
    return Item(kind, "denied keys", content, found.this_update, found.next_update, found)


_PARSERS: dict[CollateralKind, Callable[[CollateralKind, bytes, str], Item]] = {
    CollateralKind.CERTIFICATE: _certificate,
    CollateralKind.EK_ROOT: _certificate,
    CollateralKind.AK_ROOT: _certificate,
    CollateralKind.CRL: _crl,
    CollateralKind.ENROLMENT: _enrolment,
    CollateralKind.KEY_DENIALS: _key_denials,
    CollateralKind.RIM: _rim,
    CollateralKind.TCB_INFO: _intel,
    CollateralKind.QE_IDENTITY: _intel,
    CollateralKind.DENY_LIST: _deny_list,
}


def snp_leaf(certificate: Certificate) -> tuple[EndorsementKeyKind, Product, LeafFacts] | None:
    """What a VCEK or VLEK is for, by its own word; None for any other certificate."""
    for signing_key in (EndorsementKeyKind.VCEK, EndorsementKeyKind.VLEK):
        if certificate.common_name != leaf_name(signing_key):
            continue
        for product in Product:
            if certificate.issuer_common_name == intermediate_name(product, signing_key):
                try:
                    return signing_key, product, read_leaf(certificate, product, signing_key)
                except RegaliaError:
                    return None
    return None


def _leaf_name(certificate: Certificate) -> str:
    """Chip and TCB of a VCEK, cloud and TCB of a VLEK; empty for other certificates."""
    found = snp_leaf(certificate)
    if found is None:
        return ""
    signing_key, product, facts = found
    whose = facts.csp_id if facts.hwid is None else f"chip {facts.hwid.hex()[:_SHORT]}"
    return f"{signing_key.name} {product} {whose} TCB {facts.tcb.hex()}"


def _printable(name: str) -> str:
    """Names come from certificates, and stand in a format that takes printable ASCII only."""
    text = "".join(char if " " <= char <= "~" else "?" for char in name).strip()
    return text[: NAME_MAX - 5].strip() or "unnamed"


def distinct(items: Iterable[Item]) -> tuple[Item, ...]:
    """Sorted by kind and name, each content once; a name that comes again gets a number."""
    by_content = {(item.kind, item.content): item for item in items}
    ordered = sorted(
        by_content.values(), key=lambda item: (item.kind.value, item.name, item.content)
    )
    seen: Counter[tuple[CollateralKind, str]] = Counter()
    named = []
    for item in ordered:
        seen[item.kind, item.name] += 1
        count = seen[item.kind, item.name]
        named.append(item if count == 1 else replace(item, name=f"{item.name} #{count}"))
    return tuple(sorted(named, key=lambda item: (item.kind.value, item.name)))
