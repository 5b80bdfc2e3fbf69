"""What the chip's ROM wrote into the leaf about the firmware that holds its key.

Hopper and LS10 carry the CompositeDeviceID of RIoT under 2.23.133.5.4.1, which TCG calls
tcg-dice-TcbInfo: ``SEQUENCE { INTEGER 1, SubjectPublicKeyInfo deviceID, FWID }``. Blackwell has a
DiceTcbInfo (TCG DICE Attestation Architecture 1.1, section 6.1.1) under 2.23.133.5.4.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import elements as der
from regalia.core.errors import AttestationError, CoreCode, ParseError

if TYPE_CHECKING:
    from regalia.appraisal.pki import Certificate

OID_COMPOSITE_DEVICE_ID = "2.23.133.5.4.1"
OID_TCB_INFO = "2.23.133.5.4.1.1"
FWID_SIZE = 48  # bytes: SHA-384

_SHA384 = bytes.fromhex("608648016503040202")
_VERSION_1 = b"\x01"
_FWIDS = der.CONTEXT_CONSTRUCTED | 6
_FLAGS = der.CONTEXT | 7  # OperationalFlags, BIT STRING
_FLAGS_DEBUG = 0x10  # bit 3 of the first octet
_FLAGS_SIZE_MAX = 5
_TCB_INFO_TAGS_MAX = 16


@dataclass(frozen=True, slots=True)
class Dice:
    """The leaf's word on its own firmware. As trustworthy as the leaf."""

    fwid: bytes  # 48
    device_key: bytes  # SubjectPublicKeyInfo of the device's own certificate, or empty: unstated
    debug: bool


def read_dice(leaf: Certificate) -> Dice:
    """Read the one DICE extension.

    Raises:
        ParseError: MALFORMED.
        AttestationError: LEAF_BINDING_MISMATCH, there is none, or more than one.
    """
    found = {
        extension.oid.dotted_string: extension.value.value
        for extension in leaf.extensions
        if isinstance(extension.value, x509.UnrecognizedExtension)
        and extension.oid.dotted_string in (OID_COMPOSITE_DEVICE_ID, OID_TCB_INFO)
    }
    if len(found) != 1:
        raise AttestationError(
            AttestCode.LEAF_BINDING_MISMATCH, f"{leaf} has {len(found)} DICE extensions, want one"
        )
    ((oid, value),) = found.items()
    sequence = der.one(value, der.SEQUENCE, what="DICE extension")
    return _composite(sequence) if oid == OID_COMPOSITE_DEVICE_ID else _tcb_info(sequence)


def _composite(sequence: bytes) -> Dice:
    parts = list(der.elements(sequence, what="CompositeDeviceID"))
    if [tag for tag, _, _ in parts] != [der.INTEGER, der.SEQUENCE, der.SEQUENCE]:
        raise _malformed("CompositeDeviceID")
    if parts[0][1] != _VERSION_1:
        raise _malformed("CompositeDeviceID version")
    return Dice(_fwid(parts[2][1]), parts[1][2], debug=False)


def _tcb_info(sequence: bytes) -> Dice:
    """The first FWID is of the firmware in this layer; what others mean is NVIDIA's."""
    parts = list(der.elements(sequence, what="DiceTcbInfo"))
    tags = [tag for tag, _, _ in parts]
    if len(parts) > _TCB_INFO_TAGS_MAX or tags != sorted(set(tags), key=lambda tag: tag & 0x1F):
        raise _malformed("DiceTcbInfo")
    fields = {tag: contents for tag, contents, _ in parts}
    fwids = [
        _fwid(contents) if tag == der.SEQUENCE else b""
        for tag, contents, _ in der.elements(fields.get(_FWIDS, b""), what="DiceTcbInfo fwids")
    ]
    if not fwids or not all(fwids):
        raise _malformed("DiceTcbInfo fwids")
    flags = fields.get(_FLAGS, b"\x00")
    if not 0 < len(flags) <= _FLAGS_SIZE_MAX:
        raise _malformed("DiceTcbInfo flags")
    return Dice(fwids[0], b"", debug=bool(flags[1:2] and flags[1] & _FLAGS_DEBUG))


def _fwid(contents: bytes) -> bytes:
    """FWID: SEQUENCE { hashAlg OBJECT IDENTIFIER, digest OCTET STRING }."""
    parts = [(tag, value) for tag, value, _ in der.elements(contents, what="FWID")]
    if len(parts) != 2 or parts[0] != (der.OBJECT_IDENTIFIER, _SHA384):  # noqa: PLR2004
        raise _malformed("FWID")
    tag, digest = parts[1]
    if tag != der.OCTET_STRING or len(digest) != FWID_SIZE:
        raise _malformed("FWID digest")
    return digest


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"leaf certificate: {what} is not what TCG DICE says")
