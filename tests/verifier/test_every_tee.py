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
from regalia_testing.accepted_evidence import ACCEPTED_EVIDENCE, GPUS
from regalia_testing.mutation import dropped, duplicated, every_flip, none_accepted, reordered
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.accepted_evidence import AcceptedEvidence


@pytest.fixture(scope="session")
def accepted_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], AcceptedEvidence]:
    made: dict[str, AcceptedEvidence] = {}

    def get(name: str) -> AcceptedEvidence:
        if name not in made:
            made[name] = ACCEPTED_EVIDENCE[name](tmp_path_factory.mktemp("accepted") / "platform")
        return made[name]

    return get


@pytest.mark.parametrize("name", ACCEPTED_EVIDENCE)
def test_verifying_opens_no_socket(
    accepted_of: Callable[[str], AcceptedEvidence], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of the socket module is touched; a verifier needs collateral, not a network."""
    accepted = accepted_of(name)

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
        claims = accepted.verify(parse_evidence(accepted.evidence.encode()))
        assert claims.tee is accepted.evidence.tee
        assert claims.evidence_digest == accepted.evidence.digest()


@pytest.mark.parametrize("name", ACCEPTED_EVIDENCE)
def test_no_byte_of_signed_evidence_can_be_changed(
    accepted_of: Callable[[str], AcceptedEvidence], name: str
) -> None:
    accepted = accepted_of(name)
    accepted.verify(accepted.evidence)  # unaltered, it is accepted
    report = accepted.evidence.report
    none_accepted(
        lambda altered: accepted.verify(replace(accepted.evidence, report=altered)),
        itertools.chain.from_iterable(
            every_flip(report, start=at, end=at + 1) for at in accepted.signed
        ),
    )


@pytest.mark.parametrize("name", ACCEPTED_EVIDENCE)
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
    accepted_of: Callable[[str], AcceptedEvidence], name: str, changes: dict[str, Any]
) -> None:
    accepted = accepted_of(name)
    other = replace(accepted, binding=replace(accepted.binding, **changes))
    refused("NONCE_MISMATCH", other.verify, evidence=accepted.evidence)


@pytest.mark.parametrize("name", ACCEPTED_EVIDENCE)
def test_an_expectation_of_zeros_is_none(
    accepted_of: Callable[[str], AcceptedEvidence], name: str
) -> None:
    accepted = accepted_of(name)
    refused(
        "NONCE_WELL_KNOWN",
        accepted.verifier.verify_cpu,
        evidence=accepted.evidence,
        report_data=bytes(64),
        rule=accepted.rule,
        now=accepted.now,
    )


@pytest.mark.parametrize("name", ACCEPTED_EVIDENCE)
def test_a_verifier_without_anchors_accepts_nothing(
    accepted_of: Callable[[str], AcceptedEvidence], name: str
) -> None:
    accepted = accepted_of(name)
    nobody = replace(accepted.verifier, anchors=TrustAnchors())
    refused("ROOT_UNTRUSTED", replace(accepted, verifier=nobody).verify, evidence=accepted.evidence)
    production = replace(accepted.verifier, anchors=TrustAnchors.production())
    if accepted.evidence.tee is not Tee.TPM:  # whose roots are the operator's
        refused(
            "ROOT_UNTRUSTED",
            replace(accepted, verifier=production).verify,
            evidence=accepted.evidence,
        )


def test_devices_are_in_it_as_a_whole(accepted_of: Callable[[str], AcceptedEvidence]) -> None:
    """Left out, doubled or moved, a device changes what the CPU's report must commit to."""
    accepted = accepted_of(f"SEV-SNP with {GPUS} GPUs")
    devices = accepted.evidence.devices
    assert len(accepted.verify(accepted.evidence).devices) == GPUS
    for mutants in (dropped(devices), duplicated(devices), reordered(devices)):
        codes = none_accepted(
            lambda altered: accepted.verify(replace(accepted.evidence, devices=altered)), mutants
        )
        assert codes == {"NONCE_MISMATCH"}


@pytest.mark.parametrize("name", ACCEPTED_EVIDENCE)
def test_a_report_under_another_name_is_refused(
    accepted_of: Callable[[str], AcceptedEvidence], name: str
) -> None:
    """Evidence of one kind that says it is of another."""
    accepted = accepted_of(name)
    for other in set(Tee) - {accepted.evidence.tee}:
        with pytest.raises(RegaliaError):
            accepted.verify(replace(accepted.evidence, tee=other))
