"""What the collateral commands read: folders of loose files, and evidence files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError
from regalia.host.localfs import os_errors, read_file, read_folder

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.online_collateral import CollateralService
    from regalia.appraisal.vendor import SignedFiles
    from regalia.verifier.collateral import Item
    from regalia.wire.evidence import Evidence

INSTALLED = "collateral.bundle"  # in a folder that `collateral import` keeps


def installed_bundle(path: Path) -> Path:
    """The current bundle of a folder that ``collateral import`` keeps; any other path as it is.

    Raises:
        LocalError: the folder cannot be looked into.
    """
    with os_errors(path):
        kept = path / INSTALLED
        return kept if kept.is_file() else path


def read_items(folder: Path, *, now: datetime) -> tuple[Item, ...]:
    """The loose files of a folder; what vendors sign in forms of their own is verified.

    Args:
        folder: of loose files.
        now: at which signatures must hold, aware.

    Raises:
        UsageError: an extra that reads a vendor's form is not installed.
        ParseError, AttestationError: a file is no collateral, or does not verify.
        LocalError: a file cannot be read.
    """
    from regalia.client.collateral import read_loose
    from regalia.verifier.collateral import COLLATERAL_FILE_MAX, COLLATERAL_FILES_MAX, sort_files

    files = read_loose(folder)
    for form in signed_files():
        found = read_folder(
            folder, endings=form.endings, limit=COLLATERAL_FILE_MAX, most=COLLATERAL_FILES_MAX
        )
        for path, data in found.items():
            files[f"{path}.json"] = form.ingest(data, devices=(), name=Path(path).stem, now=now)
    return sort_files(files)


def signed_files() -> tuple[SignedFiles, ...]:
    """Forms of their own in which vendors sign collateral."""
    from regalia.verifier.registry import VENDORS

    return tuple(vendor.signed_files for vendor in VENDORS if vendor.signed_files is not None)


def collateral_services() -> tuple[CollateralService, ...]:
    """Services that the plug-ins name, each once."""
    from regalia.verifier.registry import PLUGINS

    named = (service for plugin in PLUGINS if plugin.online for service in plugin.online.services)
    return tuple(dict.fromkeys(named))


def read_evidence_file(path: Path) -> Evidence:
    """Evidence of a CPU in any form that is known. Raw, untrusted.

    Raises:
        ParseError, LocalError: it cannot be read.
    """
    from regalia.inspect.recognize import LIMIT, recognize

    found = recognize(read_file(path, limit=LIMIT))
    if found.evidence is None:
        raise ParseError(CoreCode.MALFORMED, f"{path}: {found.form}, without the CPU's evidence")
    return found.evidence
