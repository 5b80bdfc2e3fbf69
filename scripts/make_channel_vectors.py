"""Write the sealed channel's test vectors: python scripts/make_channel_vectors.py [--check].

Everything is derived from one published encapsulation (draft-ietf-hpke-pq, MLKEM768-X25519), so
a second run gives the same bytes. Each defect is one file with exactly that defect; the code it
deserves stands in ``defects.json`` beside it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from regalia.client.exchange import padded_size, seal_request
from regalia.crypto.hpke import DEFAULT_SUITE, RecipientContext, SenderContext
from regalia.crypto.kem import XWingKeyPair
from regalia.crypto.ohttp import (
    CHUNKS_FREE,
    ClientRequest,
    ResponseSealer,
    ServerExchange,
    request_info,
    serving_key_config,
)
from regalia.wire import bhttp
from regalia.wire.bhttp import RequestHead, ResponseHead

VECTORS = Path(__file__).parents[1] / "tests" / "vectors"
NONCE = bytes(range(32))
MOMENT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
REQUEST = bhttp.encode_known(
    RequestHead(
        b"POST",
        b"http",
        b"runtime.example",
        b"/v1/chat/completions",
        (
            (b"authorization", b"Bearer x"),
            (b"content-type", b"application/json"),
            (b"date", b"Sun, 22 Nov 2026 10:00:00 GMT"),
        ),
    ),
    b'{"messages":[{"content":"Hello","role":"user"}],"stream":true}',
    padding=60,
)
RESPONSE = (
    bhttp.encode_streamed_head(ResponseHead(200, ((b"content-type", b"text/event-stream"),))),
    bhttp.encode_streamed_content(b'data: {"delta":"Hi"}\n\n'),
    bhttp.encode_streamed_content(b"data: [DONE]\n\n"),
    bhttp.encode_streamed_end(),
)


@dataclass(frozen=True)
class Exchange:
    """One request and one response with fixed randomness."""

    pair: XWingKeyPair
    header: bytes
    info: bytes
    enc: bytes
    secret: bytes

    def sender(self) -> ClientRequest:
        """A client in its first step."""
        context = SenderContext(DEFAULT_SUITE, self.secret, self.info)
        return ClientRequest(self.header, self.enc, context)

    def request(self) -> list[bytes]:
        """Start and chunks: 100 bytes, 64 bytes, the rest."""
        sender = self.sender()
        cuts = (REQUEST[:100], REQUEST[100:164])
        return [sender.start, *map(sender.seal, cuts), sender.seal_final(REQUEST[164:])]

    def response(self, nonce: bytes = NONCE) -> list[bytes]:
        """Start and chunks."""
        context = RecipientContext(DEFAULT_SUITE, self.secret, self.info)
        sealer = ResponseSealer(context, self.enc, nonce=nonce)
        return [sealer.start, *map(sealer.seal, RESPONSE[:-1]), sealer.seal_final(RESPONSE[-1])]


def exchange() -> Exchange:
    """The published key pair and encapsulation, in our suite."""
    path = VECTORS / "hpke" / "draft-ietf-hpke-pq.json"
    (published,) = json.loads(path.read_text())["vectors"]
    seed = hashlib.shake_256(bytes.fromhex(published["skRm"])).digest(96)
    pair = XWingKeyPair(
        MLKEM768PrivateKey.from_seed_bytes(seed[:64]),
        X25519PrivateKey.from_private_bytes(seed[64:]),
    )
    enc = bytes.fromhex(published["enc"])
    header, info = request_info(1, pair.kem, DEFAULT_SUITE.aead)
    return Exchange(pair, header, info, enc, pair.decapsulate(enc))


def good(ex: Exchange) -> dict[str, object]:
    """Every intermediate value of the exchange."""
    context = SenderContext(DEFAULT_SUITE, ex.secret, ex.info)
    exported = bytes(context.export(b"message/bhttp chunked response", 32).view())
    prk = HKDF.extract(SHA256(), ex.enc + NONCE, exported)
    return {
        "about": "key pair and encapsulation of draft-ietf-hpke-pq; suite 0x647a, 0x0001, 0x0002",
        "key_config": serving_key_config(ex.pair.public_key).encode().hex(),
        "info": ex.info.hex(),
        "enc": ex.enc.hex(),
        "shared_secret": ex.secret.hex(),
        "request": REQUEST.hex(),
        "encapsulated_request": [part.hex() for part in ex.request()],
        "response_nonce": NONCE.hex(),
        "exported": exported.hex(),
        "prk": prk.hex(),
        "aead_key": HKDFExpand(SHA256(), 32, b"key").derive(prk).hex(),
        "aead_nonce": HKDFExpand(SHA256(), 12, b"nonce").derive(prk).hex(),
        "response": [part.hex() for part in RESPONSE],
        "encapsulated_response": [part.hex() for part in ex.response()],
    }


def flip(data: bytes, index: int) -> bytes:
    """Change one bit."""
    changed = bytearray(data)
    changed[index] ^= 1
    return bytes(changed)


def chunk_defects(parts: list[bytes], foreign: bytes) -> dict[str, tuple[bytes, str]]:
    """Defects that requests and responses share; ``parts`` is start, two chunks or more, final."""
    start, first, second, *more, final = parts
    rest = b"".join(more)
    tail = second + rest + final
    return {
        "chunk_flipped": (start + flip(first, 5) + tail, "OHTTP_CHUNK_ALTERED"),
        "chunk_tag_flipped": (start + flip(first, -1) + tail, "OHTTP_CHUNK_ALTERED"),
        "chunk_of_another_exchange": (start + foreign + tail, "OHTTP_CHUNK_ALTERED"),
        "chunks_swapped": (start + second + first + rest + final, "OHTTP_CHUNK_REORDERED"),
        "chunk_dropped": (start + tail, "OHTTP_CHUNK_REORDERED"),
        "chunk_repeated": (start + first + first + tail, "OHTTP_CHUNK_REPEATED"),
        "chunk_empty": (start + b"\x10" + bytes(16) + first + tail, "OHTTP_CHUNK_EMPTY"),
        "chunk_too_large": (start + b"\x80\x00\x40\x11" + first, "OHTTP_CHUNK_TOO_LARGE"),
        "length_not_minimal": (
            start + (0x80000000 | len(_sealed(first))).to_bytes(4) + _sealed(first) + tail,
            "VARINT_NOT_MINIMAL",
        ),
        "final_mark_not_minimal": (
            start + first + second + rest + b"\x40\x00" + _sealed(final),
            "VARINT_NOT_MINIMAL",
        ),
        "cut_at_chunk": (start + first + second, "OHTTP_TRUNCATED"),
        "cut_in_chunk": (start + first + second[:-3], "OHTTP_TRUNCATED"),
        "cut_after_start": (start, "OHTTP_TRUNCATED"),
        "cut_in_start": (start[:-1], "OHTTP_HEADER_TRUNCATED"),
        "empty": (b"", "OHTTP_HEADER_TRUNCATED"),
        "cut_after_final_mark": (start + first + second + rest + b"\x00", "OHTTP_TRUNCATED"),
        "chunk_relabelled_final": (
            start + first + b"\x00" + _sealed(second),
            "OHTTP_TRUNCATED",
        ),
        "final_cut": (start + first + tail[:-1], "OHTTP_FINAL_ALTERED"),
        "final_flipped": (start + first + flip(tail, -1), "OHTTP_FINAL_ALTERED"),
        "final_appended": (start + first + tail + b"!", "OHTTP_FINAL_ALTERED"),
        "final_too_large": (start + first + tail + bytes(16384), "OHTTP_CHUNK_TOO_LARGE"),
        "final_not_last": (
            start + first + second + rest + bhttp.encode_streamed_content(_sealed(final)) + final,
            "OHTTP_DATA_AFTER_FINAL",
        ),
    }


def _sealed(framed: bytes) -> bytes:
    """A chunk without its length, which takes one byte or two here."""
    return framed[1 + (framed[0] >> 6) :]


def one_byte_chunks(ex: Exchange) -> bytes:
    """A request in chunks of one byte, more of them than are accepted."""
    sender = ex.sender()
    chunks = [sender.seal(b"x") for _ in range(CHUNKS_FREE + 16)]
    return b"".join([sender.start, *chunks, sender.seal_final()])


def ohttp_defects(ex: Exchange) -> dict[str, tuple[bytes, str]]:
    """By file name without suffix."""
    parts = ex.request()
    start, rest = parts[0], b"".join(parts[1:])
    other = SenderContext(DEFAULT_SUITE, bytes(32), ex.info)
    foreign = ClientRequest(ex.header, ex.enc, other).seal(REQUEST[:100])
    requests = chunk_defects(parts, foreign) | {
        "key_id_unknown": (b"\x02" + start[1:] + rest, "OHTTP_KEY_UNKNOWN"),
        "kem_unknown": (start[:1] + b"\x00\x20" + start[3:] + rest, "OHTTP_KEY_UNKNOWN"),
        "aead_unknown": (start[:6] + b"\x01" + start[7:] + rest, "OHTTP_KEY_UNKNOWN"),
        "enc_mlkem_flipped": (flip(start, 20) + rest, "OHTTP_CHUNK_ALTERED"),
        "enc_x25519_flipped": (flip(start, -9) + rest, "OHTTP_CHUNK_ALTERED"),
        "too_many_chunks": (one_byte_chunks(ex), "OHTTP_TOO_MANY_CHUNKS"),
        "enc_small_order": (start[:-32] + bytes(32) + rest, "HPKE_KEY_MALFORMED"),
    }
    answer = ex.response()
    other_answer = ex.response(bytes(32))
    responses = chunk_defects(answer, other_answer[1]) | {
        "nonce_flipped": (flip(answer[0], 0) + b"".join(answer[1:]), "OHTTP_CHUNK_ALTERED"),
    }
    return {f"request_{name}": value for name, value in requests.items()} | {
        f"response_{name}": value for name, value in responses.items()
    }


def bhttp_defects() -> dict[str, tuple[bytes, str]]:
    """By file name without suffix; ``request_`` and ``response_`` name the parser."""
    get = b"\x03GET\x05https\x01h\x01/"
    return {
        "request_is_response": (b"\x01\x40\xc8", "BHTTP_FRAMING_UNKNOWN"),
        "request_framing_unknown": (b"\x04" + get, "BHTTP_FRAMING_UNKNOWN"),
        "request_framing_not_minimal": (b"\x40\x00" + get, "VARINT_NOT_MINIMAL"),
        "request_empty": (b"", "BHTTP_TRUNCATED"),
        "request_cut_in_method": (b"\x00\x03GE", "BHTTP_TRUNCATED"),
        "request_cut_before_path": (b"\x00\x03GET\x05https\x01h", "BHTTP_TRUNCATED"),
        "request_cut_in_fields": (b"\x00" + get + b"\x06\x01a\x01", "BHTTP_TRUNCATED"),
        "request_cut_in_content": (b"\x00" + get + b"\x00\x05abc", "BHTTP_TRUNCATED"),
        "request_method_empty": (b"\x00\x00\x05https\x01h\x01/", "BHTTP_CONTROL_MALFORMED"),
        "request_method_with_space": (
            b"\x00\x04GET \x05https\x01h\x01/",
            "BHTTP_CONTROL_MALFORMED",
        ),
        "request_scheme_upper": (b"\x00\x03GET\x05HTTPS\x01h\x01/", "BHTTP_CONTROL_MALFORMED"),
        "request_authority_with_space": (
            b"\x00\x03GET\x05https\x03h h\x01/",
            "BHTTP_CONTROL_MALFORMED",
        ),
        "request_path_relative": (b"\x00\x03GET\x05https\x01h\x01x", "BHTTP_CONTROL_MALFORMED"),
        "request_path_with_newline": (
            b"\x00\x03GET\x05https\x01h\x03/\r\n",
            "BHTTP_CONTROL_MALFORMED",
        ),
        "request_field_name_upper": (b"\x00" + get + b"\x04\x01A\x01b", "BHTTP_FIELD_MALFORMED"),
        "request_field_name_empty": (b"\x00" + get + b"\x03\x00\x01b", "BHTTP_FIELD_MALFORMED"),
        "request_field_name_pseudo": (
            b"\x00" + get + b"\x07\x05:path\x00",
            "BHTTP_FIELD_MALFORMED",
        ),
        "request_field_value_newline": (
            b"\x00" + get + b"\x06\x01a\x03b\nc",
            "BHTTP_FIELD_MALFORMED",
        ),
        "request_field_value_nul": (b"\x00" + get + b"\x04\x01a\x01\x00", "BHTTP_FIELD_MALFORMED"),
        "request_field_value_space_at_end": (
            b"\x00" + get + b"\x05\x01a\x02b ",
            "BHTTP_FIELD_MALFORMED",
        ),
        "request_field_crosses_section": (
            b"\x00" + get + b"\x04\x01a\x02bc",
            "BHTTP_FIELD_MALFORMED",
        ),
        "request_padding_not_zero": (
            b"\x00" + get + b"\x00\x00\x00\x00\x01",
            "BHTTP_PADDING_NOT_ZERO",
        ),
        "request_head_too_large": (b"\x00" + get + b"\x80\x01\x00\x01", "BHTTP_TOO_LARGE"),
        "request_content_too_large": (
            b"\x00" + get + b"\x00\x84\x00\x00\x01",
            "BHTTP_TOO_LARGE",
        ),
        "request_too_many_fields": (b"\x02" + get + b"\x01a\x00" * 257, "BHTTP_TOO_LARGE"),
        "response_is_request": (b"\x00" + get, "BHTTP_FRAMING_UNKNOWN"),
        "response_status_too_small": (b"\x01\x40\x63", "BHTTP_CONTROL_MALFORMED"),
        "response_status_too_large": (b"\x01\x42\x58", "BHTTP_CONTROL_MALFORMED"),
        "response_only_informational": (b"\x03\x40\x66\x00", "BHTTP_TRUNCATED"),
        "response_too_many_informational": (b"\x03" + b"\x40\x66\x00" * 9, "BHTTP_TOO_LARGE"),
        "response_streamed_cut_in_content": (b"\x03\x40\xc8\x00\x03abc", "BHTTP_TRUNCATED"),
        "response_streamed_cut_in_fields": (b"\x03\x40\xc8\x01a\x00", "BHTTP_TRUNCATED"),
        "response_padding_not_zero": (
            b"\x03\x40\xc8\x00\x00\x00\x00\x02",
            "BHTTP_PADDING_NOT_ZERO",
        ),
    }


def key_configs(ex: Exchange) -> dict[str, object]:
    """Key configurations that are read, with the AEAD that is chosen, and those that are not."""
    public, weak = ex.pair.public_key, bytes(range(32))

    def config(kem: str, key: bytes, *suites: str, size: int | None = None) -> str:
        listed = bytes.fromhex("".join(suites))
        length = (len(listed) if size is None else size).to_bytes(2)
        return (b"\x01" + bytes.fromhex(kem) + key + length + listed).hex()

    gcm_128, gcm_256, chacha, unknown = "00010001", "00010002", "00010003", "00020002"
    # Of the KDF that is known: an AEAD that nobody has registered, and export only.
    aead_unknown, export_only = "00010004", "0001ffff"
    return {
        "accepted": [
            {"config": config("647a", public, gcm_256), "aead": 2},
            {"config": config("647a", public, gcm_128, chacha, gcm_256), "aead": 2},
            {"config": config("647a", public, gcm_128, chacha), "aead": 3},
            {"config": config("647a", public, unknown, gcm_128), "aead": 1},
            {"config": config("0020", weak, gcm_256), "aead": 2},
            {"config": config("0020", weak, gcm_128, aead_unknown, export_only), "aead": 1},
            {"config": config("0020", weak, export_only, chacha, unknown, gcm_128), "aead": 3},
            {"config": config("0020", weak, aead_unknown, gcm_256), "aead": 2},
            {"config": config("647a", public, aead_unknown, gcm_128, export_only), "aead": 1},
        ],
        # By name: the code, and the configuration.
        "refused": {
            "empty": ["OHTTP_KEY_CONFIG_MALFORMED", ""],
            "cut_in_key": [
                "OHTTP_KEY_CONFIG_MALFORMED",
                config("647a", public[:-1], gcm_256)[:-14],
            ],
            "no_suites": ["OHTTP_KEY_CONFIG_MALFORMED", config("647a", public)],
            "suite_cut": ["OHTTP_KEY_CONFIG_MALFORMED", config("647a", public, gcm_256)[:-2]],
            "bytes_behind": ["OHTTP_KEY_CONFIG_MALFORMED", config("647a", public, gcm_256) + "00"],
            "length_of_suites": [
                "OHTTP_KEY_CONFIG_MALFORMED",
                config("647a", public, gcm_256, size=8),
            ],
            "kem_unknown": ["OHTTP_SUITE_UNSUPPORTED", config("0010", bytes(65), gcm_256)],
            "suites_unknown": ["OHTTP_SUITE_UNSUPPORTED", config("647a", public, unknown)],
            "aeads_unknown": [
                "OHTTP_SUITE_UNSUPPORTED",
                config("0020", weak, aead_unknown, export_only),
            ],
        },
    }


def padding() -> dict[str, object]:
    """Sizes of requests, and of answers."""
    borders = {1 << power for power in range(10, 25)}
    sizes = {near + step for near in borders for step in (-1, 0, 1, 31, 32, 33)} | {0, 1, 5000}
    return {
        # Size of a request's Binary HTTP message, and the size that it is padded to.
        "requests": [[size, padded_size(size)] for size in sorted(sizes)],
        # Size of an answer before padding, the runtime's setting, and the size after it.
        "answers": [[90, 256, 256], [256, 256, 256], [257, 256, 512], [1, 16, 16], [90, 0, 90]],
    }


def profile_request(ex: Exchange) -> dict[str, object]:
    """A request as a client makes it from an ordinary HTTP request, padded and sealed."""
    body = b'{"messages":[{"content":"Hello","role":"user"}]}'
    fields = [
        ("Host", "runtime.example"),
        ("Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Authorization", " Bearer x "),
        ("Content-Type", "application/json"),
        ("Accept-Encoding", "gzip"),
        ("Content-Length", "7"),
    ]
    url = "http://runtime.example/v1/chat/completions?a=b"
    config = serving_key_config(ex.pair.public_key)
    sealed, _ = seal_request(
        config,
        httpx.Request("POST", url, headers=fields, content=body),
        body,
        path=b"/v1/chat/completions?a=b",
        now=MOMENT,
    )
    server = ServerExchange(ex.pair)
    message = b"".join([*server.feed(sealed), server.finish()])
    return {
        "method": "POST",
        "url": url,
        "fields": fields,
        "body": body.decode(),
        "clock": MOMENT.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "message": message.hex(),
        "encapsulated_request": b"".join(ex.sender().seal_all(message)).hex(),
    }


def dates() -> dict[str, object]:
    """Fields named date of an opened request, and whether a runtime takes them."""
    on_time = "Sun, 22 Nov 2026 10:00:00 GMT"
    return {
        "clock": MOMENT.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "accepted": [
            [on_time],
            ["Sun, 22 Nov 2026 10:02:00 GMT"],
            ["Sun, 22 Nov 2026 09:58:00 GMT"],
        ],
        "REQUEST_DATE_REFUSED": [
            [],
            [on_time, on_time],
            ["Sun, 22 Nov 2026 10:02:01 GMT"],
            ["Sun, 22 Nov 2026 09:57:59 GMT"],
            ["Mon, 22 Nov 2026 10:00:00 GMT"],
            ["sun, 22 nov 2026 10:00:00 gmt"],
            ["Sun, 22 Nov 2026 10:0:00 GMT"],
            ["Sun,  22 Nov 2026 10:00:00 GMT"],
            ["Sun, 22 Nov 2026 10:00:00 +0000"],
            ["Sunday, 22-Nov-26 10:00:00 GMT"],
            ["Sun Nov 22 10:00:00 2026"],
            ["2026-11-22T10:00:00Z"],
            [""],
        ],
    }


def build() -> dict[Path, bytes]:
    """Every file that this script is responsible for."""
    ex = exchange()
    files = {
        Path("ohttp/x-wing.json"): _json(good(ex)),
        Path("ohttp/key-config.json"): _json(key_configs(ex)),
        Path("ohttp/padding.json"): _json(padding()),
        Path("ohttp/profile.json"): _json(profile_request(ex)),
        Path("ohttp/dates.json"): _json(dates()),
    }
    for folder, defects in (("ohttp", ohttp_defects(ex)), ("bhttp", bhttp_defects())):
        for name, (data, _) in defects.items():
            files[Path(folder, f"{name}.bin")] = data
        codes = {name: code for name, (_, code) in defects.items()}
        files[Path(folder, "defects.json")] = _json(codes)
    return files


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def main() -> int:
    """Write the files, or compare them with --check."""
    files = build()
    if "--check" in sys.argv[1:]:
        wrong = [
            str(path)
            for path, data in files.items()
            if not (VECTORS / path).is_file() or (VECTORS / path).read_bytes() != data
        ]
        print("\n".join(wrong) or f"{len(files)} files as committed")
        return bool(wrong)
    for path, data in files.items():
        (VECTORS / path).parent.mkdir(parents=True, exist_ok=True)
        (VECTORS / path).write_bytes(data)
    print(f"{len(files)} files written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
