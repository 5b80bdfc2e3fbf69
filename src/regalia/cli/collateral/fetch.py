"""``regalia collateral fetch``: for a machine with a network. Verified before it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.cli.collateral.input import read_evidence_file
from regalia.cli.collateral.vendors import Trust
from regalia.cli.output import show_json, show_table
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError, CoreCode, UsageError
from regalia.host.clock import system_clock
from regalia.host.localfs import os_errors, read_file, replace_file

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from regalia.host.fetch import VendorService
    from regalia.wire.evidence import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """The command's options."""

    evidence: tuple[Path, ...]
    into: Path
    kds: str | None
    pcs: str | None
    intel_certificates: str | None
    rims: str | None
    dangerous_simulated_anchor: Path | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class Addresses:
    """What may be asked; None may not."""

    kds: str | None
    pcs: str | None
    intel_certificates: str | None
    rims: str | None


def fetch_for(options: FetchOptions) -> None:
    """Fetch, verify, then write.

    Raises:
        UsageError: an address is needed and not given.
        UnavailableError: a service does not answer.
        ParseError, AttestationError: what it answered does not verify; nothing was written.
    """
    from regalia.cli.policy.input import read_anchors
    from regalia.host.fetch import open_client

    evidence = [read_evidence_file(path) for path in options.evidence]
    trust = Trust(read_anchors(options.dangerous_simulated_anchor), system_clock())
    addresses = Addresses(options.kds, options.pcs, options.intel_certificates, options.rims)
    files: dict[str, bytes] = {}
    with open_client() as client:
        for each in evidence:
            files |= _fetch(each, addresses, trust, client)
    _write(options.into, files)
    rows = [(name, str(len(data))) for name, data in sorted(files.items())]
    if options.as_json:
        show_json({"ok": True, "into": str(options.into), "files": [name for name, _ in rows]})
        return
    show_table(("file", "bytes"), rows)


def _fetch(
    evidence: Evidence, addresses: Addresses, trust: Trust, client: httpx.Client
) -> dict[str, bytes]:
    """Everything for one piece of evidence, by file name."""
    from regalia.cli.collateral.vendors import fetch_intel, fetch_rims, fetch_snp
    from regalia.tees.intel import fetch as pcs
    from regalia.tees.nvidia import fetch as rims
    from regalia.tees.snp import fetch as kds
    from regalia.wire.evidence import Tee

    files: dict[str, bytes] = {}
    if evidence.tee is Tee.SEV_SNP:
        service = _service("--kds", addresses.kds, kds.PUBLIC_ADDRESS, client)
        files = fetch_snp(evidence, kds.Kds(service), trust)
    elif evidence.tee in (Tee.TDX, Tee.SGX):
        service = _service("--pcs", addresses.pcs, pcs.PUBLIC_ADDRESS, client)
        certificates = _service(
            "--intel-certificates",
            addresses.intel_certificates,
            pcs.PUBLIC_CERTIFICATES,
            client,
        )
        files = fetch_intel(evidence, pcs.Pcs(service), certificates, trust)
    elif not evidence.devices:
        raise UsageError(CoreCode.BAD_USAGE, f"there is nothing to fetch for {evidence.tee}")
    if evidence.devices:
        service = _service("--rims", addresses.rims, rims.PUBLIC_ADDRESS, client)
        files |= fetch_rims(evidence.devices, service, trust)
    return files


def _service(option: str, address: str | None, public: str, client: httpx.Client) -> VendorService:
    """No address is built in: what is asked, and of whom, is the operator's decision."""
    from regalia.host.fetch import VendorService

    if address is None:
        raise UsageError(
            CoreCode.BAD_USAGE, f"give an address to fetch from: {option} {public}, or a mirror"
        )
    return VendorService(address, client)


def _write(into: Path, files: dict[str, bytes]) -> None:
    """Put the files in place, each whole; refuse first if one is older than what is there.

    Raises:
        AttestationError: COLLATERAL_ROLLBACK.
        LocalError: they cannot be written.
    """
    from regalia.verifier.collateral import COLLATERAL_FILE_MAX

    with os_errors(into):
        into.mkdir(parents=True, exist_ok=True)
        present = [name for name in files if (into / name).exists()]
    for name in present:
        old = read_file(into / name, limit=COLLATERAL_FILE_MAX)
        _require_not_older(name, old, files[name])
    for name, data in files.items():
        replace_file(into / name, data)


def _require_not_older(name: str, old: bytes, new: bytes) -> None:
    from regalia.appraisal.codes import AttestCode
    from regalia.verifier.collateral import sort_files

    before = {item.name: item.valid_from for item in sort_files({name: old})}
    for item in sort_files({name: new}):
        then = before.get(item.name)
        if then is not None and item.valid_from is not None and item.valid_from < then:
            raise AttestationError(
                AttestCode.COLLATERAL_ROLLBACK,
                f"{name}: {item.name} of {rfc3339(item.valid_from)} was served, and that of "
                f"{rfc3339(then)} is there already",
            )
