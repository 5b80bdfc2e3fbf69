"""``regalia attest verify`` on what a runtime with GPUs answered: keys and devices are bound."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from regalia.cli.main import run
from regalia.core.types import KeyFingerprint, ModelId
from regalia.wire.evidence import device_nonce, devices_digest
from regalia.wire.serving import HPKE_KEY_SIZE, ServingEvidence
from regalia_testing.machines import MACHINES
from regalia_testing.relying_party import RUNTIME_CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHALLENGE = bytes(range(1, 33))
GPUS = 2


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ServingEvidence]:
    """A machine's folder, and its answer to the challenge."""
    folder = tmp_path_factory.mktemp("serving")
    machine = MACHINES["sev-snp+gpus"](folder / "machine")
    machine.write(folder)
    source = machine.open()
    empty = source.collect(bytes(range(64)), RUNTIME_CONFIG)
    serving = ServingEvidence(
        empty,
        b"\x01" * HPKE_KEY_SIZE,
        b"\x02" * 422,
        ModelId(bytes(32)),
        3,
        None,
        KeyFingerprint(bytes(32)),
    )
    binding = serving.binding(CHALLENGE)
    devices = source.collect_devices(device_nonce(binding.role, CHALLENGE, binding.hpke_public_key))
    bound = replace(binding, device_evidence=devices_digest(devices))
    evidence = replace(source.collect(bound.report_data(), RUNTIME_CONFIG), devices=devices)
    return folder, replace(serving, evidence=evidence)


@pytest.fixture
def verify(
    answered: tuple[Path, ServingEvidence], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[ServingEvidence, str, int], dict[str, Any]]]:
    folder, _ = answered

    def call(serving: ServingEvidence, challenge: str, status: int) -> dict[str, Any]:
        Path("answer.json").write_bytes(serving.encode())
        command = ["attest", "verify", "answer.json", "--policy", "baseline", "--now", "now"]
        command += ["--challenge", challenge, "--collateral", str(folder / "collateral"), "--json"]
        command += ["--dangerous-simulated-anchor", str(folder / "roots.pem")]
        assert run(command) == status
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    with contextlib.chdir(tmp_path):
        yield call


def test_an_answer_that_was_printed(
    answered: tuple[Path, ServingEvidence],
    verify: Any,  # noqa: ANN401 - the fixture above
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """White space changes nothing: the challenge has 32 bytes, and keys and devices are bound."""
    _, serving = answered
    printed = json.dumps(json.loads(serving.encode()), indent=4).encode() + b"\n"
    monkeypatch.setattr(ServingEvidence, "encode", lambda _: printed)
    found = verify(serving, CHALLENGE.hex(), 11)
    assert (found["codes"], found["fresh"], found["unbound_devices"]) == ([], True, 0)


def test_a_whole_machine(answered: tuple[Path, ServingEvidence], verify: Any) -> None:  # noqa: ANN401 - the fixture above
    _, serving = answered
    found = verify(serving, CHALLENGE.hex(), 11)
    assert found["codes"] == []
    assert found["fresh"] is True
    assert found["unbound_devices"] == 0
    names = [f"nvidia-gpu-{number}" for number in range(GPUS)]
    assert set(found["ear"]["submods"]) == {"cpu", *names}
    assert found["ear"]["ear_device_topology"] == {"cpu": names}
    assert found["ear"]["eat_nonce"] == CHALLENGE.hex()
    vector = found["ear"]["submods"]["cpu"]["ear_trustworthiness_vector"]
    assert vector["sourced-data"] == 2
    checks = {check["name"] for check in found["checks"]}
    assert {"composite/cpu", "composite/devices", "nvidia/nonce"} <= checks


def test_without_the_challenge_nothing_binds_the_devices(
    answered: tuple[Path, ServingEvidence],
    verify: Any,  # noqa: ANN401 - the fixture above
) -> None:
    _, serving = answered
    found = verify(serving, "any", 11)
    assert found["fresh"] is False
    assert found["unbound_devices"] == GPUS
    vector = found["ear"]["submods"]["cpu"]["ear_trustworthiness_vector"]
    assert vector["sourced-data"] == 32


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, hpke_public_key=b"\x07" * HPKE_KEY_SIZE),
        lambda s: replace(s, wrap_public_key=b"\x07" * 422),
        lambda s: replace(s, model_id=ModelId(b"\x07" * 32)),
        lambda s: replace(s, model_version=2),
        lambda s: replace(s, evidence=replace(s.evidence, devices=s.evidence.devices[1:])),
        lambda s: replace(s, evidence=replace(s.evidence, devices=s.evidence.devices[::-1])),
        lambda s: replace(s, evidence=replace(s.evidence, devices=())),
    ],
    ids=["key", "wrapping key", "model", "version", "GPU left out", "GPUs moved", "no GPU"],
)
def test_what_is_bound_cannot_be_changed(
    answered: tuple[Path, ServingEvidence],
    verify: Any,  # noqa: ANN401 - the fixture above
    change: Callable[[ServingEvidence], ServingEvidence],
) -> None:
    _, serving = answered
    assert verify(change(serving), CHALLENGE.hex(), 5)["codes"] == ["NONCE_MISMATCH"]


def test_another_challenge(answered: tuple[Path, ServingEvidence], verify: Any) -> None:  # noqa: ANN401 - the fixture above
    _, serving = answered
    assert verify(serving, "07" * 32, 5)["codes"] == ["NONCE_MISMATCH"]
    assert verify(serving, "07" * 64, 2)["error"]["code"] == "BAD_USAGE"
