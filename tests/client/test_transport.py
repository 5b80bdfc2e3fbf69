"""The sealed channel against a relay that reads, cuts, reorders, repeats and lies."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.client import AsyncRegaliaTransport, RegaliaTransport
from regalia.client.errors import ClientCode, RuntimeNotVerifiedError, SealedChannelError
from regalia.client.exchange import padded_size
from regalia.core.errors import ParseError
from regalia.crypto.ohttp_codes import CHUNK_MAX
from regalia.wire import bhttp
from regalia.wire.serving import EVIDENCE_PATH, SEALED_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.client.trust import ClientTrust

URL = "http://runtime.test"
CHAT = f"{URL}/v1/chat/completions"
NEEDLE = "the prompt that nobody else may read"
SECRET = "sk-needle-of-the-caller"
ASK = {"messages": [{"role": "user", "content": NEEDLE}]}
STREAM = ASK | {"stream": True}
WORDS = "Gold and jewels."


@pytest.fixture
def transport(relay: object, trust: ClientTrust) -> RegaliaTransport:
    return RegaliaTransport(URL, trust, inner=relay)


@pytest.fixture
def client(transport: RegaliaTransport) -> Iterator[httpx.Client]:
    with httpx.Client(
        transport=transport, headers={"authorization": f"Bearer {SECRET}"}, params={"q": SECRET}
    ) as client:
        yield client


def streamed_words(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("data: {"):
            yield json.loads(line[6:])["choices"][0]["delta"]["content"]


def test_request_and_answer(relay: object, client: httpx.Client) -> None:
    response = client.post(CHAT, json=ASK, headers={"x-mine": "inside"})
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == WORDS
    assert response.headers["content-type"] == "application/json"
    assert "connection" not in response.headers
    assert response.extensions["regalia"].document.model_version == 3
    (inside,) = relay.runtime.requests
    assert inside.head.method == b"POST"
    assert inside.head.authority == b"runtime.test"
    assert inside.head.path == b"/v1/chat/completions?q=" + SECRET.encode()
    assert json.loads(inside.body) == ASK
    assert inside.header(b"authorization") == f"Bearer {SECRET}".encode()
    assert inside.header(b"x-mine") == b"inside"
    assert inside.header(b"date") == b"Sun, 22 Nov 2026 10:00:00 GMT"
    assert inside.header(b"accept-encoding") == b"identity"
    assert inside.header(b"content-length") == str(len(inside.body)).encode()


def test_a_relay_learns_nothing_of_the_request(relay: object, client: httpx.Client) -> None:
    client.post(CHAT, json=ASK)
    evidence, sealed = relay.seen
    assert evidence.url.path == EVIDENCE_PATH
    assert (sealed.method, sealed.url) == ("POST", httpx.URL(URL + SEALED_PATH))
    assert dict(sealed.headers) == {
        "host": "runtime.test",
        "content-type": "message/ohttp-chunked-req",
        "accept": "message/ohttp-chunked-res",
        "accept-encoding": "identity",
        "incremental": "?1",
        "content-length": str(len(sealed.content)),
    }
    seen = relay.everything()
    for needle in (NEEDLE, SECRET, "chat", "Bearer", "python", "messages"):
        assert needle.encode() not in seen


def test_two_equal_requests_look_unrelated(relay: object, client: httpx.Client) -> None:
    for _ in range(2):
        client.post(CHAT, json=ASK)
    first, second = (request.content for request in relay.sealed())
    assert first[:7] == second[:7]
    assert len(first) == len(second)
    assert sum(a == b for a, b in zip(first[7:], second[7:], strict=True)) < len(first) // 16


def test_lengths_are_padded(relay: object, client: httpx.Client) -> None:
    for size in range(1, 400, 40):
        client.post(CHAT, json={"content": "x" * size})
    assert len({len(request.content) for request in relay.sealed()}) == 1


def test_padme() -> None:
    for size in [*range(3000), 1 << 20, (1 << 20) + 1, 10**7]:
        padded = padded_size(size)
        assert max(size, 1024) <= padded <= max(size, 1024) * 1.12
        assert padded_size(padded) == padded
    assert len({padded_size(size) for size in range(1 << 14)}) == 65


def test_large_requests_take_several_chunks(relay: object, client: httpx.Client) -> None:
    text = NEEDLE * 2000
    client.post(CHAT, json={"content": text})
    assert json.loads(relay.runtime.requests[0].body) == {"content": text}
    assert len(relay.sealed()[0].content) > 4 * CHUNK_MAX


def test_streaming_arrives_piece_by_piece(relay: object, client: httpx.Client) -> None:
    """Each token is handed on before the next one exists."""
    made: list[int] = []
    serve = relay.runtime.serve

    def slow(outer: bytes) -> Iterator[bytes]:
        for number, piece in enumerate(serve(outer)):
            made.append(number)
            yield piece

    relay.runtime.serve = slow
    with client.stream("POST", CHAT, json=STREAM) as response:
        words = streamed_words(response.iter_lines())
        for count, word in enumerate(words):
            assert word == ["Gold", " and", " jewels", "."][count]
            assert len(made) == count + 3  # nonce, head, and the tokens so far
    assert len(made) == 8


def test_verification_is_kept_and_renewed(
    relay: object, client: httpx.Client, transport: RegaliaTransport
) -> None:
    for _ in range(3):
        client.post(CHAT, json=ASK)
    assert relay.paths() == [EVIDENCE_PATH, *[SEALED_PATH] * 3]
    relay.runtime.clock.now += timedelta(minutes=10)
    assert transport.verified is None
    client.post(CHAT, json=ASK)
    assert relay.paths()[4:] == [EVIDENCE_PATH, SEALED_PATH]


def test_renewal_refuses_a_runtime_that_went_bad(relay: object, client: httpx.Client) -> None:
    client.post(CHAT, json=ASK)
    relay.runtime.clock.now += timedelta(minutes=10)
    relay.runtime.measurement = b"\x66" * 48
    with pytest.raises(RuntimeNotVerifiedError) as caught:
        client.post(CHAT, json=ASK)
    assert caught.value.code.name == "MEASUREMENT_UNKNOWN"
    assert len(relay.runtime.requests) == 1


def test_callback_sees_what_was_verified(relay: object, trust: ClientTrust) -> None:
    seen = []
    transport = RegaliaTransport(URL, trust, inner=relay, on_verified=seen.append)
    assert transport.verify() is seen[0]
    assert transport.verified is seen[0]


def test_a_veto_in_the_callback_sends_nothing(relay: object, trust: ClientTrust) -> None:
    def veto(_: object) -> None:
        raise RuntimeError("the user said no")

    transport = RegaliaTransport(URL, trust, inner=relay, on_verified=veto)
    with pytest.raises(RuntimeError), httpx.Client(transport=transport) as client:
        client.post(CHAT, json=ASK)
    assert relay.paths() == [EVIDENCE_PATH]


def test_threads_share_one_verification(relay: object, client: httpx.Client) -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.post(CHAT, json=ASK).status_code))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 6
    assert relay.paths().count(EVIDENCE_PATH) == 1


def test_sealed_errors_are_the_runtimes(client: httpx.Client) -> None:
    response = client.get(f"{URL}/v1/nothing")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


def test_another_origin_is_refused_before_anything_is_sent(
    relay: object, client: httpx.Client
) -> None:
    for other in (
        "http://other.test/v1/x",
        "https://runtime.test/v1/x",
        "http://runtime.test:81/v1/x",
    ):
        with pytest.raises(SealedChannelError) as caught:
            client.get(other)
        assert caught.value.code is ClientCode.REQUEST_OUTSIDE_RUNTIME
        assert SECRET not in str(caught.value)
    assert relay.seen == []


def test_a_path_prefix_is_the_relays(relay: object, trust: ClientTrust) -> None:
    base = f"{URL}/to/runtime-7"
    transport = RegaliaTransport(base + "/", trust, inner=relay)
    with httpx.Client(transport=transport) as client:
        assert client.get(f"{base}/v1/models").json()["data"][0]["id"] == "crown"
        assert relay.paths() == [f"/to/runtime-7{EVIDENCE_PATH}", f"/to/runtime-7{SEALED_PATH}"]
        assert relay.runtime.requests[0].head.path == b"/v1/models"
        with pytest.raises(SealedChannelError):
            client.get(f"{URL}/v1/models")


def test_a_header_that_cannot_be_sealed_is_refused(relay: object, client: httpx.Client) -> None:
    with pytest.raises(SealedChannelError) as caught:
        client.get(f"{URL}/v1/models", headers={"x-bad": "a\x01b"})
    assert caught.value.code.name == "BHTTP_FIELD_MALFORMED"
    assert relay.sealed() == []


# Attacks on the answer --------------------------------------------------------------------------


def flip(piece: bytes, at: int = -1) -> bytes:
    changed = bytearray(piece)
    changed[at] ^= 1
    return bytes(changed)


ATTACKS: dict[str, tuple[Callable[[list[bytes]], list[bytes | Exception]], str]] = {
    "drops_the_last_chunk": (lambda p: p[:-1], "OHTTP_TRUNCATED"),
    "cuts_after_two_tokens": (lambda p: p[:4], "OHTTP_TRUNCATED"),
    "cuts_inside_a_chunk": (lambda p: [*p[:3], p[3][:9]], "OHTTP_TRUNCATED"),
    "breaks_the_connection": (
        lambda p: [*p[:4], httpx.RemoteProtocolError("peer closed connection")],
        "OHTTP_TRUNCATED",
    ),
    "resets_the_connection": (lambda p: [*p[:4], httpx.ReadError("reset")], "OHTTP_TRUNCATED"),
    "makes_a_token_the_last": (
        lambda p: [*p[:3], b"\0" + p[3][1 + (p[3][0] >> 6) :]],
        "OHTTP_TRUNCATED",
    ),
    "drops_a_token": (lambda p: [*p[:3], *p[4:]], "OHTTP_CHUNK_REORDERED"),
    "swaps_two_tokens": (lambda p: [*p[:2], p[3], p[2], *p[4:]], "OHTTP_CHUNK_REORDERED"),
    "repeats_a_token": (lambda p: [*p[:3], p[2], *p[3:]], "OHTTP_CHUNK_REPEATED"),
    "flips_a_bit": (lambda p: [*p[:3], flip(p[3]), *p[4:]], "OHTTP_CHUNK_ALTERED"),
    "flips_the_nonce": (lambda p: [flip(p[0]), *p[1:]], "OHTTP_CHUNK_ALTERED"),
    "flips_the_last": (lambda p: [*p[:-1], flip(p[-1])], "OHTTP_FINAL_ALTERED"),
    "appends_a_byte": (lambda p: [*p, b"!"], "OHTTP_FINAL_ALTERED"),
    "appends_a_lot": (lambda p: [*p, bytes(20000)], "OHTTP_CHUNK_TOO_LARGE"),
    "sends_nothing": (lambda _: [], "OHTTP_HEADER_TRUNCATED"),
    "sends_only_the_nonce": (lambda p: p[:1], "OHTTP_TRUNCATED"),
    "announces_a_huge_chunk": (lambda p: [p[0], b"\xbf\xff\xff\xff"], "OHTTP_CHUNK_TOO_LARGE"),
    "announces_an_empty_chunk": (lambda p: [p[0], b"\x10" + bytes(16)], "OHTTP_CHUNK_EMPTY"),
    "writes_a_long_length": (
        lambda p: [p[0], b"\x80\0\0" + p[1][:1], *p[1:]],
        "VARINT_NOT_MINIMAL",
    ),
    "answers_in_clear": (
        lambda _: [b'{"choices":[{"message":{"content":"trust me"}}]}' * 3],
        "OHTTP_CHUNK_",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_on_the_stream(relay: object, client: httpx.Client, name: str) -> None:
    attack, code = ATTACKS[name]
    relay.on_answer = attack
    words = []
    with (
        pytest.raises(SealedChannelError) as caught,
        client.stream("POST", CHAT, json=STREAM) as response,
    ):
        words += streamed_words(response.iter_lines())
    assert caught.value.code.name.startswith(code)
    assert isinstance(caught.value, httpx.RemoteProtocolError)
    assert "".join(words) in ("", "Gold", "Gold and", WORDS)  # only genuine text, in order


@pytest.mark.parametrize(
    "name",
    ["drops_the_last_chunk", "flips_a_bit", "flips_the_last", "appends_a_byte", "sends_nothing"],
)
def test_attack_on_a_whole_answer(relay: object, client: httpx.Client, name: str) -> None:
    attack, code = ATTACKS[name]
    relay.on_answer = attack
    with pytest.raises(SealedChannelError) as caught:
        client.post(CHAT, json=ASK)
    # The last of three chunks is the one that is flipped here.
    assert caught.value.code.name == code.replace("CHUNK_ALTERED", "FINAL_ALTERED")


@pytest.mark.parametrize("name", [None, *ATTACKS])
def test_connections_are_given_back(relay: object, client: httpx.Client, name: str | None) -> None:
    if name is not None:
        relay.on_answer, _ = ATTACKS[name]
    try:
        with client.stream("POST", CHAT, json=STREAM) as response:
            next(response.iter_bytes())
    except SealedChannelError:
        assert name is not None
    assert [stream.closed for stream in relay.streams] == [True, True]


def test_answer_to_another_request_is_refused(relay: object, client: httpx.Client) -> None:
    kept: list[list[bytes]] = []

    def replay(pieces: list[bytes]) -> list[bytes]:
        kept.append(pieces)
        return kept[0]

    relay.on_answer = replay
    assert client.post(CHAT, json=ASK).status_code == 200
    with pytest.raises(SealedChannelError) as caught:
        client.post(CHAT, json=ASK)
    assert caught.value.code.name == "OHTTP_CHUNK_ALTERED"


def test_a_sealed_answer_that_is_no_http_is_refused(relay: object, client: httpx.Client) -> None:
    relay.runtime.answer = lambda _: (200, b"text/plain", [b"x"])
    encode = bhttp.encode_streamed_head

    def broken(*args: object) -> bytes:
        return b"\x02" + encode(*args)[1:]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bhttp, "encode_streamed_head", broken)
        with pytest.raises(SealedChannelError) as caught:
            client.post(CHAT, json=ASK)
    assert caught.value.code.name == "BHTTP_FRAMING_UNKNOWN"


def test_timeouts_stay_timeouts(relay: object, client: httpx.Client) -> None:
    relay.on_answer = lambda pieces: [*pieces[:3], httpx.ReadTimeout("slow")]
    with pytest.raises(httpx.ReadTimeout):
        client.post(CHAT, json=STREAM)


def test_only_time_limits_cross_over(relay: object, client: httpx.Client) -> None:
    client.get(f"{URL}/v1/models", extensions={"trace": print, "mine": NEEDLE}, timeout=7)
    assert relay.sealed()[0].extensions == {
        "timeout": {"connect": 7, "read": 7, "write": 7, "pool": 7}
    }


def test_bad_address(trust: ClientTrust) -> None:
    with pytest.raises(ParseError):
        RegaliaTransport("runtime.test", trust)


# The asynchronous twin ----------------------------------------------------------------------------


async def ask_async(relay: object, trust: ClientTrust, body: dict[str, object]) -> list[str]:
    transport = AsyncRegaliaTransport(URL, trust, inner=relay)
    words: list[str] = []
    async with (
        httpx.AsyncClient(transport=transport) as client,
        client.stream("POST", CHAT, json=body) as response,
    ):
        async for line in response.aiter_lines():
            words += streamed_words(iter([line]))
    return words


def test_async_streaming(relay: object, trust: ClientTrust) -> None:
    assert asyncio.run(ask_async(relay, trust, STREAM)) == ["Gold", " and", " jewels", "."]
    assert NEEDLE.encode() not in relay.everything()


@pytest.mark.parametrize("name", ATTACKS)
def test_async_attack(relay: object, trust: ClientTrust, name: str) -> None:
    attack, code = ATTACKS[name]
    relay.on_answer = attack
    with pytest.raises(SealedChannelError) as caught:
        asyncio.run(ask_async(relay, trust, STREAM))
    assert caught.value.code.name.startswith(code)


def test_async_refusal_sends_nothing(relay: object, trust: ClientTrust) -> None:
    relay.runtime.measurement = b"\x66" * 48
    with pytest.raises(RuntimeNotVerifiedError) as caught:
        asyncio.run(ask_async(relay, trust, STREAM))
    assert caught.value.code.name == "MEASUREMENT_UNKNOWN"
    assert relay.paths() == [EVIDENCE_PATH]
