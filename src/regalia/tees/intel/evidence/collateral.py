"""Intel's collateral as raw documents, certificates and lists. No I/O: bytes in, documents out.

JSON comes in two forms: the responses of Intel's PCS, one document with its signature each, and
one file with everything, as quote verification libraries exchange it. Certificates and CRLs also
come as files of their own, which ``regalia.verifier.collateral`` sorts.
Nothing is trusted by being there; ``prepare`` verifies it. But everything must parse.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from regalia.appraisal.pki import parse_certificate, parse_crl, parse_pem_certificates
from regalia.core.codec import exact, unhex
from regalia.core.errors import CoreCode, ParseError
from regalia.tees.intel.evidence.documents import parse_identity, parse_tcb_info
from regalia.tees.intel.evidence.wire import SIGNATURE_SIZE

CHAIN_MAX = 4  # certificates in one issuer chain; Intel's have two


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """A TCB info or an identity: its exact bytes, and r and s (64 bytes)."""

    body: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class IntelCollateral:
    """What the verifier's operator provides. Untrusted until ``prepare``.

    Attributes:
        tcb_infos: for any number of platforms; the verifier picks the one that fits.
        identities: of quoting enclaves.
        certificates: issuer chains, DER: TCB signing, PCK Platform and Processor CA, root.
            Certificates of others may stand among them.
        crls: the root's and the PCK CAs', DER; others may stand among them too.
    """

    tcb_infos: tuple[SignedDocument, ...] = ()
    identities: tuple[SignedDocument, ...] = ()
    certificates: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()


class _TcbInfoResponse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    tcb_info: msgspec.Raw
    signature: str


class _IdentityResponse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    enclave_identity: msgspec.Raw
    signature: str


class _Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tcb_info: str
    tcb_info_signature: str
    tcb_info_issuer_chain: str
    qe_identity: str
    qe_identity_signature: str
    qe_identity_issuer_chain: str
    pck_crl: str
    pck_crl_issuer_chain: str
    root_ca_crl: str
    pck_certificate_chain: str | None = None  # of one platform; its quotes carry it too


def parse_json_collateral(data: bytes, *, what: str) -> IntelCollateral:
    """Read one JSON file of either form.

    Args:
        data: raw, untrusted.
        what: its name, for messages.

    Raises:
        ParseError: MALFORMED, TOO_LARGE or UNSUPPORTED_VERSION.
    """
    try:
        members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        if "tcbInfo" in members:
            info = msgspec.json.decode(data, type=_TcbInfoResponse)
            return IntelCollateral(tcb_infos=(_info(bytes(info.tcb_info), info.signature, what),))
        if "enclaveIdentity" in members:
            identity = msgspec.json.decode(data, type=_IdentityResponse)
            document = _identity(bytes(identity.enclave_identity), identity.signature, what)
            return IntelCollateral(identities=(document,))
        return _bundle(msgspec.json.decode(data, type=_Bundle), what)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"{what}: {exc}") from exc


def _bundle(bundle: _Bundle, what: str) -> IntelCollateral:
    certificates: dict[bytes, None] = {}
    for pem in (
        bundle.tcb_info_issuer_chain,
        bundle.qe_identity_issuer_chain,
        bundle.pck_crl_issuer_chain,
    ):
        for der in parse_pem_certificates(pem.encode(), count_max=CHAIN_MAX, what=what):
            parse_certificate(der, what=what)
            certificates[der] = None
    crls = tuple(unhex(crl, what=f"{what}: CRL") for crl in (bundle.root_ca_crl, bundle.pck_crl))
    for crl in crls:
        parse_crl(crl)
    return IntelCollateral(
        (_info(bundle.tcb_info.encode(), bundle.tcb_info_signature, what),),
        (_identity(bundle.qe_identity.encode(), bundle.qe_identity_signature, what),),
        tuple(certificates),
        crls,
    )


def _info(body: bytes, signature: str, what: str) -> SignedDocument:
    parse_tcb_info(body)
    return SignedDocument(body, _signature(signature, what))


def _identity(body: bytes, signature: str, what: str) -> SignedDocument:
    parse_identity(body)
    return SignedDocument(body, _signature(signature, what))


def _signature(text: str, what: str) -> bytes:
    return exact(unhex(text, what=f"{what}: signature"), SIGNATURE_SIZE, what=f"{what}: signature")
