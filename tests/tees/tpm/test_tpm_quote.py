"""One quote against one key: every check has the defect it deserves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from regalia.core.errors import AttestationError, ParseError
from regalia.tees.tpm.evidence import (
    ALL_PCRS,
    AttestationPublicKey,
    VerifiedQuote,
    require_attestation_key,
)
from regalia.tees.tpm.evidence.keys import AK_REQUIRED
from regalia.tees.tpm.evidence.layout import HashAlg, SignatureAlg
from regalia.tees.tpm.evidence.public import Attribute, KeyScheme, Scheme
from regalia.tees.tpm.evidence.quote import verify_quote_signature
from regalia.tees.tpm.evidence.wire import PcrSelection
from regalia_testing.mutation import every_flip, none_accepted
from regalia_testing.tees.tpm.authority import TpmAuthority
from regalia_testing.tees.tpm.simulator import TpmSimulator
from regalia_testing.verify import verify_fresh_quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.tees.tpm.evidence.document import TpmQuote

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DATA = bytes(range(1, 33))
WANTED = {HashAlg.SHA256: ALL_PCRS}


@pytest.fixture(scope="module")
def tpm() -> TpmSimulator:
    return TpmSimulator.create(TpmAuthority.create(now=NOW))


def check(
    quote: TpmQuote,
    key: AttestationPublicKey,
    *,
    data: bytes = DATA,
    selection: Mapping[HashAlg, frozenset[int]] | None = None,
) -> VerifiedQuote:
    return verify_fresh_quote(
        quote.quoted,
        quote.signature,
        quote.pcrs,
        key=key,
        expected_data=data,
        selection=WANTED if selection is None else selection,
    )


def key_of(tpm: TpmSimulator) -> AttestationPublicKey:
    return require_attestation_key(tpm.ak)


def refused(*args: object, **kwargs: object) -> str:
    with pytest.raises((AttestationError, ParseError)) as refusal:
        check(*args, **kwargs)  # type: ignore[arg-type] # passed on as they came
    return refusal.value.code.name


def test_accepted(tpm: TpmSimulator) -> None:
    verified = check(tpm.quote(DATA), key_of(tpm))
    assert verified.quote.extra_data == DATA
    assert verified.pcrs[HashAlg.SHA256] == tpm.pcrs[HashAlg.SHA256]


@pytest.mark.parametrize(
    ("alg", "hash_alg", "bits"),
    [
        (SignatureAlg.ECDSA, HashAlg.SHA384, 384),
        (SignatureAlg.ECDSA, HashAlg.SHA512, 256),
        (SignatureAlg.RSASSA, HashAlg.SHA256, 2048),
        (SignatureAlg.RSAPSS, HashAlg.SHA256, 2048),
        (SignatureAlg.RSASSA, HashAlg.SHA384, 3072),
        (SignatureAlg.RSAPSS, HashAlg.SHA512, 2048),
    ],
)
def test_every_scheme(alg: SignatureAlg, hash_alg: HashAlg, bits: int) -> None:
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if alg is SignatureAlg.ECDSA:
        key = ec.generate_private_key(ec.SECP256R1() if bits == 256 else ec.SECP384R1())
    else:
        key = rsa.generate_private_key(65537, bits)
    tpm = TpmSimulator.create(TpmAuthority.create(now=NOW), key=key, alg=alg, hash_alg=hash_alg)
    for bank in (HashAlg.SHA256, HashAlg.SHA384):
        quote = tpm.quote(DATA, bank=bank)
        check(quote, key_of(tpm), selection={bank: ALL_PCRS})
        codes = none_accepted(
            lambda signature, quote=quote, bank=bank: check(
                replace(quote, signature=signature), key_of(tpm), selection={bank: ALL_PCRS}
            ),
            every_flip(quote.signature),
        )
        assert codes <= {
            "SIGNATURE_INVALID",
            "MALFORMED",
            "TRAILING_DATA",
            "AK_SCHEME_MISMATCH",
            "TPM_WEAK_HASH",
        }


def test_every_bit_of_the_quote_counts(tpm: TpmSimulator) -> None:
    quote = tpm.quote(DATA)
    none_accepted(
        lambda quoted: check(replace(quote, quoted=quoted), key_of(tpm)), every_flip(quote.quoted)
    )


def test_every_byte_of_every_register_counts(tpm: TpmSimulator) -> None:
    quote = tpm.quote(DATA)
    for pcr, value in quote.pcrs[HashAlg.SHA256].items():
        codes = none_accepted(
            lambda altered, pcr=pcr: check(_with(quote, {pcr: altered}), key_of(tpm)),
            every_flip(value),
        )
        assert codes == {"QUOTE_PCR_MISMATCH"}


def _with(quote: TpmQuote, values: dict[int, bytes]) -> TpmQuote:
    bank = {**quote.pcrs[HashAlg.SHA256], **values}
    return replace(quote, pcrs={HashAlg.SHA256: bank})


def test_registers_swapped(tpm: TpmSimulator) -> None:
    quote = tpm.quote(DATA)
    bank = quote.pcrs[HashAlg.SHA256]
    assert refused(_with(quote, {4: bank[9], 9: bank[4]}), key_of(tpm)) == "QUOTE_PCR_MISMATCH"


def test_a_byte_cannot_wander_to_the_next_register(tpm: TpmSimulator) -> None:
    quote = tpm.quote(DATA)
    bank = quote.pcrs[HashAlg.SHA256]
    moved = {4: bank[4] + bank[5][:1], 5: bank[5][1:]}
    assert refused(_with(quote, moved), key_of(tpm)) == "QUOTE_PCR_MISMATCH"


def test_other_data(tpm: TpmSimulator) -> None:
    quote = tpm.quote(DATA)
    assert refused(quote, key_of(tpm), data=DATA[:-1] + b"\x00") == "NONCE_MISMATCH"
    assert refused(quote, key_of(tpm), data=DATA + b"\x00") == "NONCE_MISMATCH"


@pytest.mark.parametrize("data", [b"", bytes(32)])
def test_data_that_anybody_can_have(tpm: TpmSimulator, data: bytes) -> None:
    assert refused(tpm.quote(data), key_of(tpm), data=data) == "NONCE_WELL_KNOWN"


def test_another_key(tpm: TpmSimulator) -> None:
    other = TpmSimulator.create(tpm.authority)
    assert refused(tpm.quote(DATA), key_of(other)) == "SIGNATURE_INVALID"


def test_another_quotes_signature(tpm: TpmSimulator) -> None:
    signature = tpm.quote(bytes(31) + b"\x01").signature
    assert refused(replace(tpm.quote(DATA), signature=signature), key_of(tpm)) == (
        "SIGNATURE_INVALID"
    )


def test_a_key_of_the_other_kind(tpm: TpmSimulator) -> None:
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    wrong = AttestationPublicKey(rsa_key, SignatureAlg.ECDSA, HashAlg.SHA256)
    assert refused(tpm.quote(DATA), wrong) == "AK_SCHEME_MISMATCH"
    wrong = replace(key_of(tpm), alg=SignatureAlg.RSASSA)
    assert refused(tpm.quote(DATA), wrong) == "AK_SCHEME_MISMATCH"
    wrong = replace(key_of(tpm), hash_alg=HashAlg.SHA384)
    assert refused(tpm.quote(DATA), wrong) == "AK_SCHEME_MISMATCH"


def test_a_short_rsa_key(tpm: TpmSimulator) -> None:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to show that it is refused
    short = TpmSimulator.create(tpm.authority, key=key, alg=SignatureAlg.RSASSA)
    quote = short.quote(DATA)
    wanted = AttestationPublicKey(key.public_key(), SignatureAlg.RSASSA, HashAlg.SHA256)
    assert refused(quote, wanted) == "AK_SCHEME_MISMATCH"


def test_sha1_signature(tpm: TpmSimulator) -> None:
    ak = replace(
        tpm.ak,
        parameters=replace(tpm.ak.parameters, scheme=Scheme(KeyScheme.ECDSA, HashAlg.SHA1)),
    )
    quote = replace(tpm, ak=ak).quote(DATA)
    weak = AttestationPublicKey(tpm.ak_key.public_key(), SignatureAlg.ECDSA, HashAlg.SHA1)
    assert refused(quote, weak) == "TPM_WEAK_HASH"
    assert refused(quote, key_of(tpm)) == "TPM_WEAK_HASH"


def test_fewer_registers_than_expected(tpm: TpmSimulator) -> None:
    bank = {pcr: value for pcr, value in tpm.pcrs[HashAlg.SHA256].items() if pcr != 4}
    partial = replace(tpm, pcrs={HashAlg.SHA256: bank})
    quote = partial.quote(DATA)
    assert refused(quote, key_of(tpm)) == "QUOTE_SELECTION"
    check(quote, key_of(tpm), selection={HashAlg.SHA256: ALL_PCRS - {4}})


def test_the_quotes_selection_and_the_values_are_the_same(tpm: TpmSimulator) -> None:
    quote = tpm.quote(DATA)
    less = {pcr: v for pcr, v in quote.pcrs[HashAlg.SHA256].items() if pcr != 23}
    assert refused(replace(quote, pcrs={HashAlg.SHA256: less}), key_of(tpm)) == "QUOTE_SELECTION"
    more = {**quote.pcrs, HashAlg.SHA384: {0: bytes(48)}}
    assert refused(replace(quote, pcrs=more), key_of(tpm)) == "QUOTE_SELECTION"


@pytest.mark.parametrize("selection", [{}, {HashAlg.SHA256: frozenset[int]()}])
def test_an_empty_expectation_accepts_nothing(
    tpm: TpmSimulator, selection: dict[HashAlg, frozenset[int]]
) -> None:
    banks = tuple(PcrSelection.of(alg, pcrs) for alg, pcrs in selection.items())
    values = {alg: dict[int, bytes]() for alg in selection}
    digest = HashAlg.SHA256.digest(b"")
    quote = replace(tpm.quote(DATA, selection=banks, pcr_digest=digest), pcrs=values)
    assert refused(quote, key_of(tpm), selection=selection) == "QUOTE_SELECTION"


@pytest.mark.parametrize("bank", [HashAlg.SHA1, HashAlg.SHA512])
def test_other_banks(tpm: TpmSimulator, bank: HashAlg) -> None:
    values = dict.fromkeys(range(24), bytes(bank.size))
    quote = replace(tpm, pcrs={bank: values}).quote(DATA, bank=bank)
    assert refused(quote, key_of(tpm), selection={bank: ALL_PCRS}) == "TPM_WEAK_HASH"


def test_two_banks_in_the_order_of_the_quote(tpm: TpmSimulator) -> None:
    both = {alg: dict(tpm.pcrs[alg]) for alg in (HashAlg.SHA384, HashAlg.SHA256)}
    digest = HashAlg.SHA256.digest(
        b"".join(bank[pcr] for bank in both.values() for pcr in sorted(bank))
    )
    selection = tuple(PcrSelection.of(alg, ALL_PCRS) for alg in both)
    quote = replace(tpm.quote(DATA, selection=selection, pcr_digest=digest), pcrs=both)
    check(quote, key_of(tpm), selection=dict.fromkeys(both, ALL_PCRS))


@pytest.mark.parametrize("missing", list(AK_REQUIRED))
def test_an_ak_without_an_attribute(tpm: TpmSimulator, missing: Attribute) -> None:
    with pytest.raises(AttestationError) as refusal:
        require_attestation_key(replace(tpm.ak, attributes=tpm.ak.attributes & ~missing))
    assert refusal.value.code.name == "AK_NOT_RESTRICTED"


def test_an_ak_that_decrypts(tpm: TpmSimulator) -> None:
    with pytest.raises(AttestationError) as refusal:
        require_attestation_key(replace(tpm.ak, attributes=tpm.ak.attributes | Attribute.DECRYPT))
    assert refusal.value.code.name == "AK_NOT_RESTRICTED"


@pytest.mark.parametrize(
    ("scheme", "code"),
    [
        (Scheme(KeyScheme.NULL, None), "AK_NOT_RESTRICTED"),
        (Scheme(KeyScheme.ECDH, HashAlg.SHA256), "AK_NOT_RESTRICTED"),
        (Scheme(KeyScheme.ECDSA, HashAlg.SHA1), "TPM_WEAK_HASH"),
    ],
)
def test_an_ak_that_is_tied_to_no_good_scheme(tpm: TpmSimulator, scheme: Scheme, code: str) -> None:
    parameters = replace(tpm.ak.parameters, scheme=scheme)
    with pytest.raises(AttestationError) as refusal:
        require_attestation_key(replace(tpm.ak, parameters=parameters))
    assert refusal.value.code.name == code


def test_an_ak_with_a_weak_name(tpm: TpmSimulator) -> None:
    with pytest.raises(AttestationError) as refusal:
        require_attestation_key(replace(tpm.ak, name_alg=HashAlg.SHA1))
    assert refusal.value.code.name == "TPM_WEAK_HASH"


def test_an_ak_off_its_curve(tpm: TpmSimulator) -> None:
    parameters = replace(tpm.ak.parameters, x=bytes(32))
    with pytest.raises(ParseError):
        require_attestation_key(replace(tpm.ak, parameters=parameters))


def test_verified_quotes_are_not_made_by_hand(tpm: TpmSimulator) -> None:
    verified = check(tpm.quote(DATA), key_of(tpm))
    with pytest.raises(TypeError, match="verify_quote"):
        VerifiedQuote(verified.quote, verified.pcrs, object())
    with pytest.raises(TypeError):
        replace(verified, mint=None)


def test_a_replay_is_genuine_and_no_more(tpm: TpmSimulator) -> None:
    quote = tpm.quote(b"old")
    verify_quote_signature(quote.quoted, quote.signature, key=key_of(tpm))
    assert refused(quote, key_of(tpm)) == "NONCE_MISMATCH"
