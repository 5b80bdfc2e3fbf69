"""A model and its adapter, sealed apart, and one broker that releases both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from regalia.broker.app import create_app
from regalia.broker.models import by_id, load_model
from regalia.policy.pin import pin_release
from regalia.policy.signed import sign_release_policy
from regalia.seal.format.sealed import WrappedKey
from regalia.seal.writer import SealOptions, seal_model
from tests.broker.harness import KEK
from tests.runtime.live_deployment import SealedDeployment

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.core.types import ModelId
    from regalia.crypto.sign import SigningKey
    from regalia.seal.format.manifest import Manifest
    from regalia.wire.runtime_config import RuntimeConfig
    from tests.broker.harness import Shared


class AdapterDeployment(SealedDeployment):
    """The deployment of a model, with an adapter that the owner has sealed for it.

    Args:
        adapter: folder of the adapter in clear.
        adapter_policy: fields of the adapter's release policy.
    """

    def __init__(
        self,
        folder: Path,
        shared: Shared,
        model: Path,
        adapter: Path,
        *,
        adapter_policy: dict[str, Any] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        self.adapter = adapter
        self.adapter_policy = adapter_policy or {}
        self.sealed_adapter = folder / "sealed-adapter"
        super().__init__(folder, shared, model, **options)

    def seal(
        self,
        model: Path,
        out: Path,
        *,
        version: int = 3,
        base: ModelId | None = None,
        owner: SigningKey | None = None,
    ) -> Manifest:
        """Seal a folder under the owner's key-encryption key."""

        def wrap(key: Any, context: bytes) -> WrappedKey:  # noqa: ANN401
            blob = self.store.wrap(KEK, key, context)
            return WrappedKey(kek=KEK, algorithm=self.store.wrap_algorithm, blob=blob)

        return seal_model(
            model,
            out,
            SealOptions(version=version, stride=64 * 1024, base=base),
            wrap=wrap,
            signing_key=owner or self.shared.owner,
            progress=lambda _done, _total: None,
        ).manifest

    def make_manifest(self, version: int) -> bytes:
        made = super().make_manifest(version)
        self.adapter_id = self.seal(self.adapter, self.sealed_adapter, base=self.model_id).model_id
        return made

    def runtime_config(self) -> RuntimeConfig:
        return msgspec.structs.replace(super().runtime_config(), adapter=str(self.adapter_id))

    def restart(self) -> None:
        super().restart()
        choices = replace(self.choices(), model_id=self.adapter_id, name="adapter")
        pinned = pin_release(self.claims(), self.runtime_config(), choices, now=self.now)
        policy = msgspec.structs.replace(pinned, **self.adapter_policy)
        files = self.model_files(
            manifest=(self.sealed_adapter / "manifest.json").read_bytes(),
            policy=sign_release_policy(policy, (self.shared.owner,)),
        )
        adapter = load_model(files, store=self.store, log_key=self.log.log_key)
        self.broker.floors.adopt(adapter.versions)
        models = by_id((*self.broker.models.values(), adapter))
        self.broker = replace(self.broker, models=models)
        self.app = create_app(self.broker, self.metrics, self.limits)
