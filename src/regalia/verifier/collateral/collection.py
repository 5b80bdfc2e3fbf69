"""Collateral in memory, by kind: what each vendor's verifier takes its part from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regalia.appraisal.collateral import GivenCollateral
from regalia.appraisal.pki import Certificate
from regalia.verifier.collateral.deny import DenyIndex
from regalia.verifier.collateral.freshness import Freshness
from regalia.wire.collateral import CollateralKind
from regalia.wire.deny_list import DenyList

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

    from regalia.appraisal.collateral import Item
    from regalia.verifier.collateral.freshness import Validity


@dataclass(frozen=True, slots=True)
class CollateralSet(GivenCollateral):
    """Everything that an operator provides, untrusted until a verifier chains it to its anchors.

    Certificates that the operator's own deny-lists name are left out. What a root is trusted for
    is said by a file's name or by the signed bundle, never guessed.

    Attributes:
        denied: the site's own revocations.
        validity: dates of the bundle that it came in; None for loose files.
    """

    denied: DenyIndex = field(default_factory=DenyIndex)
    validity: Validity | None = None

    def require_fresh(self, now: datetime, grace: timedelta) -> Freshness:
        """The bundle that all of it came in is in date, or late by no more than ``grace``.

        Loose files have only the dates of their own, which the verifiers look at.

        Args:
            now: the moment of the appraisal, aware.
            grace: how long a bundle counts after its next update.

        Raises:
            AttestationError: COLLATERAL_STALE.
        """
        return Freshness.CURRENT if self.validity is None else self.validity.require(now, grace)

    def with_loose(self, loose: CollateralSet) -> CollateralSet:
        """Also what somebody gave by hand; this set's dates and deny-lists stay as they are."""
        kinds = (*self.documents, *loose.documents)
        return replace(
            self,
            certificates=self.certificates + loose.certificates,
            crls=self.crls + loose.crls,
            documents={kind: self.of(kind) + loose.of(kind) for kind in kinds},
            leaves=self.leaves + loose.leaves,
        )


def collect(items: Iterable[Item], *, validity: Validity | None = None) -> CollateralSet:
    """Put items in their places.

    Args:
        items: parsed.
        validity: of the bundle that they came in; None for loose files.
    """
    items = tuple(items)
    denied = DenyIndex.of(i.parsed for i in items if isinstance(i.parsed, DenyList))
    pool = [item.parsed for item in items if isinstance(item.parsed, Certificate)]
    leaves: list[bytes] = []
    by_kind: dict[CollateralKind, list[bytes]] = {}
    for item in items:
        if isinstance(item.parsed, Certificate) and denied.reason_against(item.parsed, pool):
            continue
        place = leaves if item.leaf else by_kind.setdefault(item.kind, [])
        place.append(item.content)
    documents = {kind: tuple(contents) for kind, contents in by_kind.items()}
    return CollateralSet(
        certificates=documents.pop(CollateralKind.CERTIFICATE, ()),
        crls=documents.pop(CollateralKind.CRL, ()),
        documents=documents,
        leaves=tuple(leaves),
        denied=denied,
        validity=validity,
    )
