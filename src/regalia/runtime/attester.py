"""Collects attestation evidence over this runtime's keys and a verifier's challenge.

The broker asks for evidence before it releases a key, and each client before its first prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from regalia.core.errors import CoreCode, LocalError, RegaliaError, UsageError
from regalia.core.types import Digest, KeyFingerprint
from regalia.host import plugins
from regalia.runtime.codes import RuntimeCode
from regalia.wire.evidence import (
    NO_DEVICES,
    Binding,
    Role,
    ShowsWrapKey,
    device_nonce,
    devices_digest,
)
from regalia.wire.serving import ServingEvidence, serving_binding

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.core.types import ModelId, PolicyId
    from regalia.runtime.config import EvidenceSection
    from regalia.runtime.keys import RuntimeKeys
    from regalia.wire.evidence import DeviceEvidence, DeviceSource, Evidence, EvidenceSource
    from regalia.wire.release import LogProof

SIMULATED_BANNER = (
    "SIMULATED TEE: the evidence is signed by a throw-away root. This protects nothing from the"
    " host; it shows and tests what real hardware would do."
)


@dataclass(frozen=True, slots=True)
class CompositeSource:
    """A CPU's evidence source together with the sources of the devices beside it."""

    cpu: EvidenceSource
    devices: tuple[DeviceSource, ...]

    @property
    def simulated(self) -> bool:
        """Whether any part is: one simulated device makes the machine no genuine hardware."""
        return self.cpu.simulated or any(device.simulated for device in self.devices)

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """As the CPU's source.

        Args:
            report_data: what the evidence must be bound to.
            runtime_config: exact bytes; the hardware recorded their digest at launch.
        """
        return self.cpu.collect(report_data, runtime_config)

    def collect_with_key(
        self, report_data: bytes, runtime_config: bytes, wrap_public_key: bytes
    ) -> Evidence:
        """As the CPU's source: with the key if its evidence can show one, and else without.

        Args:
            report_data: what the evidence must be bound to.
            runtime_config: exact bytes; the hardware recorded their digest at launch.
            wrap_public_key: of this runtime.
        """
        if isinstance(self.cpu, ShowsWrapKey):
            return self.cpu.collect_with_key(report_data, runtime_config, wrap_public_key)
        return self.collect(report_data, runtime_config)

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:
        """Devices that the CPU's source knows, then those of each device source, in order."""
        found = self.cpu.collect_devices(nonce)
        for device in self.devices:
            found += device.collect(nonce)
        return found


def open_source(section: EvidenceSection, *, dangerous_simulated_tee: bool) -> EvidenceSource:
    """Load the evidence source and the device sources that the configuration names.

    Args:
        section: names of the sources, and the options to open it with.
        dangerous_simulated_tee: whether the configuration allows simulated evidence.

    Raises:
        UsageError: PLUGIN_UNKNOWN, or DANGEROUS_NOT_ALLOWED for a simulated source.
        LocalError: EVIDENCE_SOURCE_UNUSABLE.
    """
    loaded = plugins.load(plugins.EVIDENCE_SOURCES, section.source)
    opener = cast("Callable[[dict[str, object]], EvidenceSource]", loaded)
    source = CompositeSource(
        opener(dict(section.options)), tuple(_open_device(name) for name in section.devices)
    )
    if source.simulated and not dangerous_simulated_tee:
        names = ", ".join((section.source, *section.devices))
        raise UsageError(
            CoreCode.DANGEROUS_NOT_ALLOWED,
            f"evidence source {names!r} is simulated and dangerous_simulated_tee is off",
        )
    return source


def _open_device(name: str) -> DeviceSource:
    loaded = plugins.load(plugins.DEVICE_SOURCES, name)
    return cast("Callable[[], DeviceSource]", loaded)()


@dataclass(frozen=True, slots=True)
class Attester:
    """Binds this runtime's keys to a challenge in the report data that the hardware signs.

    Attributes:
        source: reads evidence from the hardware, or simulates it.
        measured: exact bytes of the measured runtime configuration.
        keys: the runtime's key pairs.
        model_id: the model that this runtime may load.
    """

    source: EvidenceSource
    measured: bytes
    keys: RuntimeKeys
    model_id: ModelId

    def _collect(self, binding: Binding) -> Evidence:
        """Collect the devices' evidence, then the CPU's report, which commits to its digest."""
        nonce = device_nonce(binding.role, binding.challenge, binding.hpke_public_key)
        try:
            devices = self.source.collect_devices(nonce)
            bound = replace(binding, device_evidence=devices_digest(devices))
            evidence = self._of_cpu(bound.report_data(), binding.wrap_public_key)
            return replace(evidence, devices=devices)
        except RegaliaError:
            raise
        except (OSError, ValueError) as exc:
            # A source is a plug-in: its own exceptions may say anything, so report only their type.
            raise LocalError(
                RuntimeCode.EVIDENCE_SOURCE_UNUSABLE, f"no evidence: {type(exc).__name__}"
            ) from exc

    def _of_cpu(self, report_data: bytes, wrap_public_key: bytes) -> Evidence:
        if isinstance(self.source, ShowsWrapKey):
            return self.source.collect_with_key(report_data, self.measured, wrap_public_key)
        return self.source.collect(report_data, self.measured)

    def for_release(self, *, challenge: bytes, audience: str, policy_id: PolicyId) -> Evidence:
        """Collect evidence for the broker, bound to the release key.

        Args:
            challenge: 32 bytes that the broker chose.
            audience: name of the broker, so that no other broker accepts this evidence.
            policy_id: identifier of the policy that the broker announced with its challenge.
        """
        return self._collect(
            Binding(
                role=Role.RELEASE,
                audience=audience,
                challenge=challenge,
                hpke_public_key=self.keys.release.public_key,
                wrap_public_key=self.keys.wrap_public,
                model_id=self.model_id,
                policy_id=policy_id,
                device_evidence=Digest(NO_DEVICES),  # replaced once the devices have answered
            )
        )

    def for_client(
        self, challenge: bytes, *, model_version: int, release: LogProof | None
    ) -> ServingEvidence:
        """Collect evidence for a client, bound to the key that requests are sealed to.

        Args:
            challenge: 32 bytes that the client chose.
            model_version: version of the model that is served.
            release: log proof of the release that delivered the model key; None if none is known.
        """
        serving, wrap = self.keys.serving.public_key, self.keys.wrap_public
        recipient = KeyFingerprint.of(self.keys.release.public_key)
        binding = serving_binding(
            challenge,
            serving,
            wrap,
            self.model_id,
            model_version=model_version,
            recipient=recipient,
        )
        return ServingEvidence(
            evidence=self._collect(binding),
            hpke_public_key=serving,
            wrap_public_key=wrap,
            model_id=self.model_id,
            model_version=model_version,
            release=release,
            recipient=recipient,
        )
