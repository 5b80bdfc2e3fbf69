"""Attestations of google/go-tpm-tools: the protocol buffers message ``attest.Attestation``.

Fields are those of that project's proto/attest.proto and proto/tpm.proto. The reader is strict:
known fields only, each with its wire type, singular ones once, numbers in their shortest form.
Nothing here verifies anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError
from regalia.tees.tpm.evidence.document import TpmQuote
from regalia.tees.tpm.evidence.layout import HashAlg
from regalia.tees.tpm.evidence.wire import SELECT_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTESTATION_MAX = 4 << 20  # bytes
QUOTES_MAX = 8
CERTIFICATES_MAX = 8
_VARINT, _BYTES = 0, 2
_VARINT_MAX = 10  # bytes
_PCRS_MAX = 8 * SELECT_MAX
_CONTINUES = 0x80
_SEPTET = 0x7F

_ATTESTATION = {
    1: "ak_pub",
    2: "quotes",
    3: "event_log",
    4: "instance_info",
    5: "canonical_event_log",
    6: "ak_cert",
    7: "intermediate_certs",
    8: "sev_snp_attestation",
    9: "tdx_attestation",
}
_QUOTE = {1: "quote", 2: "raw_sig", 3: "pcrs"}
_PCRS = {1: "hash", 2: "pcrs"}
_ENTRY = {1: "key", 2: "value"}
_NUMBERS = frozenset({"hash", "key"})
_REPEATED = frozenset({"quotes", "intermediate_certs", "pcrs"})


@dataclass(frozen=True, slots=True)
class GoAttestation:
    """One message, untrusted.

    Attributes:
        quotes: one for each bank, in the order of the message.
        event_log: TCG log.
        ak_cert: DER; empty if none came along.
        intermediate_certs: DER.
        tee: the bytes of the second attestation, by a TEE; empty if none came along.
    """

    quotes: tuple[TpmQuote, ...]
    event_log: bytes
    ak_cert: bytes
    intermediate_certs: tuple[bytes, ...]
    tee: bytes


def parse_go_attestation(data: bytes) -> GoAttestation:
    """Parse one serialized ``attest.Attestation``. Raises ParseError."""
    if len(data) > ATTESTATION_MAX:
        raise ParseError(
            CoreCode.TOO_LARGE, f"go-tpm-tools: {len(data)} bytes, at most {ATTESTATION_MAX}"
        )
    found = _Message(data, _ATTESTATION, repeated=_REPEATED)
    ak_pub = found.bytes_of("ak_pub")
    quotes = found.all_of("quotes")
    certificates = found.all_of("intermediate_certs")
    if not 0 < len(quotes) <= QUOTES_MAX or len(certificates) > CERTIFICATES_MAX:
        raise _malformed(f"{len(quotes)} quotes and {len(certificates)} certificates")
    return GoAttestation(
        quotes=tuple(_quote(each, ak_pub) for each in quotes),
        event_log=found.bytes_of("event_log"),
        ak_cert=found.bytes_of("ak_cert"),
        intermediate_certs=certificates,
        tee=found.bytes_of("sev_snp_attestation") or found.bytes_of("tdx_attestation"),
    )


def _quote(data: bytes, ak_pub: bytes) -> TpmQuote:
    found = _Message(data, _QUOTE, repeated=frozenset())
    pcrs = _Message(found.bytes_of("pcrs"), _PCRS, repeated=_REPEATED)
    number = pcrs.number_of("hash")
    if number not in set(HashAlg):
        raise _malformed(f"hash {number:#x} is not known")
    alg = HashAlg(number)
    values: dict[int, bytes] = {}
    for each in pcrs.all_of("pcrs"):
        entry = _Message(each, _ENTRY, repeated=frozenset())
        pcr, value = entry.number_of("key"), entry.bytes_of("value")
        if pcr >= _PCRS_MAX or pcr in values or len(value) != alg.size:
            raise _malformed(f"PCR {pcr} of {alg.label}, {len(value)} bytes, or twice")
        values[pcr] = value
    return TpmQuote(found.bytes_of("quote"), found.bytes_of("raw_sig"), ak_pub, {alg: values})


class _Message:
    """The fields of one message by name."""

    __slots__ = ("_blobs", "_numbers")

    def __init__(self, data: bytes, fields: dict[int, str], *, repeated: frozenset[str]) -> None:
        self._blobs: dict[str, list[bytes]] = {}
        self._numbers: dict[str, int] = {}
        for number, value in _fields(data):
            name = fields.get(number)
            if name is None:
                raise _malformed(f"field {number} is not known")
            if isinstance(value, int) != (name in _NUMBERS):
                raise _malformed(f"{name} has another type")
            if isinstance(value, int):
                if name in self._numbers:
                    raise _malformed(f"{name} is there twice")
                self._numbers[name] = value
                continue
            blobs = self._blobs.setdefault(name, [])
            if blobs and name not in repeated:
                raise _malformed(f"{name} is there twice")
            blobs.append(value)

    def number_of(self, name: str) -> int:
        """A number; one that is absent is zero, as in proto3."""
        return self._numbers.get(name, 0)

    def bytes_of(self, name: str) -> bytes:
        """Bytes; absent ones are empty, as in proto3."""
        return b"".join(self._blobs.get(name, ()))

    def all_of(self, name: str) -> tuple[bytes, ...]:
        """Every occurrence of a repeated field."""
        return tuple(self._blobs.get(name, ()))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) in the order of the message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 0b111
        value, at = _varint(data, at)
        if kind == _VARINT:
            yield tag >> 3, value
        elif kind == _BYTES:
            if value > len(data) - at:
                raise _malformed("ends within a field")
            yield tag >> 3, data[at : at + value]
            at += value
        else:
            raise _malformed(f"wire type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A base-128 number in its shortest form, and where it ends."""
    value = 0
    for index, byte in enumerate(data[at : at + _VARINT_MAX]):
        value |= (byte & _SEPTET) << 7 * index
        if not byte & _CONTINUES:
            if index and not byte:
                raise _malformed("a number is not in its shortest form")
            return value, at + index + 1
    raise _malformed("ends within a number, or a number has no end")


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"go-tpm-tools: {what}")
