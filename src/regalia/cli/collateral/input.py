"""Input of the collateral commands: bundles, folders of loose files, evidence files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regalia.appraisal.collateral_rule import NO_GRACE
from regalia.client.collateral import read_loose
from regalia.core.clock import parse_rfc3339
from regalia.core.errors import CoreCode, ParseError
from regalia.host.localfs import os_errors, read_file, read_folder
from regalia.inspect.recognize import LIMIT, recognize
from regalia.verifier.collateral import (
    COLLATERAL_FILE_MAX,
    COLLATERAL_FILES_MAX,
    NO_FLOOR,
    peek_bundle,
    sort_files,
    verify_bundle,
)
from regalia.verifier.registry import PLUGINS, VENDORS

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.evidence_plugin import SignedFiles
    from regalia.appraisal.online_collateral import CollateralService
    from regalia.crypto.sign import VerifyKey
    from regalia.verifier.collateral import Floor, Item, VerifiedBundle
    from regalia.wire.evidence import Evidence

_WANTED = (
    "want a folder of certificates, revocation lists and vendors' documents, and no other file"
)
_OTHER_FOLDERS = {"config.json": "a model", "manifest.json": "a sealed model"}
INSTALLED = "collateral.bundle"  # in a folder that `collateral import` keeps


@dataclass(frozen=True, slots=True)
class Signers:
    """Who may have signed a bundle, and how many of them must have."""

    keys: tuple[VerifyKey, ...]
    threshold: int

    def verify(self, data: bytes, *, site: str, floor: Floor, now: datetime) -> VerifiedBundle:
        """``verify_bundle`` without grace. Args and Raises as ``verify_bundle``."""
        return verify_bundle(
            data,
            name=site,
            signers=self.keys,
            threshold=self.threshold,
            floor=floor,
            now=now,
            grace=NO_GRACE,
        )

    def verify_as_issued(self, data: bytes, site: str | None = None) -> VerifiedBundle:
        """Verify a bundle as of the moment when it was issued: it may be over by now.

        Args:
            data: a bundle, raw, untrusted.
            site: that it must be for; None for the one that it names.

        Raises as ``verify_bundle``.
        """
        document = peek_bundle(data).document
        site = document.name if site is None else site
        return self.verify(data, site=site, floor=NO_FLOOR, now=parse_rfc3339(document.issued))


def installed_bundle(path: Path) -> Path:
    """The current bundle of a folder that ``collateral import`` keeps; any other path as it is.

    Raises:
        LocalError: the folder cannot be looked into.
    """
    with os_errors(path):
        kept = path / INSTALLED
        return kept if kept.is_file() else path


def read_items(folder: Path, *, now: datetime) -> tuple[Item, ...]:
    """Read the loose files of a folder; verify those in a vendor's own signed form.

    Args:
        folder: of loose files.
        now: at which signatures must hold, aware.

    Raises:
        UsageError: an extra that reads a vendor's form is not installed.
        ParseError, AttestationError: a file is no collateral, or does not verify.
        LocalError: a file cannot be read.
    """
    try:
        return _sorted_items(folder, now)
    except ParseError as exc:
        seems = _folder_seems_to_be(folder)
        if seems is None:
            raise ParseError(exc.code, f"{exc.what} ({_WANTED})") from exc
        raise ParseError(CoreCode.WRONG_FILE, f"{folder} seems to be {seems}; {_WANTED}") from exc


def _folder_seems_to_be(folder: Path) -> str | None:
    for name, what in _OTHER_FOLDERS.items():
        if (folder / name).is_file():
            return what
    return None


def _sorted_items(folder: Path, now: datetime) -> tuple[Item, ...]:
    files = read_loose(folder)
    for form in signed_files():
        found = read_folder(
            folder, endings=form.endings, limit=COLLATERAL_FILE_MAX, most=COLLATERAL_FILES_MAX
        )
        for path, data in found.items():
            files[f"{path}.json"] = form.ingest(data, devices=(), name=Path(path).stem, now=now)
    return sort_files(files)


def signed_files() -> tuple[SignedFiles, ...]:
    """The vendors' own signed forms of collateral."""
    return tuple(vendor.signed_files for vendor in VENDORS if vendor.signed_files is not None)


def collateral_services() -> tuple[CollateralService, ...]:
    """Services that the plug-ins name, each once."""
    named = (service for plugin in PLUGINS if plugin.online for service in plugin.online.services)
    return tuple(dict.fromkeys(named))


def read_evidence_file(path: Path) -> Evidence:
    """Read evidence of a CPU in any known form. It is raw and untrusted.

    Raises:
        ParseError, LocalError: it cannot be read.
    """
    found = recognize(read_file(path, limit=LIMIT))
    if found.evidence is None:
        raise ParseError(CoreCode.MALFORMED, f"{path}: {found.form}, without the CPU's evidence")
    return found.evidence
