"""Verifies the documents of the models that a broker may release.

A model has a signed manifest, a signed release policy, and approvals where the policy needs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.broker.approvals import verify_approvals
from regalia.broker.codes import BrokerCode
from regalia.broker.floors import Versions
from regalia.core.errors import CoreCode, IntegrityError, KeyAccessError, UsageError
from regalia.policy.signed import load_release_policy
from regalia.seal.manifest import verify_owners_manifest
from regalia.tlog.note import parse_log_key

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.broker.approvals import VerifiedApproval
    from regalia.core.types import ModelId, PolicyId
    from regalia.crypto.sign import VerifyKey
    from regalia.keys.base import KeyStore
    from regalia.policy.documents import ReleasePolicy
    from regalia.seal.format.sealed import WrappedKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """Raw, unverified documents of one model, and the keys that must have signed them.

    Attributes:
        manifest: the sealed model's manifest.json.
        policy: the signed release policy.
        owner_keys: the owner's keys, for manifest and policy.
        owner_threshold: number of owner keys that must have signed each of both.
        approvals: signed approvals by file name.
        approver_keys: keys whose approvals count.
    """

    manifest: bytes
    policy: bytes
    owner_keys: tuple[VerifyKey, ...]
    owner_threshold: int
    approvals: dict[str, bytes]
    approver_keys: tuple[VerifyKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A verified model: its wrapped key, and the policy for its release.

    Attributes:
        model_id: identifier of the model.
        version: version of the sealed model.
        versions: the versions that must never decrease; see ``FloorStore``.
        base: the model that it is an adapter of; None if it is a model by itself.
        wrapped_key: the model key, encrypted under the owner's key-encryption key.
        wrap_context: what the wrapped key is bound to, as the key store needs it.
        policy: the owner's policy for the release.
        policy_id: digest of the policy.
        approvals: verified; whether they are still in force is decided at each release.
    """

    model_id: ModelId
    version: int
    versions: Versions
    base: ModelId | None
    wrapped_key: WrappedKey
    wrap_context: bytes
    policy: ReleasePolicy
    policy_id: PolicyId
    approvals: tuple[VerifiedApproval, ...]

    def approvers(self, now: datetime) -> frozenset[str]:
        """Fingerprints of the approvers whose approval is in force. An approver counts once."""
        return frozenset(item.approver for item in self.approvals if now <= item.not_after)


def load_model(files: ModelFiles, *, store: KeyStore, log_key: str) -> ServedModel:
    """Verify a model's documents, and that they belong together.

    Args:
        files: the documents, raw and untrusted.
        store: key store, which must use the wrapping algorithm of the manifest.
        log_key: verifier key of the log that this broker writes.

    Raises:
        ParseError: a document is malformed.
        IntegrityError: a signature or version does not verify, POLICY_OTHER_MODEL,
            POLICY_OTHER_LOG, SIGNATURES_CLASSICAL or APPROVAL_INVALID.
        KeyAccessError: WRAP_UNKNOWN.
    """
    policy = load_release_policy(files.policy, files.owner_keys, files.owner_threshold)
    manifest = verify_owners_manifest(
        files.manifest,
        owners=files.owner_keys,
        threshold=files.owner_threshold,
        minimum_version=policy.model.version_minimum,
    )
    model_id, wrapped = manifest.content.model_id, manifest.wrapped_key
    if policy.model.id != str(model_id):
        raise IntegrityError(
            BrokerCode.POLICY_OTHER_MODEL, f"the policy is for {policy.model.id}, not {model_id}"
        )
    if policy.runtime.log_key not in {"any", log_key}:
        raise IntegrityError(
            BrokerCode.POLICY_OTHER_LOG,
            f"the policy wants the log {policy.runtime.log_key}; this broker writes {log_key}",
        )
    if policy.wants_post_quantum:
        _require_post_quantum(files, log_key)
    if wrapped.algorithm != store.wrap_algorithm:
        raise KeyAccessError(
            BrokerCode.WRAP_UNKNOWN,
            f"wrapped by {wrapped.algorithm!r}; the key store does {store.wrap_algorithm!r}",
        )
    policy_id = policy.policy_id()
    approvals = verify_approvals(
        files.approvals, files.approver_keys, policy_id=policy_id, model_id=model_id
    )
    version = manifest.content.version
    return ServedModel(
        model_id=model_id,
        version=version,
        versions=Versions(str(model_id), policy.version, str(policy_id), version),
        base=manifest.content.base,
        wrapped_key=wrapped,
        wrap_context=manifest.content.wrap_context(),
        policy=policy,
        policy_id=policy_id,
        approvals=approvals,
    )


def _require_post_quantum(files: ModelFiles, log_key: str) -> None:
    """Check every key that counts. Raises IntegrityError SIGNATURES_CLASSICAL."""
    named = {
        "the log": (parse_log_key(log_key).verify_key,),
        "owner_keys": files.owner_keys,
        "approver_keys": files.approver_keys,
    }
    for name, keys in named.items():
        for key in keys:
            if not key.post_quantum:
                raise IntegrityError(
                    BrokerCode.SIGNATURES_CLASSICAL,
                    f"{name}: {key.fingerprint} signs without ML-DSA-65",
                )


def by_id(models: tuple[ServedModel, ...]) -> dict[str, ServedModel]:
    """Index the models by id. Raises UsageError BAD_CONFIG if two share one."""
    found = {str(model.model_id): model for model in models}
    if len(found) != len(models):
        raise UsageError(CoreCode.BAD_CONFIG, "two models with one id")
    return found
