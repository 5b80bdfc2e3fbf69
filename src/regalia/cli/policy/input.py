"""Input of the policy commands: policies with their signatures, models, keys, roots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regalia.cli.key_files import read_public_keys
from regalia.cli.output import warn
from regalia.cli.wrong_file import POLICY, wanting
from regalia.core.errors import CoreCode, IntegrityError, LocalError, UsageError
from regalia.core.types import KeyFingerprint, ModelId
from regalia.crypto import dsse
from regalia.crypto.dsse import LIMIT
from regalia.host.localfs import read_file
from regalia.policy.baseline import NAME as BASELINE
from regalia.policy.documents import Platform, ReleasePolicy
from regalia.policy.signed import load_release_policy, read_draft_or_section, read_unverified

if TYPE_CHECKING:
    from regalia.crypto.sign import VerifyKey
    from regalia.policy.documents import ClientPolicy
    from regalia.verifier.anchors import TrustAnchors

_NO_RELEASE_RULES = frozenset({"format", "name", "version", "platform"})
_ENVELOPE_START = b'{"payload":'  # canonical DSSE begins so


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy and what is known of its signature.

    Attributes:
        signed_by: key fingerprints that the file names; they are checked only if ``checked``.
        checked: the signatures were verified with keys that the caller named.
    """

    policy: ReleasePolicy | ClientPolicy | Platform
    signed_by: tuple[str, ...]
    checked: bool

    @property
    def kind(self) -> str:
        """What it is, for people."""
        if isinstance(self.policy, Platform):
            return "platform section"
        return "release policy" if isinstance(self.policy, ReleasePolicy) else "client policy"

    @property
    def platform(self) -> Platform:
        """The rules about the platform, which every kind has."""
        return self.policy if isinstance(self.policy, Platform) else self.policy.platform

    @property
    def about_releases(self) -> tuple[str, ...]:
        """Members that judge a release or a session, and not a platform."""
        if isinstance(self.policy, Platform):
            return ()
        return tuple(n for n in self.policy.__struct_fields__ if n not in _NO_RELEASE_RULES)

    def signature(self) -> str:
        """Describe the signature for people."""
        if not self.signed_by:
            return "unsigned"
        names = ", ".join(self.signed_by)
        return f"verified: {names}" if self.checked else f"NOT CHECKED (give --signer): {names}"


def read_policy(path: Path, signers: tuple[str, ...], threshold: int) -> PolicyFile:
    """Read a signed release policy, a draft, a client policy or a platform section.

    Every refusal of its content names the file.

    Args:
        path: of the file.
        signers: keys that must have signed it.
        threshold: how many of them must have.

    Raises:
        ParseError: malformed. LocalError: not readable.
        IntegrityError: signers were named, and the file is unsigned or signed by others.
    """
    data = _read_policy_file(path)
    keys = read_public_keys(Path(word) for word in signers)
    with wanting(POLICY, path, data):
        return _read(data, path, keys, threshold)


def _read_policy_file(path: Path) -> bytes:
    """The file's bytes. Raises LocalError, which says what a lone word may have been meant for."""
    try:
        return read_file(path, limit=dsse.LIMIT)
    except LocalError as exc:
        if exc.code is not CoreCode.FILE_MISSING or not str(path).isalpha():
            raise
        known = f"{exc.what}; the one word that stands for a policy, in `attest verify`, is"
        raise LocalError(exc.code, f"{known} {BASELINE}") from exc


def _read(data: bytes, path: Path, keys: tuple[VerifyKey, ...], threshold: int) -> PolicyFile:
    if not data.startswith(_ENVELOPE_START):
        policy = read_draft_or_section(data)
        if keys:
            raise IntegrityError(dsse.DsseCode.UNSIGNED, f"{path} carries no signature")
        return PolicyFile(policy, (), checked=False)
    names = tuple(name for name, _ in dsse.parse_envelope(data, what="policy").signatures)
    if keys:
        trusted = {str(key.fingerprint) for key in keys}
        good = tuple(name for name in names if name in trusted)
        return PolicyFile(load_release_policy(data, keys, threshold), good, checked=True)
    return PolicyFile(read_unverified(data), names, checked=False)


def key_fingerprint(word: str) -> KeyFingerprint:
    """``key:<64 hex>``, or the path of a public key."""
    if word.startswith(f"{KeyFingerprint.PREFIX}:"):
        return KeyFingerprint.parse(word)
    (key,) = read_public_keys([Path(word)])
    return key.fingerprint


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


def read_anchors(dangerous_simulated_anchor: Path | None) -> TrustAnchors:
    """Return the vendors' roots, or simulated ones with a warning."""
    from regalia.client import trust  # imports the verifier, which most policy commands do not need

    if dangerous_simulated_anchor is not None:
        warn("DANGEROUS: a simulated root is trusted. Its key's holder can forge any evidence.")
    return trust.read_anchors(dangerous_simulated_anchor)
