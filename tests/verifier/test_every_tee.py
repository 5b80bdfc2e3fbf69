"""What every kind of evidence must stand, over the table of samples."""

from __future__ import annotations

import itertools
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from regalia.core.errors import RegaliaError
from regalia.core.types import ModelId, PolicyId
from regalia.verifier.anchors import TrustAnchors
from regalia.wire.evidence import Role, Tee, parse_evidence
from regalia_testing.mutation import dropped, duplicated, every_flip, none_accepted, reordered
from regalia_testing.samples import GPUS, SAMPLES
from regalia_testing.tees.snp.bench import refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.samples import Sample


@pytest.fixture(scope="session")
def sample_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Sample]:
    made: dict[str, Sample] = {}

    def get(name: str) -> Sample:
        if name not in made:
            made[name] = SAMPLES[name](tmp_path_factory.mktemp("sample") / "platform")
        return made[name]

    return get


@pytest.mark.parametrize("name", SAMPLES)
def test_verifying_opens_no_socket(
    sample_of: Callable[[str], Sample], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of the socket module is touched; a verifier needs collateral, not a network."""
    sample = sample_of(name)

    def refuse(*_: object, **__: object) -> NoReturn:
        pytest.fail("a verifier wanted the network")

    for function in (
        "socket",
        "create_connection",
        "getaddrinfo",
        "gethostbyname",
        "socketpair",
        "fromfd",
    ):
        monkeypatch.setattr(socket, function, refuse)
    for _ in range(2):  # cold and warm
        claims = sample.verify(parse_evidence(sample.evidence.encode()))
        assert claims.tee is sample.evidence.tee
        assert claims.evidence_digest == sample.evidence.digest()


@pytest.mark.parametrize("name", SAMPLES)
def test_no_byte_of_signed_evidence_can_be_changed(
    sample_of: Callable[[str], Sample], name: str
) -> None:
    sample = sample_of(name)
    sample.verify(sample.evidence)  # unaltered, it is accepted
    report = sample.evidence.report
    none_accepted(
        lambda altered: sample.verify(replace(sample.evidence, report=altered)),
        itertools.chain.from_iterable(
            every_flip(report, start=at, end=at + 1) for at in sample.signed
        ),
    )


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize(
    "changes",
    [
        {"challenge": bytes(range(32))},
        {"role": Role.SERVE},
        {"audience": "another broker"},
        {"hpke_public_key": b"an attacker's key"},
        {"wrap_public_key": b"an attacker's key"},
        {"model_id": ModelId(bytes(32))},
        {"policy_id": PolicyId(bytes(32))},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_no_other_expectation_is_met(
    sample_of: Callable[[str], Sample], name: str, changes: dict[str, Any]
) -> None:
    sample = sample_of(name)
    other = replace(sample, binding=replace(sample.binding, **changes))
    refused("NONCE_MISMATCH", other.verify, evidence=sample.evidence)


@pytest.mark.parametrize("name", SAMPLES)
def test_an_expectation_of_zeros_is_none(sample_of: Callable[[str], Sample], name: str) -> None:
    sample = sample_of(name)
    refused(
        "NONCE_WELL_KNOWN",
        sample.verifier.verify_cpu,
        evidence=sample.evidence,
        report_data=bytes(64),
        rule=sample.rule,
        now=sample.now,
    )


@pytest.mark.parametrize("name", SAMPLES)
def test_a_verifier_without_anchors_accepts_nothing(
    sample_of: Callable[[str], Sample], name: str
) -> None:
    sample = sample_of(name)
    nobody = replace(sample.verifier, anchors=TrustAnchors())
    refused("ROOT_UNTRUSTED", replace(sample, verifier=nobody).verify, evidence=sample.evidence)
    production = replace(sample.verifier, anchors=TrustAnchors.production())
    if sample.evidence.tee is not Tee.TPM:  # whose roots are the operator's
        refused(
            "ROOT_UNTRUSTED", replace(sample, verifier=production).verify, evidence=sample.evidence
        )


def test_devices_are_in_it_as_a_whole(sample_of: Callable[[str], Sample]) -> None:
    """Left out, doubled or moved, a device changes what the CPU's report must commit to."""
    sample = sample_of(f"SEV-SNP with {GPUS} GPUs")
    devices = sample.evidence.devices
    assert len(sample.verify(sample.evidence).devices) == GPUS
    for mutants in (dropped(devices), duplicated(devices), reordered(devices)):
        codes = none_accepted(
            lambda altered: sample.verify(replace(sample.evidence, devices=altered)), mutants
        )
        assert codes == {"NONCE_MISMATCH"}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_report_under_another_name_is_refused(
    sample_of: Callable[[str], Sample], name: str
) -> None:
    """Evidence of one kind that says it is of another."""
    sample = sample_of(name)
    for other in set(Tee) - {sample.evidence.tee}:
        with pytest.raises(RegaliaError):
            sample.verify(replace(sample.evidence, tee=other))
