"""The broker's collateral: a folder of loose files, or a signed bundle that never goes back."""

from __future__ import annotations

import stat
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regalia.broker.state import COLLATERAL_FLOORS, state
from regalia.core.errors import CoreCode, UsageError
from regalia.crypto.dsse import LIMIT
from regalia.host.events import ServiceEvent, emit
from regalia.host.localfs import os_errors, read_file, read_folder
from regalia.policy.documents import COLLATERAL_GRACE_MAX_DAYS
from regalia.verifier.collateral import (
    COLLATERAL_ENDINGS,
    COLLATERAL_FILE_MAX,
    COLLATERAL_FILES_MAX,
    NO_FLOOR,
    Floor,
    parse_collateral,
    verify_bundle,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy.engine import Connection, Engine

    from regalia.broker.config import AttestSection
    from regalia.crypto.sign import VerifyKey
    from regalia.policy.documents import ReleasePolicy
    from regalia.verifier.collateral import CollateralSet, VerifiedBundle


def read_collateral(folder: Path) -> CollateralSet:
    """Loose files of a folder, sorted by what they hold.

    Raises:
        LocalError: the folder cannot be read, or holds too many files.
        ParseError: a file holds nothing that is collateral.
    """
    files = read_folder(
        folder, endings=COLLATERAL_ENDINGS, limit=COLLATERAL_FILE_MAX, most=COLLATERAL_FILES_MAX
    )
    return parse_collateral(files)


def read_bundle(
    path: Path, section: AttestSection, signers: tuple[VerifyKey, ...], now: datetime
) -> VerifiedBundle:
    """A signed bundle, in date or late by no more than any policy may tolerate.

    Args:
        path: of the bundle.
        section: how late it may be, and what it must be for.
        signers: who may have signed it.
        now: aware.

    Raises:
        UsageError: BAD_CONFIG, who may sign it or what it is for is not said.
        LocalError: it cannot be read.
        RegaliaError: it does not verify; see ``verify_bundle``.
    """
    if not signers or section.collateral_name is None:
        raise UsageError(
            CoreCode.BAD_CONFIG,
            f"attest.collateral {path} is a file, so attest.collateral_signers and "
            "attest.collateral_name must say whose bundle it is",
        )
    return verify_bundle(
        read_file(path, limit=LIMIT),
        name=section.collateral_name,
        signers=signers,
        threshold=section.collateral_threshold,
        floor=NO_FLOOR,
        now=now,
        grace=timedelta(days=COLLATERAL_GRACE_MAX_DAYS),
    )


def is_folder(path: Path, section: AttestSection) -> bool:
    """Whether collateral is loose files. Where signers are named, nothing unsigned counts.

    Args:
        path: a folder of loose files, or a bundle.
        section: says who must have signed.

    Raises:
        UsageError: BAD_CONFIG. LocalError: there is nothing at ``path``.
    """
    with os_errors(path):
        folder = stat.S_ISDIR(path.stat().st_mode)
    if folder and section.collateral_signers:
        raise UsageError(
            CoreCode.BAD_CONFIG,
            f"attest.collateral_signers are named, and attest.collateral {path} is a folder of "
            "files that nobody signed",
        )
    return folder


def longest_grace(policies: Iterable[ReleasePolicy]) -> timedelta:
    """The most that any policy tolerates."""
    days = (policy.platform.dangerous_collateral_grace_days for policy in policies)
    return timedelta(days=max(days, default=0))


class CollateralFloors:
    """Remembers the newest bundle of each name, in the broker's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def raise_to(self, bundle: VerifiedBundle) -> None:
        """Adopt a bundle, at the start.

        Raises:
            AttestationError: COLLATERAL_ROLLBACK.
            UnavailableError: STATE_UNAVAILABLE.
        """
        name, floor = bundle.document.name, bundle.floor
        values = {
            "name": name,
            "serial": floor.serial,
            "digest": floor.digest,
            "tcb_evaluation_data_number": floor.tcb_evaluation_data_number,
        }
        with state(self._engine, writes=True) as connection:
            seen = _floor(connection, name)
            seen.require(bundle.document, bundle.digest)
            if seen is NO_FLOOR:
                connection.execute(COLLATERAL_FLOORS.insert().values(values))
            else:
                update = COLLATERAL_FLOORS.update().where(COLLATERAL_FLOORS.c.name == name)
                connection.execute(update.values(values))
        emit(
            ServiceEvent.COLLATERAL_LOADED,
            name=name,
            serial=floor.serial,
            digest=floor.digest,
            next_update=bundle.document.next_update,
            freshness=bundle.freshness.value,
            signed_by=list(bundle.signed_by),
        )


def _floor(connection: Connection, name: str) -> Floor:
    query = sa.select(COLLATERAL_FLOORS).where(COLLATERAL_FLOORS.c.name == name)
    row = connection.execute(query.with_for_update()).first()
    if row is None:
        return NO_FLOOR
    return Floor(row.serial, row.digest, row.tcb_evaluation_data_number)
