"""Chunked OHTTP: published examples, every chunking, and one file for each defect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import make_channel_vectors as script
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.errors import IntegrityError, ParseError
from regalia.core.varint import MAX, VarintCode, encode_varint, read_varint
from regalia.crypto.hpke import (
    DEFAULT_SUITE,
    Aead,
    Kdf,
    Kem,
    RecipientContext,
    SenderContext,
    Suite,
    generate_keypair,
)
from regalia.crypto.kem import X25519KeyPair, encapsulate_x25519
from regalia.crypto.ohttp import (
    ClientRequest,
    KeyConfig,
    ResponseSealer,
    ServerExchange,
    parse_key_config,
    request_info,
    serving_key_config,
)
from regalia.crypto.ohttp_codes import CHUNK_MAX, OhttpCode

if TYPE_CHECKING:
    from regalia.crypto import ohttp

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors" / "ohttp"
DRAFT = json.loads((VECTORS / "draft-ietf-ohai-chunked-ohttp-08.json").read_text())
OURS = json.loads((VECTORS / "x-wing.json").read_text())
DEFECTS = json.loads((VECTORS / "defects.json").read_text())
PAIR = generate_keypair(Kem.X_WING)
CONFIG = serving_key_config(PAIR.public_key)


def joined(parts: list[str]) -> bytes:
    return bytes.fromhex("".join(parts))


def receive(opener: ohttp._Opener, data: bytes, size: int) -> list[bytes]:
    """Feed in pieces of ``size`` bytes; return all chunks."""
    chunks = []
    for offset in range(0, len(data), size):
        chunks += opener.feed(data[offset : offset + size])
    return [*chunks, opener.finish()]


def test_vectors_are_what_the_script_writes() -> None:
    for path, data in script.build().items():
        assert (VECTORS.parent / path).read_bytes() == data, path


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_draft_example(size: int) -> None:
    pair = X25519KeyPair(X25519PrivateKey.from_private_bytes(bytes.fromhex(DRAFT["skR"])))
    config = parse_key_config(bytes.fromhex(DRAFT["key_config"]))
    assert config.encode().hex() == DRAFT["key_config"]
    assert config.public_key == pair.public_key

    ephemeral = X25519PrivateKey.from_private_bytes(bytes.fromhex(DRAFT["skE"]))
    secret, enc = encapsulate_x25519(pair.public_key, ephemeral)
    header, info = request_info(config.key_id, config.kem, Aead.AES_128_GCM)
    assert info.hex() == DRAFT["info"]
    suite = Suite(config.kem, Kdf.HKDF_SHA256, Aead.AES_128_GCM)
    client = ClientRequest(header, enc, SenderContext(suite, secret, info))
    first, second, last = (bytes.fromhex(chunk) for chunk in DRAFT["request_chunks"])
    sent = [client.start, client.seal(first), client.seal(second), client.seal_final(last)]
    assert [part.hex() for part in sent] == DRAFT["encapsulated_request"]

    server = ServerExchange(pair, key_id=1, aead=Aead.AES_128_GCM)
    assert receive(server, b"".join(sent), size) == [first, second, last]
    assert server.enc == enc
    exported = server._context.export(b"message/bhttp chunked response", 16)
    assert bytes(exported.view()).hex() == DRAFT["secret"]
    nonce = bytes.fromhex(DRAFT["encapsulated_response"][0])
    sealer = ResponseSealer(server._context, enc, nonce=nonce)
    chunks = [bytes.fromhex(chunk) for chunk in DRAFT["response_chunks"]]
    answer = [sealer.start, *map(sealer.seal, chunks[:2]), sealer.seal_final(chunks[2])]
    assert [part.hex() for part in answer] == DRAFT["encapsulated_response"]
    assert receive(client.response(), b"".join(answer), size) == chunks


def test_our_example_opens() -> None:
    ex = script.exchange()
    server = ServerExchange(ex.pair)
    chunks = receive(server, joined(OURS["encapsulated_request"]), 64)
    assert b"".join(chunks).hex() == OURS["request"]
    client = ex.sender()
    answer = receive(client.response(), joined(OURS["encapsulated_response"]), 64)
    assert [chunk.hex() for chunk in answer] == OURS["response"]


@pytest.mark.parametrize("name", sorted(DEFECTS))
@pytest.mark.parametrize("size", [1, 1 << 20], ids=["bytewise", "at_once"])
def test_defect_is_refused(name: str, size: int) -> None:
    ex = script.exchange()
    opener = ServerExchange(ex.pair) if name.startswith("request") else ex.sender().response()
    data = (VECTORS / f"{name}.bin").read_bytes()
    if len(data) > 4000 and size == 1:
        size = 64
    with pytest.raises((ParseError, IntegrityError)) as caught:
        receive(opener, data, size)
    assert caught.value.code.name == DEFECTS[name]
    assert not opener.complete
    with pytest.raises(RuntimeError):
        opener.feed(b"more")


def test_every_code_has_a_vector() -> None:
    elsewhere = {"OHTTP_KEY_CONFIG_MALFORMED", "OHTTP_SUITE_UNSUPPORTED"}
    assert {code.name for code in OhttpCode} - elsewhere <= set(DEFECTS.values())


def test_no_plaintext_of_a_damaged_chunk_is_handed_on() -> None:
    ex = script.exchange()
    server = ServerExchange(ex.pair)
    start, first, second, final = ex.request()
    assert server.feed(start + first) == [script.REQUEST[:100]]
    with pytest.raises(IntegrityError):
        server.feed(script.flip(second, 10) + final)


@pytest.mark.parametrize(
    ("at", "taken", "code"),
    [
        (0, 16, "OHTTP_CHUNK_REORDERED"),
        (0, 17, "OHTTP_CHUNK_ALTERED"),
        (18, 2, "OHTTP_CHUNK_REPEATED"),
        (19, 2, "OHTTP_CHUNK_ALTERED"),
    ],
)
def test_a_moved_chunk_is_looked_for_16_positions_to_each_side(
    at: int, taken: int, code: str
) -> None:
    client = ClientRequest.to(CONFIG)
    chunks = [client.seal(bytes([number])) for number in range(20)]
    chunks[at] = chunks[taken]
    request = client.start + b"".join(chunks) + client.seal_final(b"")
    with pytest.raises(IntegrityError, match=code):
        receive(ServerExchange(PAIR), request, len(request))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=6),
    st.binary(max_size=300),
    st.integers(min_value=1, max_value=2000),
)
def test_any_chunking_round_trips(chunks: list[bytes], last: bytes, size: int) -> None:
    client = ClientRequest.to(CONFIG)
    request = client.start + b"".join(map(client.seal, chunks)) + client.seal_final(last)
    server = ServerExchange(PAIR)
    assert receive(server, request, size) == [*chunks, last]
    assert server.complete
    sealer = server.response()
    answer = sealer.start + b"".join(map(sealer.seal, chunks)) + sealer.seal_final(last)
    opener = client.response()
    assert receive(opener, answer, size) == [*chunks, last]
    assert opener.complete


@pytest.mark.parametrize("size", [0, 1, CHUNK_MAX - 1, CHUNK_MAX, CHUNK_MAX + 1, 3 * CHUNK_MAX])
def test_seal_all(size: int) -> None:
    message = bytes(range(256)) * (size // 256 + 1)
    client = ClientRequest.to(CONFIG)
    parts = list(client.seal_all(message[:size]))
    assert len(parts) == 1 + max(1, -(-size // CHUNK_MAX))
    assert b"".join(receive(ServerExchange(PAIR), b"".join(parts), 5000)) == message[:size]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_flipped_bit_is_refused(data: st.DataObject) -> None:
    secret = bytes(32)
    header, info = request_info(1, Kem.X_WING, Aead.AES_256_GCM)
    enc = bytes(1120)
    client = ClientRequest(header, enc, SenderContext(DEFAULT_SUITE, secret, info))
    sealer = ResponseSealer(RecipientContext(DEFAULT_SUITE, secret, info), enc)
    answer = bytearray(sealer.start + sealer.seal(b"one") + sealer.seal_final(b"two"))
    answer[data.draw(st.integers(0, len(answer) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((ParseError, IntegrityError)):
        receive(client.response(), bytes(answer), 16)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_noise_is_refused_with_a_code(noise: bytes) -> None:
    header, _ = request_info(1, Kem.X_WING, Aead.AES_256_GCM)
    for data in (noise, header + noise):
        with pytest.raises((ParseError, IntegrityError)):
            receive(ServerExchange(PAIR), data, 50)


def test_an_answer_to_another_request_is_refused() -> None:
    mine, other = ClientRequest.to(CONFIG), ClientRequest.to(CONFIG)
    server = ServerExchange(PAIR)
    receive(server, b"".join(other.seal_all(b"question")), 5000)
    sealer = server.response()
    with pytest.raises(IntegrityError) as caught:
        receive(mine.response(), b"".join(sealer.seal_all(b"answer")), 5000)
    assert caught.value.code is OhttpCode.OHTTP_FINAL_ALTERED


def test_request_to_another_runtime_is_refused() -> None:
    client = ClientRequest.to(serving_key_config(generate_keypair(Kem.X_WING).public_key))
    with pytest.raises(IntegrityError) as caught:
        receive(ServerExchange(PAIR), b"".join(client.seal_all(b"x")), 5000)
    assert caught.value.code is OhttpCode.OHTTP_FINAL_ALTERED


def test_memory_is_bounded() -> None:
    client = ClientRequest.to(CONFIG)
    server = ServerExchange(PAIR)
    stream = client.start + b"".join(client.seal(bytes(CHUNK_MAX)) for _ in range(20))
    most = opened = 0
    for offset in range(0, len(stream), 1000):
        opened += sum(map(len, server.feed(stream[offset : offset + 1000])))
        most = max(most, len(server._buffer))
    assert opened == 20 * CHUNK_MAX
    assert most < CHUNK_MAX + 16 + 8
    server.feed(b"\x00" + bytes(CHUNK_MAX + 16))
    with pytest.raises(ParseError) as caught:
        server.feed(b"\x00")
    assert caught.value.code is OhttpCode.OHTTP_CHUNK_TOO_LARGE


def test_a_message_ends_once() -> None:
    client = ClientRequest.to(CONFIG)
    with pytest.raises(ValueError, match="only the last"):
        client.seal(b"")
    with pytest.raises(ValueError, match="at most"):
        client.seal(bytes(CHUNK_MAX + 1))
    client.seal_final()
    for again in (client.seal, client.seal_final):
        with pytest.raises(RuntimeError):
            again(b"x")
    with pytest.raises(RuntimeError):
        ServerExchange(PAIR).response()


KEY_CONFIGS = st.builds(
    KeyConfig,
    st.integers(0, 255),
    st.just(Kem.X25519_HKDF_SHA256),
    st.binary(min_size=32, max_size=32),
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)), min_size=1, max_size=5).map(
        tuple
    ),
)


def test_key_config_of_rfc9458() -> None:
    example = json.loads((VECTORS / "rfc9458.json").read_text())
    config = parse_key_config(bytes.fromhex(example["key_config"]))
    pair = X25519KeyPair(X25519PrivateKey.from_private_bytes(bytes.fromhex(example["skR"])))
    assert config == KeyConfig(1, pair.kem, pair.public_key, ((1, 1), (1, 3)))
    assert config.encode().hex() == example["key_config"]


@given(KEY_CONFIGS)
def test_key_config_round_trips(config: KeyConfig) -> None:
    assert parse_key_config(config.encode()) == config


@given(st.binary(max_size=80))
def test_key_config_is_canonical(data: bytes) -> None:
    try:
        config = parse_key_config(b"\x01\x00\x20" + data)
    except ParseError:
        return
    assert config.encode() == b"\x01\x00\x20" + data


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda b: b[:2], OhttpCode.OHTTP_KEY_CONFIG_MALFORMED),
        (lambda b: b[:-1], OhttpCode.OHTTP_KEY_CONFIG_MALFORMED),
        (lambda b: b + b"\0", OhttpCode.OHTTP_KEY_CONFIG_MALFORMED),
        (lambda b: b[:-6] + b"\0\0", OhttpCode.OHTTP_KEY_CONFIG_MALFORMED),
        (lambda b: b[:-6] + b"\0\3" + b"\0\1\0", OhttpCode.OHTTP_KEY_CONFIG_MALFORMED),
        (lambda b: b[:1] + b"\0\x10" + b[3:], OhttpCode.OHTTP_SUITE_UNSUPPORTED),
    ],
)
def test_key_config_defects(change: object, code: OhttpCode) -> None:
    with pytest.raises(ParseError) as caught:
        parse_key_config(change(CONFIG.encode()))
    assert caught.value.code is code


def test_suite_choice() -> None:
    def offering(*aeads: int) -> KeyConfig:
        return KeyConfig(1, Kem.X_WING, bytes(1216), tuple((1, aead) for aead in aeads))

    assert offering(1, 3, 2).aead() is Aead.AES_256_GCM
    assert offering(1, 3).aead() is Aead.CHACHA20_POLY1305
    assert offering(0xFFFF, 1).aead() is Aead.AES_128_GCM
    for none in (offering(0xFFFF), KeyConfig(1, Kem.X_WING, b"", ((2, 2),)), offering()):
        with pytest.raises(ParseError) as caught:
            none.aead()
        assert caught.value.code is OhttpCode.OHTTP_SUITE_UNSUPPORTED


@given(st.integers(0, MAX))
def test_varint_round_trips(value: int) -> None:
    data = encode_varint(value)
    assert read_varint(b"x" + data + b"y", 1, what="n") == (value, 1 + len(data))
    assert read_varint(data[:-1], what="n") is None


@pytest.mark.parametrize("data", ["4000", "403f", "80003fff", "c00000003fffffff"])
def test_varint_longer_than_needed_is_refused(data: str) -> None:
    with pytest.raises(ParseError) as caught:
        read_varint(bytes.fromhex(data), what="n")
    assert caught.value.code is VarintCode.VARINT_NOT_MINIMAL


@pytest.mark.parametrize("value", [-1, MAX + 1])
def test_varint_out_of_range(value: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encode_varint(value)
