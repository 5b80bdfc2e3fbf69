"""The models that a broker may release: each a verified manifest beside a verified policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.broker.approvals import verify_approvals
from regalia.broker.codes import BrokerCode
from regalia.broker.floors import Versions
from regalia.core.errors import CoreCode, IntegrityError, KeyAccessError, UsageError
from regalia.policy.signed import load_release_policy
from regalia.seal.manifest import verify_manifest

if TYPE_CHECKING:
    from regalia.broker.approvals import VerifiedApproval
    from regalia.core.types import ModelId, PolicyId
    from regalia.crypto.sign import VerifyKey
    from regalia.keys.base import KeyStore
    from regalia.policy.documents import ReleasePolicy
    from regalia.seal.manifest import VerifiedManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """Raw bytes of one model's documents, and whom to believe about them.

    Attributes:
        manifest: the sealed model's manifest.json.
        policy: the signed release policy.
        approvals: signed statements by file name.
    """

    manifest: bytes
    policy: bytes
    owner_keys: tuple[VerifyKey, ...]
    owner_threshold: int
    approvals: dict[str, bytes]
    approver_keys: tuple[VerifyKey, ...]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model, its key under a KEK, and the policy under which it is released."""

    manifest: VerifiedManifest
    policy: ReleasePolicy
    policy_id: PolicyId
    approvals: tuple[VerifiedApproval, ...]

    @property
    def model_id(self) -> ModelId:
        """The model."""
        return self.manifest.content.model_id

    @property
    def version(self) -> int:
        """Version of the sealed model."""
        return self.manifest.content.version

    @property
    def versions(self) -> Versions:
        """What must never go down."""
        return Versions(self.policy.name, self.policy.version, str(self.policy_id), self.version)


def load_model(files: ModelFiles, *, store: KeyStore, log_key: str) -> ServedModel:
    """Verify a model's documents, and that they belong together.

    Args:
        files: paths of the documents.
        store: must know the KEK of the wrapped key.
        log_key: of the log that this broker writes.

    Raises:
        ParseError: a document is malformed.
        IntegrityError: a signature or version does not hold, POLICY_OTHER_MODEL,
            POLICY_OTHER_LOG or APPROVAL_INVALID.
        KeyAccessError: WRAP_UNKNOWN.
    """
    policy = load_release_policy(files.policy, files.owner_keys, files.owner_threshold)
    manifest = verify_manifest(
        files.manifest, signers=files.owner_keys, minimum_version=policy.model.version_minimum
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
    if wrapped.algorithm != store.wrap_algorithm:
        raise KeyAccessError(
            BrokerCode.WRAP_UNKNOWN,
            f"wrapped by {wrapped.algorithm!r}; the key store does {store.wrap_algorithm!r}",
        )
    policy_id = policy.policy_id()
    approvals = verify_approvals(
        files.approvals, files.approver_keys, policy_id=policy_id, model_id=model_id
    )
    return ServedModel(manifest, policy, policy_id, approvals)


def by_id(models: tuple[ServedModel, ...]) -> dict[str, ServedModel]:
    """Index the models. Raises UsageError BAD_CONFIG if two share a model id or policy name."""
    found: dict[str, ServedModel] = {}
    names: set[str] = set()
    for model in models:
        if str(model.model_id) in found or model.policy.name in names:
            raise UsageError(
                CoreCode.BAD_CONFIG,
                f"two models with id {model.model_id} or policy name {model.policy.name!r}",
            )
        found[str(model.model_id)] = model
        names.add(model.policy.name)
    return found
