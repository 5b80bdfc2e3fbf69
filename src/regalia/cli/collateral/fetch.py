"""``regalia collateral fetch``: asks vendors, and verifies what they send before writing it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from regalia.appraisal.codes import AttestCode
from regalia.appraisal.online_collateral import FetchContext
from regalia.cli.collateral.input import read_evidence_file
from regalia.cli.output import show_json, show_table
from regalia.cli.policy.input import read_anchors
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError, CoreCode, UsageError
from regalia.host.clock import system_clock
from regalia.host.fetch import VendorService, open_client
from regalia.host.localfs import os_errors, read_file, replace_file
from regalia.verifier.collateral import (
    COLLATERAL_FILE_MAX,
    dates_of,
    parse_collateral,
    sort_files,
)
from regalia.verifier.registry import plugin_for
from regalia.wire.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    import httpx

    from regalia.appraisal.online_collateral import CollateralService
    from regalia.verifier.anchors import TrustAnchors
    from regalia.verifier.registry import Plugin
    from regalia.wire.evidence import DeviceEvidence


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """The command's options.

    Attributes:
        addresses: of services, by the names of their options; None may not be asked.
    """

    evidence: tuple[Path, ...]
    into: Path
    addresses: Mapping[str, str | None]
    dangerous_simulated_anchor: Path | None
    as_json: bool


def fetch_for(options: FetchOptions) -> None:
    """Fetch, verify, then write.

    Raises:
        UsageError: an address is needed and not given.
        UnavailableError: a service does not answer.
        ParseError, AttestationError: what it answered does not verify; nothing was written.
    """
    evidence = [read_evidence_file(path) for path in options.evidence]
    anchors, now = read_anchors(options.dangerous_simulated_anchor), system_clock()
    files: dict[str, bytes] = {}
    with open_client() as client:
        ask = partial(_service, options.addresses, client)
        for each in evidence:
            for plugin, parts in _fetched(each):
                files |= _fetch(plugin, parts, ask, anchors, now)
    _write(options.into, files)
    rows = [(name, str(len(data))) for name, data in sorted(files.items())]
    if options.as_json:
        show_json({"ok": True, "into": str(options.into), "files": [name for name, _ in rows]})
        return
    show_table(("file", "bytes"), rows)


def _fetched(evidence: Evidence) -> list[tuple[Plugin, list[Evidence | DeviceEvidence]]]:
    """Parts of the evidence whose vendors have collateral online; those of one function together.

    Raises:
        UsageError: there is no such part.
    """
    found: dict[str, tuple[Plugin, list[Evidence | DeviceEvidence]]] = {}
    parts: list[Evidence | DeviceEvidence] = [evidence, *evidence.devices]
    for part in parts:
        plugin = plugin_for(part.tee if isinstance(part, Evidence) else part.kind)
        if plugin.online is not None:
            found.setdefault(plugin.online.fetch, (plugin, []))[1].append(part)
    if not found:
        raise UsageError(CoreCode.BAD_USAGE, f"there is nothing to fetch for {evidence.tee}")
    return list(found.values())


def _fetch(
    plugin: Plugin,
    parts: list[Evidence | DeviceEvidence],
    ask: Callable[[CollateralService], VendorService],
    anchors: TrustAnchors,
    now: datetime,
) -> dict[str, bytes]:
    """Fetch files of one vendor, by name; they are verified and not out of date."""
    fetch = load_fetch(plugin)
    context = FetchContext(ask, anchors.of(plugin.vendor.anchors), parse_collateral, now)
    files = fetch(parts, context)
    stale = [item for item in sort_files(files) if dates_of(item, now).is_stale]
    if stale:
        from regalia.appraisal.codes import AttestCode

        names = ", ".join(f"{item.kind} {item.name}" for item in stale)
        raise AttestationError(
            AttestCode.COLLATERAL_STALE, f"served out of date at {rfc3339(now)}: {names}"
        )
    return files


def load_fetch(plugin: Plugin) -> Callable[[Any, FetchContext[Any]], dict[str, bytes]]:
    """Import the function that a plug-in names. Only the command line does this."""
    module, _, name = plugin.online.fetch.partition(":") if plugin.online else ("", "", "")
    found: Callable[[Any, FetchContext[Any]], dict[str, bytes]]
    found = getattr(importlib.import_module(module), name)
    return found


def _service(
    addresses: Mapping[str, str | None], client: httpx.Client, service: CollateralService
) -> VendorService:
    """Only services whose address the operator gave are asked: no address is built in."""
    address = addresses[service.option]
    if address is None:
        raise UsageError(
            CoreCode.BAD_USAGE,
            f"give an address to fetch from: --{service.option} {service.public}, or a mirror",
        )
    return VendorService(address, client)


def _write(into: Path, files: dict[str, bytes]) -> None:
    """Replace the files, unless one of them is older than the one that is there.

    Raises:
        AttestationError: COLLATERAL_ROLLBACK.
        LocalError: they cannot be written.
    """
    with os_errors(into):
        into.mkdir(parents=True, exist_ok=True)
        present = [name for name in files if (into / name).exists()]
    for name in present:
        old = read_file(into / name, limit=COLLATERAL_FILE_MAX)
        _require_not_older(name, old, files[name])
    for name, data in files.items():
        replace_file(into / name, data)


def _require_not_older(name: str, old: bytes, new: bytes) -> None:
    before = {item.name: item.valid_from for item in sort_files({name: old})}
    for item in sort_files({name: new}):
        then = before.get(item.name)
        if then is not None and item.valid_from is not None and item.valid_from < then:
            raise AttestationError(
                AttestCode.COLLATERAL_ROLLBACK,
                f"{name}: {item.name} of {rfc3339(item.valid_from)} was served, and that of "
                f"{rfc3339(then)} is there already",
            )
