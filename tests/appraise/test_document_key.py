"""The key in a Nitro document: AWS KMS encrypts to it, so it must be the exchange's own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from regalia.appraise.exchange import verify_exchange
from regalia.core.errors import AttestationError
from regalia.core.types import Digest, ModelId, PolicyId
from regalia.policy.documents import Platform
from regalia.runtime.attester import Attester, CompositeSource
from regalia.tees.nitro.evidence.codes import NitroCode
from regalia.tees.nitro.source import Nsm, collect
from regalia.verifier.anchors import TrustAnchors
from regalia.verifier.collateral import CollateralSet
from regalia.verifier.verifier import Verifier
from regalia.wire.evidence import NO_DEVICES, Binding, Role
from regalia_testing.tees.nitro.nsm import FakeNsm
from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.testbed import MEASUREMENT, RUNTIME_CONFIG

if TYPE_CHECKING:
    from regalia.wire.evidence import DeviceEvidence, Evidence

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BINDING = Binding(
    role=Role.RELEASE,
    audience="log.example",
    challenge=b"c" * 32,
    hpke_public_key=b"h" * 1216,
    wrap_public_key=b"the wrap key",
    model_id=ModelId(b"m" * 32),
    policy_id=PolicyId(b"p" * 32),
    device_evidence=Digest(NO_DEVICES),
)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> NitroSimulator:
    folder = tmp_path_factory.mktemp("nitro") / "platform"
    return NitroSimulator.create(folder, clock=lambda: NOW)


@dataclass(frozen=True)
class WithoutKey:
    """A source of evidence that shows no key."""

    platform: NitroSimulator
    simulated: bool = True

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        nsm = Nsm(7, FakeNsm(self.platform, MEASUREMENT).ioctl)
        return collect(nsm, report_data, runtime_config)

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:  # noqa: ARG002
        return ()


@dataclass(frozen=True)
class WithKey(WithoutKey):
    """A source whose evidence shows a key: the one that it is given, or another one."""

    instead: bytes | None = None

    def collect_with_key(
        self, report_data: bytes, runtime_config: bytes, wrap_public_key: bytes
    ) -> Evidence:
        nsm = Nsm(7, FakeNsm(self.platform, MEASUREMENT).ioctl)
        return collect(nsm, report_data, runtime_config, self.instead or wrap_public_key)


def shown(source: WithoutKey) -> bytes | None:
    """Collect as a runtime does, verify as a broker does; the key that the claims have."""
    attester = Attester(CompositeSource(source, ()), RUNTIME_CONFIG, None, BINDING.model_id)  # type: ignore[arg-type]
    evidence = attester._collect(BINDING)
    claims = verify_exchange(
        evidence,
        Platform(hardware="dangerous_simulated", devices=[]),
        Verifier(TrustAnchors(nitro=source.platform.anchors()), CollateralSet((), ())),
        expected=BINDING,
        now=NOW,
    )
    key = claims.public_key  # type: ignore[union-attr]
    assert key is None or isinstance(key, bytes)
    return key


def test_a_source_that_can_shows_the_exchanges_key(platform: NitroSimulator) -> None:
    assert shown(WithKey(platform)) == BINDING.wrap_public_key


def test_a_source_that_cannot_shows_none(platform: NitroSimulator) -> None:
    assert shown(WithoutKey(platform)) is None


@pytest.mark.parametrize("key", [b"another key", BINDING.wrap_public_key + b"x", b"\x00"])
def test_another_key_is_refused(platform: NitroSimulator, key: bytes) -> None:
    with pytest.raises(AttestationError) as caught:
        shown(WithKey(platform, instead=key))
    assert caught.value.code is NitroCode.DOCUMENT_KEY_OTHER
