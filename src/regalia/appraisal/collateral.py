"""Collateral as every vendor's verifier gets it, and what a vendor says about its own kinds.

All of it is untrusted until a verifier chains it to its anchors.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regalia.appraisal.pki import parse_certificate
from regalia.wire.collateral import NAME_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from regalia.wire.collateral import CollateralKind

_SHORT = 16  # hex digits of a digest in a name


@dataclass(frozen=True, slots=True)
class GivenCollateral:
    """What an operator provides, by kind.

    Attributes:
        certificates: DER, in the order of the items; without ``leaves``.
        crls: DER.
        documents: exact bytes of everything else.
        leaves: certificates of single machines, DER: a fleet has many, and each is wanted for
            one machine only.
    """

    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    documents: Mapping[CollateralKind, tuple[bytes, ...]] = field(default_factory=dict)
    leaves: tuple[bytes, ...] = ()

    def of(self, kind: CollateralKind) -> tuple[bytes, ...]:
        """The documents of one kind."""
        return self.documents.get(kind, ())


@dataclass(frozen=True, slots=True)
class Item:
    """A piece of collateral: parsed as what it claims to be, with the dates it carries.

    Attributes:
        name: for people; the same for its successor.
        content: exact bytes.
        valid_from, valid_until: None if the content names no date.
        parsed: what the content is.
        source: where it came from, for people.
        leaf: whether it is a certificate of a single machine.
        tcb_evaluation_data_number: of a document that has one, which a bundle's floor is about.
    """

    kind: CollateralKind
    name: str
    content: bytes
    valid_from: datetime | None
    valid_until: datetime | None
    parsed: object
    source: str = ""
    leaf: bool = False
    tcb_evaluation_data_number: int | None = None


@dataclass(frozen=True, slots=True)
class LeafName:
    """What a vendor calls a certificate of its own.

    Attributes:
        name: for people.
        machine: whether it is for a single machine.
    """

    name: str
    machine: bool


def certificate_item(
    kind: CollateralKind, content: bytes, what: str, *, leaf: LeafName | None = None
) -> Item:
    """A certificate, under a vendor's name or its own.

    Args:
        kind: a plain certificate, or a root that is trusted for something.
        content: DER, untrusted.
        what: for messages.
        leaf: what a vendor calls it.

    Raises:
        ParseError: it is something else.
    """
    found = parse_certificate(content, what=what)
    name = leaf.name if leaf else ""
    name = name or (
        f"{found.common_name or 'certificate'} {hashlib.sha256(found.spki).hexdigest()[:_SHORT]}"
    )
    machine = leaf is not None and leaf.machine
    return Item(
        kind, printable(name), content, found.not_before, found.not_after, found, leaf=machine
    )


def printable(name: str) -> str:
    """Names come from certificates, and stand in a format that takes printable ASCII only."""
    text = "".join(char if " " <= char <= "~" else "?" for char in name).strip()
    return text[: NAME_MAX - 5].strip() or "unnamed"


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that a verifier will look for.

    Attributes:
        what: for people, with the chip, TCB or product that it must be for.
        where: ``evidence`` or ``collateral``; empty if it is missing.
    """

    kind: CollateralKind
    what: str
    where: str


def provided(kind: CollateralKind, what: str, *, have: bool) -> Need:
    """A need that only collateral can meet.

    Args:
        kind: of collateral.
        what: it is needed for, for people.
        have: whether it is at hand.
    """
    return Need(kind, what, "collateral" if have else "")
