"""Two spellings of one evidence, and one spelling with two meanings.

What holds: every fact by which a machine, a workload or a holder is told apart stands in signed
bytes. ``evidence_digest`` names the bytes that came; nothing is looked up, counted or forgotten by
it, because a signature itself has more than one spelling (r, s and r, n - s).
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.claims import MINT
from regalia.broker import challenges, leases
from regalia.broker.leases import holder_of
from regalia.core.errors import ParseError
from regalia.core.types import Digest
from regalia.tees.intel.evidence.wire import parse_quote
from regalia.wire.cbor import decode_cbor, encode_cbor
from regalia.wire.evidence import parse_evidence
from regalia_testing.mutation import dropped, duplicated, none_accepted, reordered

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.appraisal.claims import Claims
    from regalia_testing.relying_party import RelyingParty
    from regalia_testing.tees.nvidia.testbed import NvidiaTestbed

# Orders of the curves: SP 800-186, sections 3.2.1.3 and 3.2.1.4.
P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P384 = int("f" * 48 + "c7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
SNP_S = slice(0x2E8, 0x2E8 + 48)  # little endian; SEV-SNP firmware ABI, ATTESTATION_REPORT
KEY = b"k" * 1216
CPU_TEES = ("snp", "tdx", "sgx", "nitro", "azure_snp_vm", "azure_tdx_vm", "tpm")


def _negated_snp(report: bytes) -> bytes:
    s = int.from_bytes(report[SNP_S], "little")
    return report[: SNP_S.start] + (P384 - s).to_bytes(48, "little") + report[SNP_S.stop :]


def _negated_at_the_end(report: bytes) -> bytes:
    """COSE_Sign1 and SPDM end with r and s, 48 bytes each, big endian."""
    return report[:-48] + (P384 - int.from_bytes(report[-48:], "big")).to_bytes(48, "big")


def _negated_quote(report: bytes) -> bytes:
    signature = parse_quote(report).signature
    other = (P256 - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    return report.replace(signature, signature[:32] + other)


NEGATED: dict[str, Callable[[bytes], bytes]] = {
    "snp": _negated_snp,
    "tdx": _negated_quote,
    "sgx": _negated_quote,
    "nitro": _negated_at_the_end,
}


def same_but_for_the_digest(one: Claims, other: Claims) -> bool:
    """Whether two claims say the same of the attester."""
    unnamed = Digest(bytes(32))
    first, second = (
        replace(each, evidence_digest=unnamed, mint=MINT)  # type: ignore[type-var] # a dataclass
        for each in (one, other)
    )
    return bool(first == second)


@pytest.mark.parametrize("tee", NEGATED)
def test_ecdsa_malleability(request: pytest.FixtureRequest, tee: str) -> None:
    """Anybody can turn a signature (r, s) into (r, n - s). It stays the same attester."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    evidence = relying_party.make()
    twin = replace(evidence, report=NEGATED[tee](evidence.report))
    assert twin.report != evidence.report
    assert twin.digest() != evidence.digest()
    claims, other = relying_party.claims(evidence), relying_party.claims(twin)
    assert same_but_for_the_digest(claims, other)
    assert holder_of(claims, KEY) == holder_of(other, KEY)


def test_ecdsa_malleability_of_a_device(device_testbed: NvidiaTestbed) -> None:
    evidence = device_testbed.evidence()
    twin = replace(evidence, report=_negated_at_the_end(evidence.report))
    claims, other = device_testbed.verify(evidence), device_testbed.verify(twin)
    assert claims.evidence_digest != other.evidence_digest
    assert same_but_for_the_digest(claims, other)  # type: ignore[arg-type] # a device's claims
    assert claims.identity == other.identity


@pytest.mark.parametrize("tee", CPU_TEES)
def test_two_guests_are_two_holders(request: pytest.FixtureRequest, tee: str) -> None:
    """Where evidence names no guest, the attested key tells them apart; the same key renews."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    claims = relying_party.claims(relying_party.make())
    again = relying_party.claims(relying_party.make())
    assert holder_of(claims, KEY) == holder_of(again, KEY)
    named = bool(claims.guest)
    assert named is (tee not in {"tdx", "sgx"})
    assert (holder_of(claims, KEY) == holder_of(claims, b"another")) is named


def test_a_challenge_is_spent_and_not_an_evidence() -> None:
    """A twin is of no use: the challenge that both answer is good once.

    ``tests/broker/test_release.py::test_a_challenge_is_good_once`` shows it with the same bytes.
    """
    for module in (challenges, leases):
        assert "evidence_digest" not in inspect.getsource(module)


@pytest.mark.parametrize("tee", ["snp", "nitro", "azure_snp_vm", "azure_tdx_vm"])
def test_trailing_bytes(request: pytest.FixtureRequest, tee: str) -> None:
    relying_party: RelyingParty = request.getfixturevalue(tee)
    assert relying_party.against() == []
    (code,) = relying_party.against(trailing_byte=True)
    assert code in ("TRAILING_DATA", "MALFORMED")
    for tail in (b"\x00", b"\x00" * 39, b"x"):
        evidence = relying_party.make()
        (code,) = relying_party.codes(replace(evidence, report=evidence.report + tail))
        assert code in ("TRAILING_DATA", "MALFORMED")


@pytest.mark.parametrize("tee", ["tdx", "sgx"])
def test_trailing_bytes_of_a_quote(request: pytest.FixtureRequest, tee: str) -> None:
    """Clouds append zeros to quotes: these are let through, and tell nothing of the attester."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    assert relying_party.against(trailing_byte=True) == ["TRAILING_DATA"]
    evidence = relying_party.make()
    padded = replace(evidence, report=evidence.report + bytes(39))
    claims, other = relying_party.claims(evidence), relying_party.claims(padded)
    assert claims.evidence_digest != other.evidence_digest
    assert same_but_for_the_digest(claims, other)
    assert holder_of(claims, KEY) == holder_of(other, KEY)


def test_trailing_bytes_of_a_device(device_testbed: NvidiaTestbed) -> None:
    evidence = device_testbed.evidence()
    device_testbed.verify(evidence)
    codes = none_accepted(
        device_testbed.verify,
        [
            (repr(tail), replace(evidence, report=evidence.report + tail))
            for tail in (b"\x00\x00", b"x", bytes(37))
        ],
    )
    assert codes <= {"TRAILING_DATA", "MALFORMED"}


def test_duplicate_cbor_keys(nitro: RelyingParty) -> None:
    """A lenient decoder takes the last of two, another the first: here neither is taken."""
    assert nitro.against() == []
    assert nitro.against(duplicate_field=True) == ["MALFORMED"]
    once = encode_cbor({1: b"a"})
    assert decode_cbor(once, limit=64, what="x") == {1: b"a"}
    twice = bytes((once[0] + 1,)) + once[1:] * 2
    with pytest.raises(ParseError, match="MALFORMED"):
        decode_cbor(twice, limit=64, what="x")


@pytest.mark.parametrize(
    "other",
    [b"\xa1\x18\x01\x41a", b"\xbf\x01\x41a\xff", b"\xa1\x01\x58\x01a", b"\xa1\x01\x5f\x41a\xff"],
    ids=["long key", "indefinite map", "long length", "indefinite bytes"],
)
def test_another_spelling_of_the_same_cbor(other: bytes) -> None:
    assert decode_cbor(b"\xa1\x01\x41a", limit=64, what="x") == {1: b"a"}
    with pytest.raises(ParseError, match="MALFORMED"):
        decode_cbor(other, limit=64, what="x")


@pytest.mark.parametrize("tee", CPU_TEES)
def test_another_spelling_of_the_envelope(request: pytest.FixtureRequest, tee: str) -> None:
    """A member twice, a space, another order: canonical JSON has one spelling."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    raw = relying_party.make().encode()
    assert parse_evidence(raw).encode() == raw
    for other in (
        raw.replace(b'{"', b'{ "', 1),
        raw + b"\n",
        raw.replace(b'"tee":', b'"tee":"sgx","tee":', 1),
        raw.replace(b'"tee":', b'"\\u0074ee":', 1),
        raw[:-1] + b',"zz":1}',
    ):
        with pytest.raises(ParseError):
            parse_evidence(other)


def test_certificates_dropped_doubled_and_moved(snp: RelyingParty) -> None:
    """Certificates that come along are unsigned as a list: whichever come, the facts are signed."""
    evidence = snp.make()
    honest = snp.claims(evidence)
    twins = [
        replace(evidence, endorsements=endorsements)
        for mutants in (dropped, duplicated, reordered)
        for _, endorsements in mutants(evidence.endorsements)
    ]
    accepted = [twin for twin in twins if snp.codes(twin) == []]
    assert accepted
    for twin in accepted:
        assert same_but_for_the_digest(honest, snp.claims(twin))
