"""Chunked Oblivious HTTP: RFC 9458 with draft-ietf-ohai-chunked-ohttp.

A request is ``header ‖ chunks``, a response is ``nonce ‖ chunks``. The encryption of a chunk
depends on its position and on whether it is the last one, so altered, moved, repeated, missing
and truncated chunks are detected. Spec: docs/spec/sealed-channel.md, sections 4 to 6.

This module does no I/O. It does not detect replays either: servers must remember the encapsulated
keys that they have seen (``ServerExchange.enc``).
"""

from __future__ import annotations

import os
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from regalia.core.errors import IntegrityError, ParseError
from regalia.core.varint import encode_varint, read_varint
from regalia.crypto.hpke import (
    NONCE_SIZE,
    TAG_SIZE,
    Aead,
    AeadSequence,
    Kdf,
    Kem,
    setup_recipient,
    setup_sender,
)
from regalia.crypto.ohttp_codes import CHUNK_MAX, OhttpCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.crypto.hpke import KemKeyPair, RecipientContext, SenderContext

REQUEST_MEDIA_TYPE = "message/ohttp-chunked-req"
RESPONSE_MEDIA_TYPE = "message/ohttp-chunked-res"
CHUNKS_FREE = 1024  # chunks of a request, beyond …
CHUNK_AVERAGE_MIN = 256  # … one for each of this many bytes that they hold
SERVING_KEY_ID = 1

_REQUEST_LABEL = b"message/bhttp chunked request"
_RESPONSE_LABEL = b"message/bhttp chunked response"
_FINAL = b"final"  # AAD of the last chunk; all other chunks have an empty AAD
_SEALED_MAX = CHUNK_MAX + TAG_SIZE
_PREFIX_MAX = 8  # bytes of the varint before a chunk
_HEADER = struct.Struct(">BHHH")  # key id, KEM, KDF, AEAD
_SUITE = struct.Struct(">HH")
_DIAGNOSIS_WINDOW = 16  # positions around a refused chunk to try for the error message


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """A key, and the algorithms to use it with (RFC 9458, section 3.1).

    ``symmetric`` keeps algorithms that are unknown here, so that newer configurations parse.
    """

    key_id: int  # 0 to 255
    kem: Kem
    public_key: bytes
    symmetric: tuple[tuple[int, int], ...]  # (KDF id, AEAD id)

    def encode(self) -> bytes:
        """Encode as id (1), KEM (2), public key, list length (2), and pairs of KDF, AEAD (2, 2)."""
        suites = b"".join(_SUITE.pack(kdf, aead) for kdf, aead in self.symmetric)
        return b"".join(
            (
                struct.pack(">BH", self.key_id, self.kem),
                self.public_key,
                struct.pack(">H", len(suites)),
                suites,
            )
        )

    def aead(self) -> Aead:
        """Strongest AEAD with HKDF-SHA256. Raises ParseError OHTTP_SUITE_UNSUPPORTED."""
        for wanted in (Aead.AES_256_GCM, Aead.CHACHA20_POLY1305, Aead.AES_128_GCM):
            if (Kdf.HKDF_SHA256, wanted) in self.symmetric:
                return wanted
        raise ParseError(OhttpCode.OHTTP_SUITE_UNSUPPORTED, f"offered: {self.symmetric}")


def serving_key_config(public_key: bytes) -> KeyConfig:
    """Configuration of every Regalia runtime: id 1, X-Wing, HKDF-SHA256, AES-256-GCM."""
    suites = ((int(Kdf.HKDF_SHA256), int(Aead.AES_256_GCM)),)
    return KeyConfig(SERVING_KEY_ID, Kem.X_WING, public_key, suites)


def parse_key_config(data: bytes) -> KeyConfig:
    """Parse a key configuration. Inverse of ``KeyConfig.encode``. Raises ParseError."""
    if len(data) < 3:  # noqa: PLR2004 - key id and KEM id
        raise ParseError(OhttpCode.OHTTP_KEY_CONFIG_MALFORMED, f"{len(data)} bytes")
    key_id, kem_id = struct.unpack_from(">BH", data)
    if kem_id not in set(Kem):
        raise ParseError(OhttpCode.OHTTP_SUITE_UNSUPPORTED, f"KEM {kem_id:#06x}")
    kem = Kem(kem_id)
    listing = 3 + kem.public_key_size
    if len(data) < listing + 2 + _SUITE.size:
        raise ParseError(OhttpCode.OHTTP_KEY_CONFIG_MALFORMED, f"{len(data)} bytes")
    (size,) = struct.unpack_from(">H", data, listing)
    suites = data[listing + 2 :]
    if size != len(suites) or size % _SUITE.size:
        raise ParseError(
            OhttpCode.OHTTP_KEY_CONFIG_MALFORMED, f"{size} bytes of suites announced, {len(suites)}"
        )
    return KeyConfig(key_id, kem, data[3:listing], tuple(_SUITE.iter_unpack(suites)))


def request_info(key_id: int, kem: Kem, aead: Aead) -> tuple[bytes, bytes]:
    """The 7-byte header, and the HPKE info that binds it: label ‖ 0 ‖ header.

    Args:
        key_id: key id in the recipient's key configuration, 0 to 255.
        kem: KEM in that configuration.
        aead: AEAD that was chosen from that configuration.
    """
    header = _HEADER.pack(key_id, kem, Kdf.HKDF_SHA256, aead)
    return header, _REQUEST_LABEL + b"\x00" + header


class _Sealer:
    """Seals and frames chunks. ``start`` holds the bytes to send before the first chunk."""

    __slots__ = ("_ended", "_messages", "start")

    def __init__(self, messages: AeadSequence, start: bytes) -> None:
        self._messages = messages
        self._ended = False
        self.start = start

    def seal(self, chunk: bytes) -> bytes:
        """Seal a chunk of 1 to 16384 bytes that is not the last: length ‖ sealed chunk."""
        if not chunk:
            raise ValueError("only the last chunk may be empty")
        self._usable(chunk)
        sealed = self._messages.seal(b"", chunk)
        return encode_varint(len(sealed)) + sealed

    def seal_final(self, chunk: bytes = b"") -> bytes:
        """Seal the last chunk, of 0 to 16384 bytes: 0 ‖ sealed chunk."""
        self._usable(chunk)
        self._ended = True
        return encode_varint(0) + self._messages.seal(_FINAL, chunk)

    def _usable(self, chunk: bytes) -> None:
        if self._ended:
            raise RuntimeError("the message has ended")
        if len(chunk) > CHUNK_MAX:
            raise ValueError(f"a chunk has at most {CHUNK_MAX} bytes")

    def seal_all(self, message: bytes) -> Iterator[bytes]:
        """Seal a whole message, and yield ``start`` and the chunks to send."""
        yield self.start
        last = max(0, (len(message) - 1) // CHUNK_MAX) * CHUNK_MAX
        for offset in range(0, last, CHUNK_MAX):
            yield self.seal(message[offset : offset + CHUNK_MAX])
        yield self.seal_final(message[last:])


class _State(Enum):
    START = auto()  # waiting for header or nonce
    CHUNKS = auto()
    FINAL = auto()  # the rest of the stream is the last chunk
    ENDED = auto()
    REFUSED = auto()


class _Opener(ABC):
    """Opens a stream incrementally. Buffers at most one incomplete chunk between calls."""

    __slots__ = ("_buffer", "_messages", "_start_size", "_state")

    def __init__(self, start_size: int) -> None:
        self._buffer = bytearray()
        self._start_size = start_size
        self._state = _State.START
        self._messages: AeadSequence | None = None

    @abstractmethod
    def _begin(self, start: bytes) -> AeadSequence:
        """Derive the keys from the first bytes of the stream."""

    @property
    def complete(self) -> bool:
        """Whether the last chunk was opened."""
        return self._state is _State.ENDED

    def feed(self, data: bytes) -> list[bytes]:
        """Process the next bytes of the stream, and return the opened chunks in order.

        The last chunk ends with the stream, so ``finish`` returns it.

        Raises:
            ParseError, IntegrityError: the stream is refused; do not use this object again.
        """
        if self._state in (_State.ENDED, _State.REFUSED):
            raise RuntimeError("the stream has ended")
        self._buffer += data
        try:
            return list(self._opened())
        except (ParseError, IntegrityError):
            self._state = _State.REFUSED
            raise

    def finish(self) -> bytes:
        """Process the end of the stream, and return the last chunk, which may be empty.

        Raises:
            IntegrityError: OHTTP_TRUNCATED or OHTTP_FINAL_ALTERED.
            ParseError: OHTTP_HEADER_TRUNCATED.
        """
        if self._state in (_State.ENDED, _State.REFUSED):
            raise RuntimeError("the stream has ended")
        state, self._state = self._state, _State.REFUSED  # unless all checks below pass
        if self._messages is None:
            raise ParseError(
                OhttpCode.OHTTP_HEADER_TRUNCATED,
                f"{len(self._buffer)} of {self._start_size} bytes arrived",
            )
        if state is not _State.FINAL or len(self._buffer) < TAG_SIZE:
            raise IntegrityError(
                OhttpCode.OHTTP_TRUNCATED,
                f"the stream ended after {self._messages.sequence} chunks without a last one",
            )
        chunk = self._open(bytes(self._buffer), final=True)
        self._buffer.clear()
        self._state = _State.ENDED
        return chunk

    def _opened(self) -> Iterator[bytes]:
        if self._state is _State.START:
            if len(self._buffer) < self._start_size:
                return
            self._messages = self._begin(self._take(self._start_size))
            self._state = _State.CHUNKS
        while self._state is _State.CHUNKS:
            length = read_varint(self._buffer, what="chunk length")
            if length is None:
                return
            size, offset = length
            if size == 0:  # the last chunk has no length: it ends with the stream
                self._take(offset)
                self._state = _State.FINAL
                break
            _check_size(size)
            if len(self._buffer) < offset + size:
                return
            yield self._open(self._take(offset + size)[offset:], final=False)
        if self._state is _State.FINAL and len(self._buffer) > _SEALED_MAX:
            raise ParseError(
                OhttpCode.OHTTP_CHUNK_TOO_LARGE, f"last chunk of more than {_SEALED_MAX} bytes"
            )

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _open(self, sealed: bytes, *, final: bool) -> bytes:
        messages = self._messages
        if messages is None:
            raise RuntimeError("keys are derived before chunks are opened")
        try:
            return messages.open(_FINAL if final else b"", sealed)
        except IntegrityError as exc:
            raise _explain(messages, sealed, final=final) from exc


def _check_size(size: int) -> None:
    if size > _SEALED_MAX:
        raise ParseError(OhttpCode.OHTTP_CHUNK_TOO_LARGE, f"chunk of {size} bytes")
    if size <= TAG_SIZE:
        raise ParseError(OhttpCode.OHTTP_CHUNK_EMPTY, f"chunk of {size} bytes, tag included")


def _explain(messages: AeadSequence, sealed: bytes, *, final: bool) -> IntegrityError:
    """Choose the error for a chunk that was refused. Nothing is accepted here."""
    here = messages.sequence
    if messages.find(b"" if final else _FINAL, sealed, (here,)) is not None:
        if final:
            return IntegrityError(
                OhttpCode.OHTTP_TRUNCATED, f"chunk {here} stands last and was not sealed as last"
            )
        return IntegrityError(
            OhttpCode.OHTTP_DATA_AFTER_FINAL, f"chunk {here} was sealed as last and is not last"
        )
    window = range(max(0, here - _DIAGNOSIS_WINDOW), here + _DIAGNOSIS_WINDOW + 1)
    others = [position for position in window if position != here]
    found = messages.find(b"", sealed, others)
    if found is None:
        found = messages.find(_FINAL, sealed, others)
    if found is not None:
        code = OhttpCode.OHTTP_CHUNK_REPEATED if found < here else OhttpCode.OHTTP_CHUNK_REORDERED
        return IntegrityError(code, f"chunk {found} stands at position {here}")
    if final:
        return IntegrityError(OhttpCode.OHTTP_FINAL_ALTERED, f"chunk {here}, the last, is refused")
    return IntegrityError(OhttpCode.OHTTP_CHUNK_ALTERED, f"chunk {here} is refused")


class ClientRequest(_Sealer):
    """Client side: seals one request, then opens its response. Use it only once."""

    __slots__ = ("_context", "_enc")

    def __init__(self, header: bytes, enc: bytes, context: SenderContext) -> None:
        super().__init__(context.messages, header + enc)
        self._enc = enc
        self._context = context

    @classmethod
    def to(cls, config: KeyConfig) -> Self:
        """Encapsulate a fresh secret for the configuration's key. Raises ParseError."""
        aead = config.aead()
        header, info = request_info(config.key_id, config.kem, aead)
        enc, context = setup_sender(config.kem, config.public_key, info, aead=aead)
        return cls(header, enc, context)

    def response(self) -> ResponseOpener:
        """Create the opener of the response to this request."""
        return ResponseOpener(self._context, self._enc)


class ServerExchange(_Opener):
    """Server side: opens one request, then seals its response.

    Args:
        pair: key pair of the runtime.
        key_id: key id in its key configuration.
        aead: the single AEAD in its key configuration.
    """

    __slots__ = ("_aead", "_context", "_key_id", "_opened_bytes", "_pair", "enc")

    def __init__(
        self,
        pair: KemKeyPair,
        *,
        key_id: int = SERVING_KEY_ID,
        aead: Aead = Aead.AES_256_GCM,
    ) -> None:
        super().__init__(_HEADER.size + pair.kem.enc_size)
        self._pair = pair
        self._key_id = key_id
        self._aead = aead
        self._context: RecipientContext | None = None
        self._opened_bytes = 0
        #: Encapsulated key, which identifies the request: a second one with it is a replay.
        self.enc: bytes | None = None

    def _opened(self) -> Iterator[bytes]:
        # Check the identifiers as soon as they have arrived: a request for another KEM can have a
        # shorter encapsulated key, so waiting for the length of ours could last forever.
        if self._state is _State.START and len(self._buffer) >= _HEADER.size:
            expected, _ = request_info(self._key_id, self._pair.kem, self._aead)
            if self._buffer[: _HEADER.size] != expected:
                raise ParseError(
                    OhttpCode.OHTTP_KEY_UNKNOWN,
                    f"request for {bytes(self._buffer[: _HEADER.size]).hex()}, "
                    f"this runtime has {expected.hex()}",
                )
        for chunk in super()._opened():
            self._opened_bytes += len(chunk)
            self._require_few_chunks()
            yield chunk

    def _require_few_chunks(self) -> None:
        # A chunk costs the same whether it holds one byte or thousands.
        most = CHUNKS_FREE + self._opened_bytes // CHUNK_AVERAGE_MIN
        if self._messages is not None and self._messages.sequence > most:
            raise ParseError(
                OhttpCode.OHTTP_TOO_MANY_CHUNKS,
                f"{self._messages.sequence} chunks for {self._opened_bytes} bytes, at most {most}",
            )

    @property
    def begun(self) -> bool:
        """Whether the header was read, so that ``response`` can seal an answer."""
        return self._context is not None

    def _begin(self, start: bytes) -> AeadSequence:
        _, info = request_info(self._key_id, self._pair.kem, self._aead)
        self.enc = start[_HEADER.size :]
        self._context = setup_recipient(self._pair, self.enc, info, aead=self._aead)
        return self._context.messages

    def response(self) -> ResponseSealer:
        """Create the sealer of the response, after the header of the request was read.

        Raises:
            RuntimeError: the header was not read yet, which is a bug of the caller.
        """
        if self._context is None or self.enc is None:
            raise RuntimeError("the request's header has not been read")
        return ResponseSealer(self._context, self.enc)


class ResponseSealer(_Sealer):
    """Server side: seals a response, whose ``start`` is the response nonce."""

    __slots__ = ()

    def __init__(
        self, context: RecipientContext, enc: bytes, *, nonce: bytes | None = None
    ) -> None:
        """Set up the keys. Give ``nonce`` only in tests: reusing one reuses the response's key."""
        if nonce is None:
            nonce = os.urandom(_response_nonce_size(context.suite.aead))
        super().__init__(_response_sequence(context, enc, nonce), nonce)


class ResponseOpener(_Opener):
    """Client side: opens the response to one request."""

    __slots__ = ("_context", "_enc")

    def __init__(self, context: SenderContext, enc: bytes) -> None:
        super().__init__(_response_nonce_size(context.suite.aead))
        self._context = context
        self._enc = enc

    def _begin(self, start: bytes) -> AeadSequence:
        return _response_sequence(self._context, self._enc, start)


def _response_nonce_size(aead: Aead) -> int:
    """max(Nn, Nk) of RFC 9458, section 4.4."""
    return max(NONCE_SIZE, aead.key_size)


def _response_sequence(
    context: SenderContext | RecipientContext, enc: bytes, nonce: bytes
) -> AeadSequence:
    """Derive a response's key and nonces: RFC 9458, section 4.4, with the chunked draft's label."""
    aead = context.suite.aead
    with context.export(_RESPONSE_LABEL, _response_nonce_size(aead)) as secret:
        prk = HKDF.extract(SHA256(), enc + nonce, secret.view())
    key = HKDFExpand(SHA256(), aead.key_size, b"key").derive(prk)
    base = HKDFExpand(SHA256(), NONCE_SIZE, b"nonce").derive(prk)
    return AeadSequence(aead, key, base)
