"""A client's collateral: loose files of a folder, or a signed bundle that never goes back.

The newest serial number that was ever seen is kept in ``collateral-floor.json``, in a folder that
the operator gives. Losing that file forgets the floor, so it belongs where the client's own
settings are, and not beside what is downloaded.
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
# The most that a policy may tolerate; what it does tolerate is asked at each appraisal.
_GRACE_MAX = timedelta(days=COLLATERAL_GRACE_MAX_DAYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSource:
    """Where a bundle is, and whose it must be.

    Attributes:
        path: the bundle.
        signers: whose signatures count; none denies.
        threshold: how many of them must have signed.
        name: the site that it must be for.
        state: folder in which the newest serial number is remembered.
    """

    path: Path
    signers: tuple[VerifyKey, ...]
    threshold: int
    name: str
    state: Path


def load_collateral(
    source: Path | BundleSource | None, *, clock: Clock = system_clock
) -> CollateralSet:
    """Read collateral. Nothing of loose files is trusted by being there.

    Args:
        source: a folder of loose files, a bundle, or None if everything comes with evidence.
        clock: tells when a bundle must be in date, or late by no more than any policy may
            tolerate.

    Raises:
        UsageError: BAD_USAGE, a file was given and nobody was named who may have signed it.
        ParseError, LocalError: something is malformed, or cannot be read.
        RegaliaError: the bundle does not verify; see ``verify_bundle``.
    """
    if source is None:
        return CollateralSet((), ())
    if isinstance(source, BundleSource):
        return load_bundle(source, now=clock(), grace=_GRACE_MAX).collateral
    if source.is_file():
        raise UsageError(
            CoreCode.BAD_USAGE,
            f"{source} is a file: to use a bundle, say who must have signed it, for which site it "
            "is, and where to remember its serial number",
        )
    return parse_collateral(read_loose(source))


def read_loose(folder: Path) -> dict[str, bytes]:
    """The files of a folder that may be collateral. Raises LocalError."""
    return read_folder(
        folder, endings=COLLATERAL_ENDINGS, limit=COLLATERAL_FILE_MAX, most=COLLATERAL_FILES_MAX
    )


def load_bundle(source: BundleSource, *, now: datetime, grace: timedelta) -> VerifiedBundle:
    """Verify a bundle, and remember it if it is newer than all before.

    Raises:
        ParseError, LocalError, RegaliaError: as ``load_collateral``.
    """
    data = read_file(source.path, limit=LIMIT)
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
    """The newest bundle of one site, in a file. Use it under its lock."""

    folder: Path

    @classmethod
    @contextmanager
    def locked(cls, folder: Path) -> Iterator[FloorFile]:
        """Keep other processes from reading or raising the floor meanwhile. Raises LocalError."""
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
        """The file."""
        return self.folder / FLOOR_FILE

    def name(self) -> str | None:
        """The site whose bundles are remembered; None if nothing was seen yet.

        Raises:
            ParseError: the file is damaged. It must then be looked at, not passed over.
            LocalError: it cannot be read.
        """
        wire = self._read()
        return None if wire is None else wire.name

    def read(self, name: str) -> Floor:
        """The floor of this site; ``NO_FLOOR`` if nothing was seen yet.

        Raises:
            ParseError, LocalError: as ``name``.
            AttestationError: COLLATERAL_MISSING, it is another site's.
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
