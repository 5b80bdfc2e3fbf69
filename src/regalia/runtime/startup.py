"""The steps that take a runtime from its settings to a served model.

Every step either succeeds or ends the start with an error.

(1) configuration and banner  (2) address  (3) hardening  (4) fresh keys and evidence source
(5) manifests of model and adapter, signed by the measured owner; memory and engine can be had
(6) attest, release, proof  (7) lease watched: for the model, then for its adapter
(8) keys unwrapped, both decrypted into locked memory, keys wiped  (9) engine, adapter merged
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regalia.core.errors import IntegrityError, UsageError
from regalia.core.types import Digest, KeyFingerprint, ModelId, PolicyId
from regalia.host.events import ServiceEvent, emit
from regalia.runtime.attester import SIMULATED_BANNER, Attester, open_source
from regalia.runtime.codes import RuntimeCode
from regalia.runtime.config import load_measured
from regalia.runtime.generation import GenerationLimits
from regalia.runtime.keys import generate_keys
from regalia.runtime.sealed import GatewayLimits
from regalia.store.locate import open_cached
from regalia.wire.evidence import CHALLENGE_SIZE, NO_DEVICES, Binding, Role, devices_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.core.weights import BlobSource
    from regalia.runtime.config import LimitsSection, ServeConfig
    from regalia.seal.manifest import VerifiedManifest
    from regalia.store.cached import CachedBlobs
    from regalia.store.locate import Source
    from regalia.wire.evidence import Evidence
    from regalia.wire.runtime_config import RuntimeConfig

MANIFEST_MAX = 24 << 20  # bytes of the signed envelope
_ONLY_AUDIENCE = "regalia/evidence-only"  # no broker has this name, so none accepts the evidence


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity of this runtime: its measured configuration, and the attester with fresh keys."""

    measured: RuntimeConfig
    attester: Attester


def announce_dangers(config: ServeConfig, show: Callable[[str], None]) -> None:
    """Log and print every setting that lowers protection.

    Args:
        config: settings, among them those named ``dangerous_``.
        show: prints one line for the operator.
    """
    for name in config.dangers():
        emit(ServiceEvent.DANGEROUS_SETTING, setting=name)
        show(f"{name} = true: protection is lowered")
    if config.dangerous_simulated_tee:
        show(SIMULATED_BANNER)


def take_identity(config: ServeConfig, folder: Path) -> Identity:
    """Read the measured configuration, open the evidence source, and generate keys.

    Args:
        config: names the evidence source and the file of the measured configuration.
        folder: folder that relative paths start from.

    Raises:
        LocalError, ParseError, UsageError: source or configuration cannot be used.
    """
    measured, exact = load_measured(config, folder)
    source = open_source(config.evidence, dangerous_simulated_tee=config.dangerous_simulated_tee)
    model_id = ModelId.parse(measured.model_id)
    return Identity(measured, Attester(source, exact, generate_keys(), model_id))


def collect_only(identity: Identity) -> tuple[Evidence, bytes]:
    """Collect evidence for pinning a policy, over a random challenge of our own.

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


def open_blobs(config: ServeConfig, folder: Path) -> Source | CachedBlobs:
    """Open the store of ciphertext, through cache and peers where they are configured.

    Args:
        config: names store, cache and peers.
        folder: folder that relative paths start from.

    Raises:
        As ``open_cached``.
    """
    return open_cached(
        config.store,
        folder,
        cache=config.cache,
        cache_bytes=config.cache_bytes,
        peers=config.peers,
    )


def read_manifest(source: BlobSource, identity: Identity) -> VerifiedManifest:
    """Fetch the manifest, and verify it with the owner key of the measured configuration.

    Args:
        source: store of manifest and ciphertext, untrusted.
        identity: holds the measured owner key and model identifier.

    Raises:
        IntegrityError: SERVED_MODEL_MISMATCH, ADAPTER_ALONE, or the signature does not verify.
        ParseError, LocalError, UnavailableError: the manifest is malformed or cannot be read.
    """
    manifest = fetch_manifest(
        source, owner_key=identity.measured.owner_key, model_id=identity.measured.model_id
    )
    if manifest.content.base is not None:
        raise IntegrityError(
            RuntimeCode.ADAPTER_ALONE,
            f"{source.describe()} holds an adapter of {manifest.content.base}",
        )
    return manifest


def wants_adapter(config: ServeConfig, identity: Identity) -> bool:
    """Whether an adapter is to be merged into the model.

    Args:
        config: says where the sealed adapter lies.
        identity: holds the measured identifier of the adapter.

    Raises:
        UsageError: ADAPTER_NOT_MEASURED, one of the two is missing.
    """
    measured, stored = bool(identity.measured.adapters), bool(config.adapter_store)
    if measured != stored:
        where = "measured configuration" if measured else "setting adapter_store"
        raise UsageError(RuntimeCode.ADAPTER_NOT_MEASURED, f"only the {where} names an adapter")
    return measured


def open_adapter_blobs(config: ServeConfig, folder: Path) -> Source | CachedBlobs:
    """Open the adapter's store of ciphertext. It is small, and read without cache and peers.

    Args:
        config: names the store.
        folder: folder that relative paths start from.

    Raises:
        As ``open_cached``.
    """
    return open_cached(
        config.adapter_store, folder, cache="", cache_bytes=config.cache_bytes, peers=()
    )


def read_adapter(
    source: BlobSource, identity: Identity, model: VerifiedManifest
) -> VerifiedManifest:
    """Fetch the adapter's manifest, and verify that the owner sealed it for this model.

    Args:
        source: store of manifest and ciphertext, untrusted.
        identity: holds the measured owner key and the adapter's identifier.
        model: verified manifest of the model.

    Raises:
        IntegrityError: ADAPTER_OF_ANOTHER_MODEL, or as ``read_manifest``.
        ParseError, LocalError, UnavailableError: as ``read_manifest``.
    """
    (adapter_id,) = identity.measured.adapters
    manifest = fetch_manifest(source, owner_key=identity.measured.owner_key, model_id=adapter_id)
    base = manifest.content.base
    if base != model.content.model_id:
        sealed = "is a model by itself" if base is None else f"was sealed for {base}"
        raise IntegrityError(
            RuntimeCode.ADAPTER_OF_ANOTHER_MODEL,
            f"{adapter_id} {sealed}; the measured model is {model.content.model_id}",
        )
    return manifest


def fetch_manifest(source: BlobSource, *, owner_key: str, model_id: str) -> VerifiedManifest:
    """Fetch the manifest, and verify it with the owner's key.

    Args:
        source: store of manifest and ciphertext, untrusted.
        owner_key: fingerprint of the key that must have signed it.
        model_id: identifier of the model that it must describe.

    Raises:
        As ``read_manifest``.
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
        signers=(KeyFingerprint.parse(owner_key),),
        # The release policy sets the minimum version. The runtime reports its version in the
        # request, and the broker enforces the minimum.
        minimum_version=1,
    )
    found = str(manifest.content.model_id)
    if found != model_id:
        raise IntegrityError(
            RuntimeCode.SERVED_MODEL_MISMATCH,
            f"{source.describe()} holds {found}, measured is {model_id}",
        )
    return manifest


def generation_limits(limits: LimitsSection) -> GenerationLimits:
    """The part of the settings that bounds generations."""
    return GenerationLimits(
        parallel=limits.parallel,
        queue=limits.queue,
        per_caller=limits.per_caller,
        unread=limits.unread,
        stall_s=limits.stall_s,
        answer_s=limits.answer_s,
    )


def gateway_limits(limits: LimitsSection) -> GatewayLimits:
    """The part of the settings that bounds the sealed path."""
    return GatewayLimits(
        request_bytes=limits.request_bytes,
        inflight_bytes=limits.inflight_bytes,
        answer_s=limits.answer_s,
        padding=limits.stream_padding,
    )
