"""JSON documents that wrap evidence, as other projects write them.

    NVIDIA's tools             [{"arch", "evidence", "certificate", …}, …]
    CoCo Trustee, Azure        {"quote", "report", "vcek"}: lists of numbers (version 0)
                               {"version", "tpm_quote", "hcl_report", "vcek" or "td_quote"}
    CoCo Trustee, TPM          {"ak_public", "tpm_quote"}
    Keylime                    {"ak_public_pem", "tpms_attest_b64", "tpmt_signature_b64", …}

Nobody signs these wrappers, so members that are not needed are ignored.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Annotated

import msgspec

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, ParseError
from regalia.inspect.recognized import BareQuote, Recognized
from regalia.tees.azure.evidence.wire import AzureDocument
from regalia.tees.nvidia.evidence.nvtrust import parse_nvidia_evidence
from regalia.tees.tpm.evidence.layout import HashAlg, SignatureAlg
from regalia.wire.evidence import Evidence, Tee

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 4 * MIB
_PCRS = 24
_U16_MAX = (1 << 16) - 1
_PEM_MARK = "-----BEGIN"

_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class _NumberQuote(msgspec.Struct, frozen=True):
    message: list[_Byte]
    signature: list[_Byte]
    pcrs: list[list[_Byte]]


class _NumberAzure(msgspec.Struct, frozen=True):
    quote: _NumberQuote
    report: list[_Byte]
    vcek: str


class _TextQuote(msgspec.Struct, frozen=True):
    message: str
    signature: str
    pcrs: list[str]


class _TextAzure(msgspec.Struct, frozen=True):
    version: int
    tpm_quote: _TextQuote
    hcl_report: str
    vcek: str = ""
    td_quote: str = ""


class _TrusteeTpm(msgspec.Struct, frozen=True):
    ak_public: str
    tpm_quote: _TextQuote


class _Keylime(msgspec.Struct, frozen=True):
    ak_public_pem: str
    tpms_attest_b64: str
    tpmt_signature_b64: str


def recognize_json(data: bytes) -> Recognized:
    """Tell which wrapper this is, by its members. Raises ParseError."""
    if len(data) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"evidence: {len(data)} bytes of JSON")
    try:
        body = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise _bad(f"not JSON: {exc}") from exc
    if isinstance(body, list):
        return _nvidia(data)
    members = set(body) if isinstance(body, dict) else set()
    try:
        if {"quote", "report", "vcek"} <= members:
            return _azure_of_numbers(msgspec.convert(body, _NumberAzure))
        if {"tpm_quote", "hcl_report"} <= members:
            return _azure(msgspec.convert(body, _TextAzure))
        if {"tpm_quote", "ak_public"} <= members:
            return _trustee_tpm(msgspec.convert(body, _TrusteeTpm))
        if {"tpms_attest_b64", "ak_public_pem"} <= members:
            return _keylime(msgspec.convert(body, _Keylime))
    except msgspec.ValidationError as exc:
        raise _bad(str(exc)) from exc
    shown = ", ".join(sorted(str(name)[:40] for name in members)[:8])
    raise _bad(f"a JSON document that wraps no evidence known here; its members: {shown}")


def _nvidia(data: bytes) -> Recognized:
    devices = parse_nvidia_evidence(data)
    return Recognized(
        form=f"NVIDIA evidence of {len(devices)} device{'' if len(devices) == 1 else 's'}",
        evidence=None,
        devices=devices,
    )


def _azure_of_numbers(wire: _NumberAzure) -> Recognized:
    document = AzureDocument(
        hcl_report=bytes(wire.report),
        td_quote=b"",
        quoted=bytes(wire.quote.message),
        signature=_rsa_signature(bytes(wire.quote.signature)),
        pcrs=_bank([bytes(value) for value in wire.quote.pcrs]),
    )
    return _azure_snp(document, wire.vcek)


def _azure(wire: _TextAzure) -> Recognized:
    quote = wire.tpm_quote
    document = AzureDocument(
        hcl_report=_base64(wire.hcl_report, "hcl_report"),
        td_quote=_base64(wire.td_quote, "td_quote"),
        quoted=_hex(quote.message, "message"),
        signature=_rsa_signature(_hex(quote.signature, "signature")),
        pcrs=_bank([_hex(value, "pcrs") for value in quote.pcrs]),
    )
    if wire.td_quote:
        return Recognized(
            form="Azure confidential VM on TDX",
            evidence=Evidence(Tee.AZURE_TDX, document.encode(), (), b""),
        )
    return _azure_snp(document, wire.vcek)


def _azure_snp(document: AzureDocument, vcek: str) -> Recognized:
    return Recognized(
        form="Azure confidential VM on SEV-SNP",
        evidence=Evidence(Tee.AZURE_SNP, document.encode(), _certificate(vcek), b""),
    )


def _trustee_tpm(wire: _TrusteeTpm) -> Recognized:
    return _bare(
        "TPM quote of Trustee",
        _base64(wire.tpm_quote.message, "message"),
        _base64(wire.tpm_quote.signature, "signature"),
        _base64(wire.ak_public, "ak_public"),
    )


def _keylime(wire: _Keylime) -> Recognized:
    return _bare(
        "TPM quote of Keylime",
        _base64(wire.tpms_attest_b64, "tpms_attest_b64"),
        _base64(wire.tpmt_signature_b64, "tpmt_signature_b64"),
        _pem(wire.ak_public_pem, "ak_public_pem"),
    )


def _bare(form: str, quoted: bytes, signature: bytes, ak_spki: bytes) -> Recognized:
    return Recognized(
        form=f"{form}, with a bare public key",
        evidence=None,
        bare_quote=BareQuote(quoted, signature, ak_spki),
    )


def _bank(values: Sequence[bytes]) -> dict[HashAlg, dict[int, bytes]]:
    """The SHA-256 bank; its size is checked with the quote."""
    if len(values) != _PCRS or any(len(value) != HashAlg.SHA256.size for value in values):
        raise _bad(f"{len(values)} PCR values, want {_PCRS} of {HashAlg.SHA256.size} bytes")
    return {HashAlg.SHA256: dict(enumerate(values))}


def _rsa_signature(raw: bytes) -> bytes:
    """TPMT_SIGNATURE around a bare RSASSA signature with SHA-256, as Azure's vTPM makes them."""
    head = (SignatureAlg.RSASSA, HashAlg.SHA256, len(raw))
    if len(raw) > _U16_MAX:
        raise _bad(f"a signature of {len(raw)} bytes")
    return b"".join(number.to_bytes(2, "big") for number in head) + raw


def _certificate(text: str) -> tuple[bytes, ...]:
    """PEM or base64url of DER."""
    if not text:
        return ()
    return (_pem(text, "vcek") if _PEM_MARK in text else _base64(text, "vcek"),)


def _pem(text: str, name: str) -> bytes:
    """The body of one PEM block, whatever its label."""
    lines = [line for line in text.strip().splitlines() if line]
    if len(lines) < len(("begin", "body", "end")) or not lines[0].startswith(_PEM_MARK):
        raise _bad(f"{name} is not in PEM form")
    return _base64("".join(lines[1:-1]), name)


def _base64(text: str, name: str) -> bytes:
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise _bad(f"{name} is not base64") from exc


def _hex(text: str, name: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as exc:
        raise _bad(f"{name} is not hex") from exc


def _bad(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"evidence: {what}")
