"""A TPM quote, *is it this key's?* Spec: docs/spec/tpm-appraisal.md.

 (1) TPMS_ATTEST and TPMT_SIGNATURE parse; the magic is TPM_GENERATED, the type QUOTE.
 (2) The signature's scheme and hash are the AK's, and no SHA-1.
 (3) The AK signed the TPMS_ATTEST.
 (4) The selection is exactly the registers that the caller expects, none of them in SHA-1.
 (5) pcrDigest is the hash of the values that came along, in the order of the selection.

TPM Library Part 3, section 18.4 (TPM2_Quote). Whether the key lives in a TPM at all is
``binding``'s question; whether extraData is the qualifying data that the caller expects is
``Unbound.fresh``'s; whether the values are acceptable is ``regalia.policy``'s.
"""

from __future__ import annotations

import hmac
from dataclasses import InitVar, dataclass
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.pki.schemes import RSA_BITS_MIN
from regalia.core.errors import AttestationError
from regalia.crypto.sign import SignCode
from regalia.tees.tpm.evidence import checks
from regalia.tees.tpm.evidence.codes import TpmCode
from regalia.tees.tpm.evidence.layout import HashAlg, SignatureAlg
from regalia.tees.tpm.evidence.wire import EcdsaSignature, parse_quote, parse_signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.appraisal.check_log import CheckLog
    from regalia.tees.tpm.evidence.keys import AttestationPublicKey
    from regalia.tees.tpm.evidence.wire import Quote, Signature

BANKS = (HashAlg.SHA256, HashAlg.SHA384)

_HASHES: dict[HashAlg, hashes.HashAlgorithm] = {
    HashAlg.SHA256: hashes.SHA256(),
    HashAlg.SHA384: hashes.SHA384(),
    HashAlg.SHA512: hashes.SHA512(),
}
_ECDSA = {alg: ec.ECDSA(digest) for alg, digest in _HASHES.items()}
_PKCS1 = padding.PKCS1v15()

# Keeps quotes from being declared verified by hand; no wall against code in the same process.
_MINT = object()


@dataclass(frozen=True, slots=True)
class VerifiedQuote:
    """A quote by the given key, of unknown age, with its register values.

    Made by ``verify_quote``. It does not say that the key lives in a TPM.
    """

    quote: Quote
    pcrs: Mapping[HashAlg, Mapping[int, bytes]]
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("a verified quote comes from verify_quote")


def verify_quote(  # noqa: PLR0913 - one quote, and everything that it is held to
    quoted: bytes,
    signature: bytes,
    pcrs: Mapping[HashAlg, Mapping[int, bytes]],
    *,
    key: AttestationPublicKey,
    selection: Mapping[HashAlg, frozenset[int]],
    check_log: CheckLog = NO_LOG,
) -> VerifiedQuote:
    """Check one quote against the key that must have made it. A replay passes.

    Args:
        quoted: TPMS_ATTEST, raw, untrusted.
        signature: TPMT_SIGNATURE, raw, untrusted.
        pcrs: register values that came along, untrusted.
        key: the AK. Its scheme and hash are not taken from the signature.
        selection: banks and registers that the quote must cover, exactly.
        check_log: told of each check.

    Raises:
        ParseError: MALFORMED or TRAILING_DATA.
        AttestationError: AK_SCHEME_MISMATCH, TPM_WEAK_HASH, SIGNATURE_INVALID, QUOTE_SELECTION
            or QUOTE_PCR_MISMATCH.
    """
    quote = verify_quote_signature(quoted, signature, key=key, check_log=check_log)  # (1) (2) (3)
    return verify_quoted_pcrs(  # (4) (5)
        quote, pcrs, key=key, selection=selection, check_log=check_log
    )


def verify_quote_signature(
    quoted: bytes, signature: bytes, *, key: AttestationPublicKey, check_log: CheckLog = NO_LOG
) -> Quote:
    """Checks 1 to 3 of a quote: the key's, of unknown age. Raises as ``verify_quote``."""
    check_log.begin(checks.FORMAT, wanted="TPMS_ATTEST of a quote")
    quote = parse_quote(quoted)  # (1)
    parsed = parse_signature(signature)
    check_log.begin(checks.SCHEME)
    if check_log is not NO_LOG:
        check_log.note(_scheme(parsed.alg, parsed.hash_alg), _scheme(key.alg, key.hash_alg))
    _check_scheme(parsed, key)  # (2)
    check_log.begin(checks.QUOTE_SIGNATURE)
    _check_signature(quoted, parsed, key)  # (3)
    return quote


def verify_quoted_pcrs(
    quote: Quote,
    pcrs: Mapping[HashAlg, Mapping[int, bytes]],
    *,
    key: AttestationPublicKey,
    selection: Mapping[HashAlg, frozenset[int]],
    check_log: CheckLog = NO_LOG,
) -> VerifiedQuote:
    """Checks 4 and 5 of a quote whose signature was verified; it may be a replay.

    ``verify_quote`` is the whole walk.

    Args:
        quote: its signature was verified.
        pcrs: values that came along by bank and register, untrusted.
        key: the AK that signed the quote.
        selection: registers that the quote must cover, by bank.
        check_log: records the checks.

    Raises:
        AttestationError: TPM_WEAK_HASH, QUOTE_SELECTION or QUOTE_PCR_MISMATCH.
    """
    check_log.begin(checks.SELECTION)
    if check_log is not NO_LOG:
        check_log.note(_banks(quote), _wanted(selection))
    _check_selection(quote, pcrs, selection)  # (4)
    check_log.begin(checks.PCR_DIGEST, quote.pcr_digest)
    _check_sizes(pcrs)
    values = b"".join(
        chain.from_iterable(map(pcrs[bank.alg].__getitem__, bank.pcrs) for bank in quote.selection)
    )
    digest = key.hash_alg.digest(values)  # Part 3, 18.4: the hash is the signing scheme's
    if not hmac.compare_digest(digest, quote.pcr_digest):  # (5)
        raise AttestationError(
            TpmCode.QUOTE_PCR_MISMATCH,
            f"pcrDigest is {quote.pcr_digest.hex()}, the values hash to {digest.hex()}",
        )
    frozen = {alg: MappingProxyType(dict(bank)) for alg, bank in pcrs.items()}
    return VerifiedQuote(quote, MappingProxyType(frozen), _MINT)


def _check_scheme(signature: Signature, key: AttestationPublicKey) -> None:
    if HashAlg.SHA1 in (signature.hash_alg, key.hash_alg):
        raise AttestationError(TpmCode.TPM_WEAK_HASH, "the quote is signed over SHA-1")
    if (signature.alg, signature.hash_alg) != (key.alg, key.hash_alg):
        raise AttestationError(
            TpmCode.AK_SCHEME_MISMATCH,
            f"the quote is signed with {_scheme(signature.alg, signature.hash_alg)}, "
            f"the AK is for {_scheme(key.alg, key.hash_alg)}",
        )


def _check_signature(quoted: bytes, signature: Signature, key: AttestationPublicKey) -> None:
    """(3) Over the bytes as received, not as encoded again."""
    digest = _HASHES[key.hash_alg]
    try:
        if isinstance(signature, EcdsaSignature) and isinstance(key.key, ec.EllipticCurvePublicKey):
            scalars = (int.from_bytes(part, "big") for part in (signature.r, signature.s))
            key.key.verify(encode_dss_signature(*scalars), quoted, _ECDSA[key.hash_alg])
        elif not isinstance(signature, EcdsaSignature) and isinstance(key.key, rsa.RSAPublicKey):
            _check_rsa_size(key.key)
            key.key.verify(signature.value, quoted, _padding(signature.alg, digest), digest)
        else:
            raise AttestationError(
                TpmCode.AK_SCHEME_MISMATCH, f"the AK is no key for {signature.alg.name}"
            )
    except InvalidSignature as exc:
        raise AttestationError(
            SignCode.SIGNATURE_INVALID, "the attestation key did not sign this quote"
        ) from exc


def _check_rsa_size(key: rsa.RSAPublicKey) -> None:
    if key.key_size < RSA_BITS_MIN:
        raise AttestationError(
            TpmCode.AK_SCHEME_MISMATCH,
            f"the AK has {key.key_size} bits, want at least {RSA_BITS_MIN}",
        )


def _padding(alg: SignatureAlg, digest: hashes.HashAlgorithm) -> padding.PKCS1v15 | padding.PSS:
    if alg is SignatureAlg.RSASSA:
        return _PKCS1
    # TPMs salt with the hash's size (FIPS) or the largest that fits (Part 1, B.7): either.
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.AUTO)


def _check_selection(
    quote: Quote,
    pcrs: Mapping[HashAlg, Mapping[int, bytes]],
    wanted: Mapping[HashAlg, frozenset[int]],
) -> None:
    """(4) Quoted, sent and expected registers are the same, and at least one in each bank."""
    quoted = {bank.alg: bank.pcr_set for bank in quote.selection}
    for alg in (*wanted, *pcrs, *quoted):
        if alg not in BANKS:
            raise AttestationError(TpmCode.TPM_WEAK_HASH, f"a PCR bank of {alg.name}")
    if not wanted or not all(wanted.values()) or quoted != dict(wanted):
        raise AttestationError(
            TpmCode.QUOTE_SELECTION,
            f"the quote covers {_banks(quote)}, want exactly {_wanted(wanted)}",
        )
    if {alg: bank.keys() for alg, bank in pcrs.items()} != quoted:  # views compare as sets do
        sent = {alg: frozenset(bank) for alg, bank in pcrs.items()}
        raise AttestationError(
            TpmCode.QUOTE_SELECTION,
            f"values came along for {_wanted(sent)}, the quote covers {_banks(quote)}",
        )


def _check_sizes(pcrs: Mapping[HashAlg, Mapping[int, bytes]]) -> None:
    """Without it, a byte could wander from one register to the next under the same hash."""
    for alg, bank in pcrs.items():
        size = alg.size
        if set(map(len, bank.values())) <= {size}:
            continue
        for pcr, value in bank.items():
            if len(value) != size:
                raise AttestationError(
                    TpmCode.QUOTE_PCR_MISMATCH,
                    f"PCR {pcr} of {alg.label} has {len(value)} bytes, want {size}",
                )


def _scheme(alg: SignatureAlg, hash_alg: HashAlg) -> str:
    return f"{alg.name} with {hash_alg.name}"


def _banks(quote: Quote) -> str:
    return _wanted({bank.alg: bank.pcr_set for bank in quote.selection})


def _wanted(selection: Mapping[HashAlg, frozenset[int]]) -> str:
    banks = (
        f"{alg.label}:{','.join(str(pcr) for pcr in sorted(pcrs)) or 'none'}"
        for alg, pcrs in selection.items()
    )
    return " + ".join(banks) or "nothing"
