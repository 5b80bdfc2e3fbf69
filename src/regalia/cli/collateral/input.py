"""What the collateral commands read: folders of loose files, and evidence files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError, UsageError
from regalia.host.localfs import os_errors, read_file, read_folder

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.verifier.collateral import Item
    from regalia.wire.evidence import Evidence

INSTALLED = "collateral.bundle"  # in a folder that `collateral import` keeps
XML_ENDINGS = (".xml", ".swidtag")  # of NVIDIA's reference integrity manifests


def installed_bundle(path: Path) -> Path:
    """The current bundle of a folder that ``collateral import`` keeps; any other path as it is.

    Raises:
        LocalError: the folder cannot be looked into.
    """
    with os_errors(path):
        kept = path / INSTALLED
        return kept if kept.is_file() else path


def read_items(folder: Path, *, now: datetime) -> tuple[Item, ...]:
    """The loose files of a folder; NVIDIA's XML is verified and taken in as reference values.

    Args:
        folder: of loose files.
        now: at which signatures must hold, aware.

    Raises:
        UsageError: there is XML, and the extra that reads it is not installed.
        ParseError, AttestationError: a file is no collateral, or its XML does not verify.
        LocalError: a file cannot be read.
    """
    from regalia.client.collateral import read_loose
    from regalia.verifier.collateral import COLLATERAL_FILE_MAX, COLLATERAL_FILES_MAX, sort_files

    files = read_loose(folder)
    manifests = read_folder(
        folder, endings=XML_ENDINGS, limit=COLLATERAL_FILE_MAX, most=COLLATERAL_FILES_MAX
    )
    for path, data in manifests.items():
        rim_id = Path(path).stem
        files[f"{path}.json"] = ingest_xml(data, rim_id=rim_id, now=now)
    return sort_files(files)


def ingest_xml(data: bytes, *, rim_id: str, now: datetime) -> bytes:
    """NVIDIA's signed XML as a document of reference values, ``regalia/rim/v1``.

    Args:
        data: raw, untrusted.
        rim_id: its identifier at NVIDIA's service, which a file has for its name.
        now: the signer's certificate must be valid then.

    Raises:
        UsageError: PLUGIN_UNKNOWN, the extra ``ingest`` is not installed.
        ParseError, AttestationError: it does not verify.
    """
    try:
        from regalia.tees.nvidia.evidence.anchors import RimAnchors
        from regalia.tees.nvidia.evidence.rim_xml import ingest_rim
    except ImportError as exc:
        raise UsageError(
            CoreCode.PLUGIN_UNKNOWN,
            f"{rim_id}: to read NVIDIA's XML, install the extra `ingest` (lxml, signxml)",
        ) from exc
    return ingest_rim(data, rim_id=rim_id, anchors=RimAnchors.production(), now=now).encode()


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
