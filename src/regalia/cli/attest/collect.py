"""The work of ``regalia attest collect``: evidence of this machine, without a runtime."""

from __future__ import annotations

import importlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regalia.cli.challenge import read_hex, require_size
from regalia.cli.new_files import must_be_new
from regalia.cli.output import show_facts, show_json
from regalia.core.errors import CoreCode, UsageError
from regalia.host.localfs import write_new
from regalia.verifier.registry import plugin_for
from regalia.wire.evidence import DeviceKind, Tee

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.wire.evidence import Evidence

# Bytes, if no challenge is given: small enough for every TPM, where the evidence leaves a choice.
_OWN_CHALLENGE = 32


@dataclass(frozen=True, slots=True)
class Source:
    """One evidence source.

    Attributes:
        kind: of what it attests.
        module: in which it is; imported on use, since some need an extra.
        opener: its function.
    """

    kind: Tee | DeviceKind
    module: str
    opener: str = "open_source"

    def sizes(self) -> range:
        """How many bytes a challenge can have."""
        return plugin_for(self.kind).nonce.sizes

    def open(self, options: dict[str, object]) -> Any:  # noqa: ANN401 - of every source's own class
        """The source with its options.

        Raises:
            UsageError: PLUGIN_UNKNOWN, an extra is not installed; BAD_CONFIG, an option is wrong.
        """
        try:
            opener = getattr(importlib.import_module(self.module), self.opener)
        except ImportError as exc:
            raise UsageError(CoreCode.PLUGIN_UNKNOWN, f"the source does not import: {exc}") from exc
        if isinstance(self.kind, Tee):
            return opener(options)
        if options:
            raise UsageError(CoreCode.BAD_CONFIG, f"{self.kind}: unknown options {sorted(options)}")
        return opener()


SOURCES = {
    "snp": Source(Tee.SEV_SNP, "regalia.tees.snp.source"),
    "tdx": Source(Tee.TDX, "regalia.tees.intel.source"),
    "nitro": Source(Tee.NITRO, "regalia.tees.nitro.source"),
    "tpm": Source(Tee.TPM, "regalia.tees.tpm.source"),
    "az-snp": Source(Tee.AZURE_SNP, "regalia.tees.azure.source", "open_snp"),
    "az-tdx": Source(Tee.AZURE_TDX, "regalia.tees.azure.source", "open_tdx"),
    "nvidia": Source(DeviceKind.NVIDIA_GPU, "regalia.tees.nvidia.source"),
}


def collect_file(
    name: str, out: Path, *, challenge: str | None, options: tuple[str, ...], as_json: bool
) -> None:
    """Ask the source, write what it gives, and say what it is bound to.

    Args:
        name: of the source.
        out: where the evidence is written.
        challenge: hex digits; None for one that is made here.
        options: of the source, each as NAME=VALUE.
        as_json: print for programs.

    Raises:
        UsageError: the challenge or an option does not fit.
        UnavailableError, LocalError: the device is not there, or gives no evidence.
    """
    must_be_new(out)
    source = SOURCES[name]
    nonce = _nonce(challenge, source)
    opened = source.open(_options(options))
    data, about = _of_devices(opened, nonce) if name == "nvidia" else _of_cpu(opened, nonce)
    write_new(out, data)
    if as_json:
        result = {"ok": True, "out": str(out), "tee": str(source.kind), "challenge": nonce.hex()}
        show_json({**result, **about})
        return
    facts: list[tuple[str, object]] = [("kind", str(source.kind)), *about.items()]
    facts.append(("challenge", nonce.hex()))
    show_facts(f"{out} holds evidence, unverified", facts)


def _of_cpu(source: Any, nonce: bytes) -> tuple[bytes, dict[str, object]]:  # noqa: ANN401 - see ``open``
    evidence: Evidence = source.attest(nonce)
    about: dict[str, object] = {
        "certificates": len(evidence.endorsements),
        "event_log_bytes": len(evidence.event_log),
    }
    return evidence.encode(), about


def _of_devices(source: Any, nonce: bytes) -> tuple[bytes, dict[str, object]]:  # noqa: ANN401 - see ``open``
    devices = source.collect(nonce)
    return source.document(devices), {"devices": len(devices)}


def _nonce(challenge: str | None, source: Source) -> bytes:
    sizes = source.sizes()
    if challenge is None:
        return secrets.token_bytes(_OWN_CHALLENGE if _OWN_CHALLENGE in sizes else sizes.stop - 1)
    nonce = read_hex(challenge, "hex digits")
    require_size(nonce, source.kind)
    return nonce


def _options(given: tuple[str, ...]) -> dict[str, object]:
    options: dict[str, object] = {}
    for each in given:
        name, mark, value = each.partition("=")
        if not mark or not name or name in options:
            raise UsageError(
                CoreCode.BAD_USAGE, f"--option {each[:80]!r}: want NAME=VALUE, each name once"
            )
        options[name] = int(value) if value.isascii() and value.isdecimal() else value
    return options
