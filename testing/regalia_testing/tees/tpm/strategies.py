"""Hypothesis strategies for TPM structures. Needs ``hypothesis``, which only tests install."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from regalia.tees.tpm.evidence.document import TpmQuote
from regalia.tees.tpm.evidence.layout import HashAlg, SignatureAlg
from regalia.tees.tpm.evidence.public import (
    RSA_KEY_BITS,
    Attribute,
    Curve,
    EccParameters,
    KeyScheme,
    PublicArea,
    RsaParameters,
    Scheme,
)
from regalia.tees.tpm.evidence.wire import EcdsaSignature, PcrSelection, Quote, RsaSignature

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

_HASHES = st.sampled_from(HashAlg)


def _exactly(size: int) -> SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


@st.composite
def names(draw: DrawFn) -> bytes:
    """TPM2B_NAME's contents: nothing, a handle, or an algorithm and its digest."""
    kind = draw(st.sampled_from(("", "handle", "digest")))
    if not kind:
        return b""
    alg = draw(_HASHES)
    name: bytes = draw(_exactly(4 if kind == "handle" else alg.size))
    return name if kind == "handle" else b"".join((alg.to_bytes(2, "big"), name))


@st.composite
def selections(draw: DrawFn) -> tuple[PcrSelection, ...]:
    """TPML_PCR_SELECTION."""
    algs = draw(st.lists(_HASHES, unique=True))
    return tuple(PcrSelection(alg, draw(st.binary(min_size=3, max_size=4))) for alg in algs)


@st.composite
def quotes(draw: DrawFn) -> Quote:
    """TPMS_ATTEST of a quote."""
    return Quote(
        qualified_signer=draw(names()),
        extra_data=draw(st.binary(max_size=66)),
        clock=draw(st.integers(0, 2**64 - 1)),
        reset_count=draw(st.integers(0, 2**32 - 1)),
        restart_count=draw(st.integers(0, 2**32 - 1)),
        safe=draw(st.booleans()),
        firmware_version=draw(st.integers(0, 2**64 - 1)),
        selection=draw(selections()),
        pcr_digest=draw(st.binary(max_size=64)),
    )


@st.composite
def signatures(draw: DrawFn) -> RsaSignature | EcdsaSignature:
    """TPMT_SIGNATURE."""
    alg, hash_alg = draw(st.sampled_from(SignatureAlg)), draw(_HASHES)
    if alg is SignatureAlg.ECDSA:
        scalars = st.binary(max_size=66)
        return EcdsaSignature(hash_alg, draw(scalars), draw(scalars))
    return RsaSignature(alg, hash_alg, draw(st.binary(max_size=512)))


@st.composite
def public_areas(draw: DrawFn) -> PublicArea:
    """TPMT_PUBLIC of RSA and ECC keys."""
    name_alg = draw(_HASHES)
    attributes = Attribute(sum(draw(st.sets(st.sampled_from(tuple(Attribute))))))
    policy = draw(st.sampled_from((0, name_alg.size)).flatmap(_exactly))
    kind = draw(st.sampled_from(KeyScheme))
    bare = kind in {KeyScheme.NULL, KeyScheme.RSAES}
    scheme = Scheme(kind, None if bare else draw(_HASHES))
    aes_bits = draw(st.sampled_from((0, 128, 192, 256)))
    parameters: RsaParameters | EccParameters
    if draw(st.booleans()):
        bits = draw(st.sampled_from(RSA_KEY_BITS))
        exponent = draw(st.integers(0, 2**32 - 1))
        parameters = RsaParameters(aes_bits, scheme, bits, exponent, draw(_exactly(bits // 8)))
    else:
        curve = draw(st.sampled_from(Curve))
        x, y = draw(_exactly(curve.size)), draw(_exactly(curve.size))
        parameters = EccParameters(aes_bits, scheme, curve, x, y)
    return PublicArea(name_alg, attributes, policy, parameters)


@st.composite
def tpm_quotes(draw: DrawFn) -> TpmQuote:
    """Documents, whatever their parts hold."""
    pcrs = {
        alg: draw(st.dictionaries(st.integers(0, 31), _exactly(alg.size), max_size=4))
        for alg in draw(st.lists(_HASHES, unique=True))
    }
    blob = st.binary(max_size=64)
    return TpmQuote(draw(blob), draw(blob), draw(blob), pcrs)
