"""The roots that a relying party trusts, of every vendor."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from regalia.verifier.registry import VENDORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from regalia.appraisal.evidence_plugin import Anchors

A = TypeVar("A")


@dataclass(frozen=True, slots=True, init=False)
class TrustAnchors:
    """Pinned roots by vendor; no evidence is trusted of a vendor that is not there.

    Anchors of simulated roots are made by regalia_testing alone (``host.plugins``).

    TPM makers are many and none is pinned: their roots are in the operator's collateral.
    """

    by_vendor: Mapping[str, Anchors]

    def __init__(self, **by_vendor: Anchors) -> None:
        """Those of some vendors, by the names that ``VENDORS`` have.

        Raises:
            TypeError: there is no such vendor (the caller's bug).
        """
        unknown = by_vendor.keys() - {vendor.name for vendor in VENDORS}
        if unknown:
            raise TypeError(f"no vendor is called {', '.join(sorted(unknown))}")
        object.__setattr__(self, "by_vendor", MappingProxyType(by_vendor))

    def of(self, kind: type[A]) -> A | None:
        """Those of one vendor, by their class; None if it is not trusted."""
        return next((each for each in self.by_vendor.values() if isinstance(each, kind)), None)

    @classmethod
    def production(cls) -> Self:
        """The vendors' own roots: claims say ``hardware: genuine``."""
        return cls(**{vendor.name: vendor.anchors.production() for vendor in VENDORS})


class MakeSimulatedAnchors(Protocol):
    """What the plug-in group ``regalia.simulated_anchors`` holds."""

    def __call__(self, roots: Sequence[bytes]) -> TrustAnchors:
        """Trust these roots (DER) and no others: claims say ``hardware: simulated``.

        Raises:
            ParseError: one is not a certificate.
            AttestationError: there is none, two are of one vendor, or one is not named like the
                root of a vendor.
        """
