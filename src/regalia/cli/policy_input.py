"""What the policy commands read: policies with their signatures, evidence, models, keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regalia.cli.facts import warn
from regalia.core.codec import MIB, unhex
from regalia.core.errors import CoreCode, IntegrityError, LocalError, UsageError
from regalia.core.localfs import read_file

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.attest.snp import Anchors, RevocationRule, SnpCollateral
    from regalia.core.types import KeyFingerprint, ModelId
    from regalia.crypto.sign import SigningKey, VerifyKey
    from regalia.formats.claims import SnpClaims
    from regalia.formats.evidence import Evidence
    from regalia.formats.policy import ClientPolicy, ReleasePolicy
    from regalia.formats.runtime_config import RuntimeConfig

ANY = "any"
_PEM_LIMIT = 64 * 1024  # bytes
_ENVELOPE_START = b'{"payload":'  # canonical DSSE begins so
_SERVING_START = b'{"evidence":'  # canonical serving evidence begins so


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy and what is known of its signature.

    Attributes:
        signed_by: key fingerprints that the file names; they are checked only if ``checked``.
        checked: the signatures were verified with keys that the caller named.
    """

    policy: ReleasePolicy | ClientPolicy
    signed_by: tuple[str, ...]
    checked: bool

    def signature(self) -> str:
        """For a person."""
        if not self.signed_by:
            return "unsigned"
        names = ", ".join(self.signed_by)
        return f"verified: {names}" if self.checked else f"NOT CHECKED (give --signer): {names}"


def read_policy(path: Path, signers: tuple[str, ...], threshold: int) -> PolicyFile:
    """Read a signed release policy, a draft or a client policy.

    Raises:
        ParseError: malformed. LocalError: not readable.
        IntegrityError: signers were named, and the file is unsigned or signed by others.
    """
    from regalia.crypto import dsse
    from regalia.policy.document import (
        load_release_policy,
        read_draft,
        read_unverified,
    )

    data = read_file(path, limit=dsse.LIMIT)
    keys = tuple(_public_key(Path(word)) for word in signers)
    if not data.startswith(_ENVELOPE_START):
        policy = read_draft(data)
        if keys:
            raise IntegrityError(dsse.DsseCode.UNSIGNED, f"{path} carries no signature")
        return PolicyFile(policy, (), checked=False)
    names = tuple(name for name, _ in dsse.parse_envelope(data, what="policy").signatures)
    if keys:
        trusted = {str(key.fingerprint) for key in keys}
        good = tuple(name for name in names if name in trusted)
        return PolicyFile(load_release_policy(data, keys, threshold), good, checked=True)
    return PolicyFile(read_unverified(data), names, checked=False)


def _public_key(path: Path) -> VerifyKey:
    from regalia.crypto.sign import VerifyKey

    return VerifyKey.from_pem(read_file(path, limit=_PEM_LIMIT))


def signing_keys(paths: tuple[Path, ...], passphrase_file: Path | None) -> tuple[SigningKey, ...]:
    """Private keys. Raises LocalError, UsageError or KeyAccessError."""
    from regalia.cli.sealing import read_signing_key

    return tuple(read_signing_key(path, passphrase_file) for path in paths)


def must_be_new(*paths: Path) -> None:
    """Refuse before anything is read, asked or written. Raises LocalError."""
    for path in paths:
        if path.exists():
            raise LocalError(CoreCode.FILE_EXISTS, f"{path} exists")


def key_fingerprint(word: str) -> KeyFingerprint:
    """``key:<64 hex>``, or the path of a public key."""
    from regalia.core.types import KeyFingerprint

    if word.startswith(f"{KeyFingerprint.PREFIX}:"):
        return KeyFingerprint.parse(word)
    return _public_key(Path(word)).fingerprint


def read_model(
    word: str, owner: KeyFingerprint, minimum_version: int | None
) -> tuple[ModelId, int]:
    """The model's id and the lowest version to accept.

    Args:
        word: ``model:<64 hex>``, a sealed model's directory, or its manifest file.
        owner: whose signature the manifest must carry.
        minimum_version: None takes the manifest's.

    Raises:
        UsageError: an id alone does not tell a version.
        ParseError, IntegrityError, LocalError: the manifest is not usable.
    """
    from regalia.cli.sealing import read_manifest_file
    from regalia.core.types import ModelId
    from regalia.crypto.dsse import LIMIT
    from regalia.seal.manifest import verify_manifest

    if word.startswith(f"{ModelId.PREFIX}:"):
        if minimum_version is None:
            raise UsageError(
                CoreCode.BAD_USAGE, "--model with an id needs --minimum-version N as well"
            )
        return ModelId.parse(word), minimum_version
    path = Path(word)
    data = read_manifest_file(path) if path.is_dir() else read_file(path, limit=LIMIT)
    manifest = verify_manifest(data, signers=(owner,), minimum_version=minimum_version or 1)
    version = manifest.content.version if minimum_version is None else minimum_version
    return manifest.content.model_id, version


def read_anchors(dangerous_simulated_anchor: Path | None) -> Anchors:
    """AMD's roots; or one simulated root, loudly."""
    from regalia.attest.snp import Anchors, parse_root

    if dangerous_simulated_anchor is None:
        return Anchors.production()
    warn("DANGEROUS: a simulated root is trusted. Nothing is protected from whoever has its key.")
    data = read_file(dangerous_simulated_anchor, limit=_PEM_LIMIT)
    return Anchors.dangerous_simulated(parse_root(data, what=str(dangerous_simulated_anchor)))


@dataclass(frozen=True, slots=True)
class Appraiser:
    """How evidence files are verified."""

    anchors: Anchors
    collateral: SnpCollateral
    now: datetime

    def claims(self, evidence: Evidence, expected: bytes) -> tuple[SnpClaims, RuntimeConfig]:
        """Verified claims and the configuration that came along.

        Raises:
            ParseError, AttestationError: malformed or not genuine.
        """
        from regalia.attest.snp import verify_snp
        from regalia.formats.runtime_config import parse_runtime_config

        claims = verify_snp(
            evidence,
            anchors=self.anchors,
            collateral=self.collateral,
            report_data=expected,
            now=self.now,
        )
        return claims, parse_runtime_config(evidence.runtime_config)


def make_appraiser(anchor: Path | None, collateral: Path | None, rule: RevocationRule) -> Appraiser:
    """Read anchors and collateral. Raises ParseError, AttestationError or LocalError."""
    from regalia.client.trust import load_collateral
    from regalia.core.clock import system_clock

    return Appraiser(read_anchors(anchor), load_collateral(collateral, rule), system_clock())


def read_evidence(
    path: Path, *, report_data: str | None, challenge: str | None
) -> tuple[Evidence, bytes]:
    """Evidence, raw and untrusted, and what its report data must be.

    Args:
        path: an evidence envelope, or the serving evidence that a runtime answers with.
        report_data: 128 hex digits, or the word ``any``.
        challenge: 64 hex digits, for serving evidence: the challenge that was asked with.

    Raises:
        UsageError: neither or both are given, or a challenge for an envelope.
        ParseError, LocalError: the file is not usable.
    """
    from regalia.formats.evidence import (
        CHALLENGE_SIZE,
        REPORT_DATA_SIZE,
        parse_evidence,
    )
    from regalia.formats.serving import parse_serving_evidence
    from regalia.formats.snp import parse_report

    if (report_data is None) == (challenge is None):
        raise UsageError(
            CoreCode.BAD_USAGE,
            "give either --report-data HEX (or the word any), or --challenge HEX if the file is"
            " what a runtime answered to that challenge",
        )
    data = read_file(path, limit=8 * MIB)
    serving = parse_serving_evidence(data) if data.startswith(_SERVING_START) else None
    evidence = parse_evidence(data) if serving is None else serving.evidence
    if challenge is not None:
        if serving is None:
            raise UsageError(
                CoreCode.BAD_USAGE,
                f"{path} is a bare evidence envelope, which does not say what keys it binds:"
                " give --report-data",
            )
        nonce = unhex(challenge, what="--challenge", size=CHALLENGE_SIZE)
        return evidence, serving.binding(nonce).report_data()
    if report_data == ANY:
        warn(
            f"{path}: report data is not checked (any), so this may be a replay, and the keys of"
            " whoever sent it were not compared."
        )
        return evidence, parse_report(evidence.report).report_data
    return evidence, unhex(report_data or "", what="--report-data", size=REPORT_DATA_SIZE)
