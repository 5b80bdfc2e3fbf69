"""Loads the broker's collateral: a folder of loose files, or a signed bundle.

The newest bundle of each site is remembered in the database, so that an older one is refused.
"""

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
from regalia.tlog.database import one_creates
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
    """Read the loose files of a folder, and sort their contents by kind.

    Raises:
        LocalError: the folder cannot be read, or holds too many files.
        ParseError: a file contains no collateral.
    """
    files = read_folder(
        folder, endings=COLLATERAL_ENDINGS, limit=COLLATERAL_FILE_MAX, most=COLLATERAL_FILES_MAX
    )
    return parse_collateral(files)


def read_bundle(
    path: Path, section: AttestSection, signers: tuple[VerifyKey, ...], now: datetime
) -> VerifiedBundle:
    """Read and verify a signed bundle.

    It may be out of date by the longest grace that any policy can set, because the policies are
    not loaded yet; ``CollateralSet.require_fresh`` applies their own grace afterwards.

    Args:
        path: file of the bundle.
        section: names the site that the bundle must be for, and the signature threshold.
        signers: keys whose signatures count.
        now: current time, timezone-aware.

    Raises:
        UsageError: BAD_CONFIG, the configuration names no signers or no site.
        LocalError: the file cannot be read.
        RegaliaError: the bundle does not verify; see ``verify_bundle``.
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
        floor=NO_FLOOR,  # the database's floor is applied by ``CollateralFloors.raise_to``
        now=now,
        grace=timedelta(days=COLLATERAL_GRACE_MAX_DAYS),
    )


def is_folder(path: Path, section: AttestSection) -> bool:
    """Whether the collateral is a folder of loose files rather than a signed bundle.

    Args:
        path: a folder of loose files, or the file of a bundle.
        section: names the signers, if a bundle is required.

    Raises:
        UsageError: BAD_CONFIG, signers are named, so unsigned files must not be used.
        LocalError: there is no file or folder at ``path``.
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
    """The longest grace for outdated collateral that any of the policies allows."""
    days = (policy.platform.dangerous_collateral_grace_days for policy in policies)
    return timedelta(days=max(days, default=0))


class CollateralFloors:
    """Remembers the newest bundle of each site in the broker's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def raise_to(self, bundle: VerifiedBundle) -> None:
        """Adopt a bundle at the start of the broker.

        Raises:
            AttestationError: COLLATERAL_ROLLBACK, a newer bundle was adopted before.
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
            one_creates(connection)
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
