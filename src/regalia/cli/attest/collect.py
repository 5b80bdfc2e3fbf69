"""The work of ``regalia attest collect``: evidence of this machine, without a runtime."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regalia.cli.challenge import read_hex, require_size
from regalia.cli.new_files import must_be_new
from regalia.cli.output import show_facts, show_json
from regalia.core.errors import CoreCode, UsageError
from regalia.host.localfs import write_new
from regalia.host.plugins import DEVICE_SOURCES, EVIDENCE_SOURCES, load
from regalia.verifier.registry import plugin_for
from regalia.wire.evidence import DeviceKind, Tee

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.wire.evidence import Evidence

# Bytes, if no challenge is given: small enough for every TPM, where the evidence leaves a choice.
_OWN_CHALLENGE = 32
_NUMBER = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Source:
    """One evidence source.

    Attributes:
        kind: of what it attests.
        plugin: its name among the plug-ins; imported on use, since some need an extra.
        group: of entry points.
    """

    kind: Tee | DeviceKind
    plugin: str
    group: str = EVIDENCE_SOURCES

    def sizes(self) -> range:
        """How many bytes a challenge can have."""
        return plugin_for(self.kind).nonce.sizes

    def open(self, options: dict[str, object]) -> Any:  # noqa: ANN401 - of every source's own class
        """The source with its options.

        Raises:
            UsageError: EXTRA_MISSING; BAD_CONFIG, an option is wrong.
        """
        opener: Any = load(self.group, self.plugin)
        if isinstance(self.kind, Tee):
            return opener(options)
        if options:
            raise UsageError(CoreCode.BAD_CONFIG, f"{self.kind}: unknown options {sorted(options)}")
        return opener()


SOURCES = {
    "snp": Source(Tee.SEV_SNP, "snp"),
    "tdx": Source(Tee.TDX, "tdx"),
    "nitro": Source(Tee.NITRO, "nitro"),
    "tpm": Source(Tee.TPM, "tpm"),
    "az-snp": Source(Tee.AZURE_SNP, "az-snp"),
    "az-tdx": Source(Tee.AZURE_TDX, "az-tdx"),
    "nvidia": Source(DeviceKind.NVIDIA_GPU, "nvidia-gpu", DEVICE_SOURCES),
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
        options[name] = int(value) if _NUMBER.fullmatch(value) else value
    return options
