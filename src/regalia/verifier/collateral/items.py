"""One piece of collateral: read as what it claims to be, by whoever knows that kind."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from cryptography.x509.oid import NameOID

from regalia.appraisal.collateral import Item, certificate_item, printable
from regalia.appraisal.pki import parse_certificate, parse_crl
from regalia.verifier.registry import VENDORS
from regalia.wire.collateral import CollateralKind
from regalia.wire.deny_list import parse_deny_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from regalia.appraisal.evidence_plugin import ReadItem

_SHORT = 16  # hex digits of a digest in a name


def parse_item(kind: CollateralKind, content: bytes, *, what: str) -> Item:
    """Parse content of a known kind.

    Args:
        kind: that the content claims to be.
        content: untrusted.
        what: names it in the error.

    Raises:
        ParseError: it is something else, or not canonical.
    """
    return READERS[kind](kind, content, what)


def _certificate(kind: CollateralKind, content: bytes, what: str) -> Item:
    found = parse_certificate(content, what=what)
    names = (vendor.leaf_name(found) for vendor in VENDORS if vendor.leaf_name is not None)
    leaf = next((name for name in names if name is not None), None)
    return certificate_item(kind, content, what, leaf=leaf)


def _crl(kind: CollateralKind, content: bytes, what: str) -> Item:  # noqa: ARG001 - as its siblings
    found = parse_crl(content)
    names = found.revoked.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if names else hashlib.sha256(found.issuer).hexdigest()[:_SHORT]
    return Item(kind, printable(name), content, found.this_update, found.next_update, found)


def _deny_list(kind: CollateralKind, content: bytes, what: str) -> Item:  # noqa: ARG001
    found = parse_deny_list(content)
    return Item(kind, found.name, content, None, None, found)


READERS: Mapping[CollateralKind, ReadItem] = MappingProxyType(
    {
        CollateralKind.CERTIFICATE: _certificate,
        CollateralKind.CRL: _crl,
        CollateralKind.DENY_LIST: _deny_list,
        **{kind: read for vendor in VENDORS for kind, read in vendor.items.items()},
    }
)


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
