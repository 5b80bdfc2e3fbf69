"""Genuine evidence that was made for somebody else: replayed, relayed, reflected, diverted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from regalia.core.errors import ParseError
from regalia.tees.nvidia.evidence.verify import PUBLISHED_NONCE
from regalia.wire.evidence import Role
from regalia_testing.accepted_evidence import ACCEPTED_EVIDENCE
from regalia_testing.composite_testbed import BINDING
from regalia_testing.relying_party import REPORT_DATA
from regalia_testing.tees.nvidia.testbed import NONCE
from regalia_testing.tees.snp.simulator import SnpSimulator
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia_testing.accepted_evidence import AcceptedEvidence
    from regalia_testing.composite_testbed import CompositeTestbed
    from regalia_testing.relying_party import RelyingParty
    from regalia_testing.tees.nvidia.testbed import NvidiaTestbed
    from regalia_testing.tees.snp.authority import SnpKeys

CPU_TEES = ("snp", "tdx", "sgx", "nitro", "azure_snp_vm", "azure_tdx_vm", "tpm")
MINE = b"an attacker's own key"


@pytest.fixture(scope="session")
def accepted_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], AcceptedEvidence]:
    made: dict[str, AcceptedEvidence] = {}

    def get(name: str) -> AcceptedEvidence:
        if name not in made:
            made[name] = ACCEPTED_EVIDENCE[name](tmp_path_factory.mktemp("relayed") / "platform")
        return made[name]

    return get


@pytest.fixture(params=ACCEPTED_EVIDENCE)
def accepted(
    request: pytest.FixtureRequest, accepted_of: Callable[[str], AcceptedEvidence]
) -> AcceptedEvidence:
    found = accepted_of(request.param)
    found.verify(found.evidence)  # what it was made for, it serves
    return found


def asked(accepted: AcceptedEvidence, **changes: Any) -> AcceptedEvidence:  # noqa: ANN401 - fields of a binding
    """A relying party that expects something else."""
    return replace(accepted, binding=replace(accepted.binding, **changes))


def test_replay(accepted: AcceptedEvidence) -> None:
    """Evidence of yesterday, under today's challenge."""
    refused(
        "NONCE_MISMATCH", asked(accepted, challenge=b"\x07" * 32).verify, evidence=accepted.evidence
    )


@pytest.mark.parametrize("tee", CPU_TEES)
def test_well_known_nonce(request: pytest.FixtureRequest, tee: str) -> None:
    """Report data of zeros is in every vendor's examples: nobody may even expect it."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    assert relying_party.codes(relying_party.make()) == []
    assert relying_party.codes(relying_party.make(), bytes(64)) == ["NONCE_WELL_KNOWN"]


@pytest.mark.parametrize("tee", CPU_TEES)
@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_nonce_that_is_cut_or_padded(request: pytest.FixtureRequest, tee: str, size: int) -> None:
    """An expectation is whole: a part of it would be met by more than one report."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    with pytest.raises((ValueError, ParseError)):
        relying_party.claims(relying_party.make(), bytes(range(1, size + 1)))


@pytest.mark.parametrize("tee", CPU_TEES)
def test_nonce_that_agrees_in_part(request: pytest.FixtureRequest, tee: str) -> None:
    """All 64 bytes count: a comparison of a prefix would leave the rest to the attacker."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    evidence = relying_party.make()
    assert relying_party.codes(evidence) == []
    for at in range(len(REPORT_DATA)):
        expected = bytearray(REPORT_DATA)
        expected[at] ^= 1
        assert relying_party.codes(evidence, bytes(expected)) == ["NONCE_MISMATCH"], at


def test_nonce_of_a_device_that_agrees_in_part(device_testbed: NvidiaTestbed) -> None:
    evidence = device_testbed.evidence()
    device_testbed.verify(evidence)
    for at in range(len(NONCE)):
        expected = bytearray(NONCE)
        expected[at] ^= 1
        refused("NONCE_MISMATCH", device_testbed.verify, evidence=evidence, nonce=bytes(expected))


@pytest.mark.parametrize("tee", ["snp", "tdx", "sgx"])
def test_missing_nonce(request: pytest.FixtureRequest, tee: str) -> None:
    """A report that was asked for without any report data."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    assert relying_party.against(zero_report_data=True) == ["NONCE_MISMATCH"]
    assert relying_party.against(stale_nonce=True) == ["NONCE_MISMATCH"]


def test_missing_nonce_of_nitro(nitro: RelyingParty) -> None:
    """The document's nonce is optional to AWS, and not to us."""
    assert nitro.against() == []
    for field in ("no_nonce", "short_nonce", "zero_nonce", "stale_nonce"):
        assert nitro.against(**{field: True}) == ["NONCE_MISMATCH"]


def test_nitro_document_that_is_old(nitro: RelyingParty) -> None:
    """AWS puts the time into the document: beyond the policy's age it is refused, nonce or not."""
    strict = nitro.but("platform.nitro.document_max_age_s", 60)
    assert strict.against(age_s=59) == []
    assert strict.against(age_s=61) == ["EVIDENCE_TOO_OLD"]


def test_published_nonce_of_nvidias_examples(device_testbed: NvidiaTestbed) -> None:
    refused(
        "NONCE_WELL_KNOWN",
        device_testbed.verify,
        evidence=device_testbed.evidence(published_nonce=True),
        nonce=PUBLISHED_NONCE,
    )
    refused(
        "NONCE_MISMATCH",
        device_testbed.verify,
        evidence=device_testbed.evidence(published_nonce=True),
    )
    device_testbed.verify(device_testbed.evidence())


def test_relay_to_a_genuine_tee_under_ones_own_key(accepted: AcceptedEvidence) -> None:
    """Cuckoo: the attacker shows the evidence of a good TEE beside a key of their own.

    With the TEE's own key beside it the relay gains ciphertext that only the TEE opens.
    """
    for field in ("hpke_public_key", "wrap_public_key"):
        theirs = asked(accepted, **{field: MINE})
        refused("NONCE_MISMATCH", theirs.verify, evidence=accepted.evidence)


def test_diversion_to_another_audience(accepted: AcceptedEvidence) -> None:
    """Evidence for one broker is worthless at another, which may be the attacker's."""
    theirs = asked(accepted, audience="log.attacker.example")
    refused("NONCE_MISMATCH", theirs.verify, evidence=accepted.evidence)


def test_reflection_in_the_other_role(accepted: AcceptedEvidence) -> None:
    """What a runtime says to clients is not taken for a request for the key."""
    assert accepted.binding.role is Role.RELEASE
    theirs = asked(accepted, role=Role.SERVE)
    refused("NONCE_MISMATCH", theirs.verify, evidence=accepted.evidence)


def test_diversion_to_genuine_hardware_in_other_hands(
    snp: RelyingParty, authority_keys: SnpKeys, tmp_path: Path
) -> None:
    """All is right but the chip: only a list of one's own chips can tell."""
    own = snp.claims(snp.make()).instance.hex()
    listed = snp.but("platform.snp.chip_ids", [own])
    platform = SnpSimulator.create(tmp_path / "other", "Genoa", now=snp.now, keys=authority_keys)
    healthy = snp.make()
    theirs = platform.evidence(
        bytes(range(1, 65)),
        measurement=snp.claims(healthy).measurement,
        runtime_config=healthy.runtime_config,
    )
    assert listed.codes(healthy) == []
    assert snp.codes(theirs) == []  # genuine, and nothing in it says where it stands
    assert listed.codes(theirs) == ["INSTANCE_NOT_ALLOWED"]


@pytest.mark.parametrize(
    ("tee", "path"),
    [
        ("tdx", "platform.tdx.ppids"),
        ("sgx", "platform.sgx.ppids"),
        ("tpm", "platform.tpm.eks"),
        ("nitro", "platform.nitro.instances"),
    ],
)
def test_diversion_to_a_machine_that_is_not_listed(
    request: pytest.FixtureRequest, tee: str, path: str
) -> None:
    relying_party: RelyingParty = request.getfixturevalue(tee)
    own = relying_party.claims(relying_party.make()).instance
    others = bytes(each ^ 1 for each in own)
    assert "INSTANCE_NOT_ALLOWED" in relying_party.but(path, [others.hex()]).against()


def test_gpu_evidence_of_another_question(gpu_machine: CompositeTestbed) -> None:
    """The devices' nonce derives from the challenge and from the key in the CPU's TEE."""
    gpu_machine.verify(gpu_machine.evidence(gpu_machine.all()))
    for changes in (
        {"challenge": b"\x07" * 32},
        {"hpke_public_key": MINE},
        {"role": Role.SERVE},
    ):
        other = replace(BINDING, **changes)
        recorded = gpu_machine.devices.evidence(gpu_machine.nonce(other))
        refused("NONCE_MISMATCH", gpu_machine.verify, evidence=gpu_machine.evidence(recorded))
