"""Collateral that a vendor has online: which services, and who asks them.

Evidence is verified without a network, so a plug-in only names the function that fetches: the
command line imports it. Nobody else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from regalia.appraisal.collateral import GivenCollateral

A = TypeVar("A")  # anchors


@dataclass(frozen=True, slots=True)
class CollateralService:
    """A vendor's service. It is asked only at an address that an operator gives.

    Attributes:
        option: of ``regalia collateral fetch`` that takes the address, without its dashes.
        about: what it is, for the option's help.
        public: the vendor's own address, which the help shows.
    """

    option: str
    about: str
    public: str


@dataclass(frozen=True, slots=True)
class OnlineCollateral:
    """Where collateral for one kind of evidence can be had.

    Attributes:
        services: that are asked.
        fetch: ``module:function``. The function gets all evidence of one machine that names it, as
            a list, and a ``FetchContext``. It returns contents by file name, verified, or raises
            UsageError, UnavailableError, ParseError or AttestationError.
    """

    services: tuple[CollateralService, ...]
    fetch: str


@dataclass(frozen=True, slots=True)
class FetchContext(Generic[A]):
    """What a function that fetches works with.

    Attributes:
        ask: the ``host.fetch.VendorService`` at the operator's address; raises UsageError if the
            operator gave none.
        anchors: the vendor's roots, under which answers must verify; None if none are trusted.
        read: files as collateral; raises ParseError.
        now: at which answers must be valid, aware.
    """

    ask: Callable[[CollateralService], Any]
    anchors: A | None
    read: Callable[[Mapping[str, bytes]], GivenCollateral]
    now: datetime
