"""Enrolment: what the verifier refuses before and after the TPM has opened the challenge."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.pki import Cache
from regalia.core.errors import AttestationError, ParseError, RegaliaError
from regalia.tees.tpm.evidence import Authorities, begin_enrolment, finish_enrolment
from regalia.tees.tpm.evidence.credential import EK_REQUIRED, kdf_a, make_credential
from regalia.tees.tpm.evidence.enrol_steps import answer_data
from regalia.tees.tpm.evidence.enrolment import parse_enrolment
from regalia.tees.tpm.evidence.layout import HashAlg
from regalia.tees.tpm.evidence.public import Attribute
from regalia_testing.tees.tpm.authority import LeafSpec, TpmAuthority
from regalia_testing.tees.tpm.simulator import TpmSimulator
from regalia_testing.testbed import REQUIRED

if TYPE_CHECKING:
    from regalia.tees.tpm.evidence.enrol_steps import EnrolmentRequest
    from regalia.tees.tpm.evidence.enrolment import Enrolment
    from regalia.tees.tpm.evidence.public import PublicArea

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def tpm() -> TpmSimulator:
    return TpmSimulator.create(TpmAuthority.create(now=NOW))


def authorities(tpm: TpmSimulator, **changes: Any) -> Authorities:  # noqa: ANN401 - fields
    at = AppraisalContext(now=NOW, rule=REQUIRED, cache=Cache())
    made = Authorities((tpm.authority.root(),), (), tpm.authority.crls(), at)
    return replace(made, **changes)


def finish(tpm: TpmSimulator, request: EnrolmentRequest | None = None) -> Enrolment:
    return finish_enrolment(
        tpm.request() if request is None else request,
        tpm.quote(answer_data(SECRET)),
        authorities=authorities(tpm),
        secret=SECRET,
    )


def begin_code(tpm: TpmSimulator, request: EnrolmentRequest) -> str:
    with pytest.raises(RegaliaError) as refusal:
        begin_enrolment(request, authorities=authorities(tpm), secret=SECRET)
    with pytest.raises(RegaliaError) as again:
        finish(tpm, request)
    assert again.value.code is refusal.value.code
    return refusal.value.code.name


def test_an_enrolment(tpm: TpmSimulator) -> None:
    credential = begin_enrolment(tpm.request(), authorities=authorities(tpm), secret=SECRET)
    assert SECRET not in credential.id_object
    request = tpm.request()
    enrolment = finish(tpm, request)
    expected = tpm.enrolment(NOW)
    assert enrolment == replace(expected, ek_certificates=request.ek_certificates)
    assert parse_enrolment(enrolment.encode()) == enrolment


def test_challenges_differ(tpm: TpmSimulator) -> None:
    one, other = (
        begin_enrolment(tpm.request(), authorities=authorities(tpm), secret=SECRET)
        for _ in range(2)
    )
    assert one.id_object != other.id_object
    assert one.encrypted_secret != other.encrypted_secret


def altered(public: PublicArea, attributes: Attribute) -> bytes:
    return replace(public, attributes=attributes).encode()


@pytest.mark.parametrize("missing", list(EK_REQUIRED))
def test_an_ek_without_an_attribute(tpm: TpmSimulator, missing: Attribute) -> None:
    ek = altered(tpm.ek, tpm.ek.attributes & ~missing)
    assert begin_code(tpm, replace(tpm.request(), ek_public=ek)) == "EK_UNSUITABLE"


def test_an_ek_that_signs_or_names_no_cipher(tpm: TpmSimulator) -> None:
    ek = altered(tpm.ek, tpm.ek.attributes | Attribute.SIGN_ENCRYPT)
    assert begin_code(tpm, replace(tpm.request(), ek_public=ek)) == "EK_UNSUITABLE"
    bare = replace(tpm.ek, parameters=replace(tpm.ek.parameters, aes_bits=0)).encode()
    assert begin_code(tpm, replace(tpm.request(), ek_public=bare)) == "EK_UNSUITABLE"
    weak = replace(tpm.ek, name_alg=HashAlg.SHA1).encode()
    assert begin_code(tpm, replace(tpm.request(), ek_public=weak)) == "TPM_WEAK_HASH"


def test_an_ek_that_is_not_the_certificates(tpm: TpmSimulator) -> None:
    other = TpmSimulator.create(tpm.authority)
    request = replace(tpm.request(), ek_public=other.ek.encode())
    assert begin_code(tpm, request) == "LEAF_BINDING_MISMATCH"


@pytest.mark.parametrize(
    "alter", [lambda a: a & ~Attribute.RESTRICTED, lambda a: a | Attribute.DECRYPT]
)
def test_aks_that_prove_nothing(tpm: TpmSimulator, alter: Any) -> None:  # noqa: ANN401 - a function of the list above
    ak = replace(tpm.ak, attributes=alter(tpm.ak.attributes))
    request = replace(tpm.request(), ak_public=ak.encode())
    assert begin_code(replace(tpm, ak=ak), request) == "AK_NOT_RESTRICTED"


def test_without_a_certificate(tpm: TpmSimulator) -> None:
    assert begin_code(tpm, replace(tpm.request(), ek_certificates=())) == "COLLATERAL_MISSING"


def test_another_root(tpm: TpmSimulator) -> None:
    wrong = authorities(tpm, roots=(TpmAuthority.create(now=NOW).root(),))
    with pytest.raises(AttestationError) as refusal:
        begin_enrolment(tpm.request(), authorities=wrong, secret=SECRET)
    assert refusal.value.code.name == "ROOT_UNTRUSTED"


def test_a_certificate_of_no_ek(tpm: TpmSimulator) -> None:
    leaf = tpm.authority.leaf(LeafSpec.ak(tpm.ek_key.public_key()))
    request = replace(tpm.request(), ek_certificates=(leaf, tpm.authority.issuer()))
    assert begin_code(tpm, request) == "EK_UNSUITABLE"


@pytest.mark.parametrize("secret", [bytes(32), SECRET[::-1]])
def test_a_challenge_that_was_not_opened(tpm: TpmSimulator, secret: bytes) -> None:
    with pytest.raises(AttestationError) as refusal:
        finish_enrolment(
            tpm.request(),
            tpm.quote(answer_data(secret)),
            authorities=authorities(tpm),
            secret=SECRET,
        )
    assert refusal.value.code.name == "CREDENTIAL_REJECTED"


def test_an_answer_by_another_ak(tpm: TpmSimulator) -> None:
    other = replace(tpm, ak_key=ec.generate_private_key(ec.SECP256R1()))
    answer = other.quote(answer_data(SECRET))  # under the requested name
    arguments: dict[str, Any] = {"authorities": authorities(tpm), "secret": SECRET}
    with pytest.raises(AttestationError) as refusal:
        finish_enrolment(tpm.request(), answer, **arguments)
    assert refusal.value.code.name == "SIGNATURE_INVALID"
    stranger = TpmSimulator.create(tpm.authority).quote(answer_data(SECRET))
    with pytest.raises(AttestationError) as refusal:
        finish_enrolment(tpm.request(), stranger, **arguments)
    assert refusal.value.code.name == "CREDENTIAL_REJECTED"


@pytest.mark.parametrize("size", [0, 31, 33])
def test_secrets_have_one_size(tpm: TpmSimulator, size: int) -> None:
    with pytest.raises(ParseError):
        begin_enrolment(tpm.request(), authorities=authorities(tpm), secret=bytes(size))


def test_a_secret_fits_the_name_hash(tpm: TpmSimulator) -> None:
    with pytest.raises(ValueError, match="49 bytes"):
        make_credential(tpm.ek, tpm.ak.name, bytes(49))


def test_kdf_a_is_the_counter_mode_of_sp_800_108() -> None:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - the oracle of this test
    from cryptography.hazmat.primitives.kdf.kbkdf import (  # noqa: PLC0415
        KBKDFHMAC,
        CounterLocation,
        Mode,
    )

    for bits in (128, 256, 384, 512):
        oracle = KBKDFHMAC(
            algorithm=hashes.SHA256(),
            mode=Mode.CounterMode,
            length=bits // 8,
            rlen=4,
            llen=4,
            location=CounterLocation.BeforeFixed,
            label=b"STORAGE",
            context=b"name",
            fixed=None,
        )
        assert kdf_a(HashAlg.SHA256, b"seed", b"STORAGE", b"name", bits) == oracle.derive(b"seed")
