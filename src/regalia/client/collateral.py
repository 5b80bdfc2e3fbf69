"""Loads a client's collateral: a folder of loose files, or a signed bundle.

The highest serial number that was seen so far is kept in ``collateral-floor.json``, in a folder
that the user chooses, so that an older bundle is refused. Losing that file would lose this
rollback protection, so it belongs to the client's settings and not beside downloaded files.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from regalia.appraisal.codes import AttestCode
from regalia.core.codec import canonical_json, parse_json
from regalia.core.errors import AttestationError, CoreCode, LocalError, ParseError, UsageError
from regalia.crypto.dsse import LIMIT
from regalia.host.clock import system_clock
from regalia.host.localfs import os_errors, read_file, read_folder, replace_file
from regalia.policy.documents import COLLATERAL_GRACE_MAX_DAYS
from regalia.verifier.collateral import (
    COLLATERAL_ENDINGS,
    COLLATERAL_FILE_MAX,
    COLLATERAL_FILES_MAX,
    NO_FLOOR,
    CollateralSet,
    Floor,
    parse_collateral,
    verify_bundle,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from regalia.crypto.sign import VerifyKey
    from regalia.host.clock import Clock
    from regalia.verifier.collateral import VerifiedBundle

FLOOR_FORMAT = "regalia/collateral-floor/v1"
FLOOR_FILE = "collateral-floor.json"
_FLOOR_LIMIT = 4096  # bytes
# The longest grace that a policy can set. Each appraisal applies the grace of its own policy.
_GRACE_MAX = timedelta(days=COLLATERAL_GRACE_MAX_DAYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSource:
    """Location of a bundle, and the requirements that it must meet.

    Attributes:
        path: file of the bundle.
        signers: keys whose signatures count; an empty tuple refuses every bundle.
        threshold: number of signers that must have signed.
        name: the site that the bundle must be for.
        state: folder that holds the newest serial number.
    """

    path: Path
    signers: tuple[VerifyKey, ...]
    threshold: int
    name: str
    state: Path


def load_collateral(
    source: Path | BundleSource | None, *, clock: Clock = system_clock
) -> CollateralSet:
    """Read collateral. Loose files are untrusted: the verifier checks their own signatures.

    Args:
        source: a folder of loose files, a bundle, or None if all collateral comes with evidence.
        clock: current time, at which a bundle must be in date or late by no more than the
            longest grace that a policy can set.

    Raises:
        UsageError: BAD_USAGE, the path of a file was given without the signers of a bundle.
        ParseError, LocalError: a file is malformed or cannot be read.
        RegaliaError: the bundle does not verify; see ``verify_bundle``.
    """
    if source is None:
        return CollateralSet((), ())
    if isinstance(source, BundleSource):
        return load_bundle(source, now=clock(), grace=_GRACE_MAX).collateral
    if source.is_file():
        raise UsageError(
            CoreCode.BAD_USAGE,
            f"{source} is a file: want a folder of loose files, or a signed bundle. To use a "
            "bundle, say who must have signed it, for which site it is, and where to remember its "
            "serial number (--collateral-signer, --collateral-name, --collateral-state)",
        )
    return parse_collateral(read_loose(source))


def read_loose(folder: Path) -> dict[str, bytes]:
    """Read the files of a folder whose names end like collateral's. Raises LocalError."""
    return read_folder(
        folder, endings=COLLATERAL_ENDINGS, limit=COLLATERAL_FILE_MAX, most=COLLATERAL_FILES_MAX
    )


def load_bundle(source: BundleSource, *, now: datetime, grace: timedelta) -> VerifiedBundle:
    """Verify a bundle, and raise the remembered floor to it.

    Args:
        source: location of the bundle, and the requirements that it must meet.
        now: current time, timezone-aware.
        grace: how long after its ``next_update`` the bundle is still accepted.

    Raises:
        ParseError, LocalError, RegaliaError: as ``load_collateral``.
    """
    data = read_file(source.path, limit=LIMIT)
    # One lock around reading, comparing and writing: two processes could otherwise both pass an
    # old floor, and the slower one would lower it again.
    with FloorFile.locked(source.state) as floors:
        bundle = verify_bundle(
            data,
            name=source.name,
            signers=source.signers,
            threshold=source.threshold,
            floor=floors.read(source.name),
            now=now,
            grace=grace,
        )
        floors.raise_to(bundle)
    return bundle


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    digest: str
    format: str
    name: str
    serial: int
    tcb_evaluation_data_number: int


@dataclass(frozen=True, slots=True)
class FloorFile:
    """The file that remembers the newest bundle of one site. Use it only under its lock."""

    folder: Path

    @classmethod
    @contextmanager
    def locked(cls, folder: Path) -> Iterator[FloorFile]:
        """Lock the folder against other processes that use the floor. Raises LocalError."""
        with os_errors(folder):
            if not folder.is_dir():
                raise LocalError(CoreCode.NOT_A_DIRECTORY, f"{folder} is no directory")
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with os_errors(folder):
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield cls(folder)
        finally:
            os.close(fd)

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.folder / FLOOR_FILE

    def name(self) -> str | None:
        """Name of the site whose bundles are remembered; None if no bundle was seen yet.

        Raises:
            ParseError: the file is damaged. Ignoring it would lose the rollback protection.
            LocalError: the file cannot be read.
        """
        wire = self._read()
        return None if wire is None else wire.name

    def read(self, name: str) -> Floor:
        """Read the floor of this site; ``NO_FLOOR`` if no bundle was seen yet.

        Raises:
            ParseError, LocalError: as ``name``.
            AttestationError: COLLATERAL_MISSING, the file belongs to another site.
        """
        wire = self._read()
        if wire is None:
            return NO_FLOOR
        if wire.name != name:
            raise AttestationError(
                AttestCode.COLLATERAL_MISSING,
                f"{self.folder} remembers bundles for {wire.name!r}, not for {name!r}",
            )
        return Floor(wire.serial, wire.digest, wire.tcb_evaluation_data_number)

    def _read(self) -> _Wire | None:
        with os_errors(self.path):
            if not self.path.exists():
                return None
        data = read_file(self.path, limit=_FLOOR_LIMIT)
        wire = parse_json(data, _Wire, limit=_FLOOR_LIMIT, what=str(self.path))
        if wire.format != FLOOR_FORMAT or wire.serial < 1:
            raise ParseError(CoreCode.MALFORMED, f"{self.path}: not a {FLOOR_FORMAT}")
        return wire

    def raise_to(self, bundle: VerifiedBundle) -> None:
        """Remember a bundle that passed the floor. Raises LocalError."""
        # An unchanged file is not written again, so that an unchanged bundle works on a read-only
        # file system.
        floor = bundle.floor
        wire = _Wire(
            digest=floor.digest,
            format=FLOOR_FORMAT,
            name=bundle.document.name,
            serial=floor.serial,
            tcb_evaluation_data_number=floor.tcb_evaluation_data_number,
        )
        data = canonical_json(wire)
        if not self.path.exists() or read_file(self.path, limit=_FLOOR_LIMIT) != data:
            replace_file(self.path, data)
