"""From nothing to a served model, one step after the other. Each step refuses or goes on.

(1) configuration and banner  (2) address  (3) hardening  (4) fresh keys and evidence source
(5) manifest, signed by the measured owner  (6) attest, release, proof  (7) lease watched
(8) key unwrapped, model decrypted into locked memory, key wiped  (9) engine
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from regalia.core.errors import IntegrityError, LocalError
from regalia.core.types import Digest, KeyFingerprint, ModelId, PolicyId
from regalia.host import plugins
from regalia.host.events import ServiceEvent, emit
from regalia.runtime.attester import SIMULATED_BANNER, Attester, open_source
from regalia.runtime.codes import RuntimeCode
from regalia.runtime.config import load_measured
from regalia.runtime.keys import generate_keys
from regalia.runtime.memory import LockedMemory, MemoryKind
from regalia.wire.evidence import CHALLENGE_SIZE, NO_DEVICES, Binding, Role, devices_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.core.secret import SecretBytes
    from regalia.core.weights import BlobSource
    from regalia.engines.base import BuildEngine, Engine
    from regalia.runtime.config import ServeConfig
    from regalia.seal.load import LoadedModel
    from regalia.seal.manifest import VerifiedManifest
    from regalia.wire.evidence import Evidence
    from regalia.wire.runtime_config import RuntimeConfig

MANIFEST_MAX = 24 << 20  # bytes of the signed envelope
_ONLY_AUDIENCE = "regalia/evidence-only"  # no broker and no client ever asks with this name


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this runtime is: what it was measured with, and its fresh keys."""

    measured: RuntimeConfig
    attester: Attester


def announce_dangers(config: ServeConfig, show: Callable[[str], None]) -> None:
    """Say loudly what lowers protection.

    Args:
        config: may hold ``dangerous_`` settings.
        show: prints one line for people.
    """
    for name in config.dangers():
        emit(ServiceEvent.DANGEROUS_SETTING, setting=name)
        show(f"{name} = true: protection is mark_grace")
    if config.dangerous_simulated_tee:
        show(SIMULATED_BANNER)


def take_identity(config: ServeConfig, folder: Path) -> Identity:
    """Read the measured configuration, open the evidence source, make keys.

    Args:
        config: names the source and the measured configuration.
        folder: that relative paths start from.

    Raises:
        LocalError, ParseError, UsageError: one of them is not usable.
    """
    measured, exact = load_measured(config, folder)
    source = open_source(config.evidence, dangerous_simulated_tee=config.dangerous_simulated_tee)
    model_id = ModelId.parse(measured.model_id)
    return Identity(measured, Attester(source, exact, generate_keys(), model_id))


def collect_only(identity: Identity) -> tuple[Evidence, bytes]:
    """Evidence for pinning a policy, over a random challenge that nobody asked.

    Returns:
        The evidence, and the report data that it carries.
    """
    attester = identity.attester
    challenge = os.urandom(CHALLENGE_SIZE)
    binding = Binding(
        role=Role.RELEASE,
        audience=_ONLY_AUDIENCE,
        challenge=challenge,
        hpke_public_key=attester.keys.release.public_key,
        wrap_public_key=attester.keys.wrap_public,
        model_id=attester.model_id,
        policy_id=PolicyId(bytes(PolicyId.SIZE)),
        device_evidence=Digest(NO_DEVICES),
    )
    evidence = attester.for_release(
        challenge=challenge, audience=_ONLY_AUDIENCE, policy_id=binding.policy_id
    )
    bound = replace(binding, device_evidence=devices_digest(evidence.devices))
    return evidence, bound.report_data()


def read_manifest(source: BlobSource, identity: Identity) -> VerifiedManifest:
    """Fetch the manifest and verify it with the owner's key that was measured.

    Args:
        source: gives ciphertext and manifest, untrusted.
        identity: holds the measured owner's key and model.

    Raises:
        IntegrityError: SERVED_MODEL_MISMATCH, or the signature does not hold.
        ParseError, LocalError, UnavailableError: it is malformed or cannot be had.
    """
    from regalia.seal.format.sealed import MANIFEST_NAME
    from regalia.seal.manifest import verify_manifest

    size = source.size(MANIFEST_NAME)
    if size > MANIFEST_MAX:
        raise IntegrityError(
            RuntimeCode.SERVED_MODEL_MISMATCH, f"a manifest of {size} bytes, at most {MANIFEST_MAX}"
        )
    data = bytearray(size)
    source.read_into(MANIFEST_NAME, 0, memoryview(data))
    manifest = verify_manifest(
        bytes(data),
        signers=(KeyFingerprint.parse(identity.measured.owner_key),),
        # The broker's policy knows the lowest version; the runtime tells it which one it has.
        minimum_version=1,
    )
    found = str(manifest.content.model_id)
    if found != identity.measured.model_id:
        raise IntegrityError(
            RuntimeCode.SERVED_MODEL_MISMATCH,
            f"{source.describe()} holds {found}, measured is {identity.measured.model_id}",
        )
    return manifest


def make_memory(config: ServeConfig) -> LockedMemory:
    """The one mapping for the model, not yet allocated."""
    return LockedMemory(
        MemoryKind(config.memory), dangerous_allow_unlocked=config.dangerous_unlocked_memory
    )


def load(
    config: ServeConfig,
    source: BlobSource,
    manifest: VerifiedManifest,
    key: SecretBytes,
    memory: LockedMemory,
) -> LoadedModel:
    """Decrypt the model into ``memory``; the key is wiped whatever happens.

    Args:
        config: how many threads, how much memory.
        source: gives ciphertext, untrusted.
        manifest: signed by the owner.
        key: the model key.
        memory: where the plaintext goes.

    Raises:
        IntegrityError, KeyAccessError, LocalError, ParseError, UnavailableError: see
            ``regalia.seal.load``; the memory is then wiped.
    """
    from regalia.seal.load import load_model

    with key:
        model = load_model(
            source,
            manifest,
            key,
            memory,
            threads=config.load_threads,
            progress=lambda _done, _total: None,
        )
    if not memory.locked and not config.dangerous_unlocked_memory:
        raise LocalError(RuntimeCode.MEMORY_NOT_LOCKABLE, "the model's memory is not locked")
    return model


def build(config: ServeConfig, model: LoadedModel) -> Engine:
    """Build the configured engine on the model's memory.

    Args:
        config: names the engine, with its options.
        model: decrypted, in locked memory.

    Raises:
        UsageError, ParseError, IntegrityError: what the engine refuses.
    """
    builder = cast("BuildEngine", plugins.load(plugins.ENGINES, config.engine.name))
    return builder(model, model_name=config.served_name, options=config.engine.options)
