"""Key configurations, padding and dates of the sealed channel: the product and the vectors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from regalia.client.errors import ClientCode
from regalia.client.exchange import padded_size, seal_request
from regalia.core.clock import parse_rfc3339
from regalia.core.errors import ParseError
from regalia.crypto.kem import XWingKeyPair
from regalia.crypto.ohttp import (
    ServerExchange,
    parse_key_config,
    serving_key_config,
)
from regalia.crypto.ohttp_codes import OhttpCode
from regalia.runtime.codes import RequestCode
from regalia.runtime.openai.errors import ApiError
from regalia.runtime.replay import ReplayMemory
from regalia.runtime.sealed import SealedGateway, _Opened
from regalia.runtime.sealed_answer import SealedAnswer
from regalia.wire.bhttp import BhttpCode, RequestHead, RequestParser

VECTORS = Path(__file__).parents[1] / "vectors"


def read(name: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


CONFIGS, PADDING = read("ohttp/key-config.json"), read("ohttp/padding.json")
PROFILE, DATES = read("ohttp/profile.json"), read("ohttp/dates.json")
(KEYS,) = read("hpke/draft-ietf-hpke-pq.json")["vectors"]


def pair() -> XWingKeyPair:
    seed = hashlib.shake_256(bytes.fromhex(KEYS["skRm"])).digest(96)
    return XWingKeyPair(
        MLKEM768PrivateKey.from_seed_bytes(seed[:64]),
        X25519PrivateKey.from_private_bytes(seed[64:]),
    )


def test_key_configurations() -> None:
    for case in CONFIGS["accepted"]:
        data = bytes.fromhex(case["config"])
        config = parse_key_config(data)
        assert config.encode() == data
        assert config.aead() == case["aead"]
    own = serving_key_config(pair().public_key).encode()
    assert own.hex() == CONFIGS["accepted"][0]["config"]
    assert len(own) == 1225


@pytest.mark.parametrize("name", CONFIGS["refused"])
def test_key_configurations_are_refused(name: str) -> None:
    code, text = CONFIGS["refused"][name]
    with pytest.raises(ParseError) as caught:
        parse_key_config(bytes.fromhex(text)).aead()
    assert caught.value.code.name == code


def padme(size: int) -> int:
    """The formula of docs/spec/sealed-channel.md, section 4."""
    size = max(size, 1024)
    exponent = 0
    while 2 ** (exponent + 1) <= size:
        exponent += 1
    bits = 0
    while 2 ** (bits + 1) <= exponent:
        bits += 1
    step = 2 ** (exponent - bits - 1)
    return (size + step - 1) // step * step


def test_padding_of_requests() -> None:
    for size, padded in PADDING["requests"]:
        assert padded_size(size) == padme(size) == padded


@pytest.mark.parametrize(("size", "setting", "padded"), PADDING["answers"])
def test_padding_of_answers(size: int, setting: int, padded: int) -> None:
    assert padded == (size if not setting else -(-size // setting) * setting)
    answer = SealedAnswer(None, None, setting)  # type: ignore[arg-type] # seals nothing here
    answer._size = size - 2  # the two zeros that end content and trailers
    assert answer._size + len(answer._end(0)) == padded


def opened(sealed: bytes) -> tuple[bytes, list[Any]]:
    server = ServerExchange(pair())
    message = b"".join([*server.feed(sealed), server.finish()])
    parser = RequestParser()
    return message, parser.feed(message) + parser.finish()


def test_a_request_of_the_profile() -> None:
    moment = parse_rfc3339(PROFILE["clock"])
    url = httpx.URL(PROFILE["url"])
    body = PROFILE["body"].encode()
    request = httpx.Request(
        PROFILE["method"], url, headers=[tuple(field) for field in PROFILE["fields"]], content=body
    )
    config = serving_key_config(pair().public_key)
    sealed, _ = seal_request(config, request, body, path=url.raw_path, now=moment)
    message, events = opened(sealed)
    assert message.hex() == PROFILE["message"]
    assert opened(bytes.fromhex(PROFILE["encapsulated_request"])) == (message, events)
    assert len(message) == padme(len(message.rstrip(b"\0")) + 2)
    head = next(each for each in events if isinstance(each, RequestHead))
    assert {name for name, _ in head.fields} == {
        b"authorization",
        b"content-type",
        b"content-length",
        b"accept-encoding",
        b"date",
    }


def admitted(dates: list[str]) -> int:
    """Show a runtime an opened request with these fields; how many it then remembers."""
    gateway = SealedGateway.__new__(SealedGateway)
    gateway._replays = ReplayMemory(lambda: parse_rfc3339(DATES["clock"]), since_boot=lambda: 0.0)
    fields = tuple((b"date", date.encode()) for date in dates)
    head = RequestHead(b"GET", b"https", b"", b"/", fields)
    gateway._admit(_Opened(head, b"", bytes(1120)), None)
    return len(gateway._replays)


@pytest.mark.parametrize("dates", DATES["accepted"])
def test_dates(dates: list[str]) -> None:
    assert admitted(dates) == 1


@pytest.mark.parametrize("dates", DATES["REQUEST_DATE_REFUSED"])
def test_dates_are_refused(dates: list[str]) -> None:
    with pytest.raises(ApiError, match="REQUEST_DATE_REFUSED"):
        admitted(dates)


def test_the_page_names_every_code_of_the_channel() -> None:
    page = VECTORS.parents[1] / "docs" / "spec" / "sealed-channel.md"
    text = page.read_text(encoding="utf-8")
    codes = {each.name for kind in (OhttpCode, BhttpCode, RequestCode, ClientCode) for each in kind}
    # Those of the application inside the channel, which follow OpenAI's API, and of a command.
    inside = {
        "ANSWER_NOT_READ",
        "ANSWER_TIMEOUT",
        "CALLER_BUSY",
        "CALLER_UNKNOWN",
        "CHAT_REFUSED",
        "GENERATION_FAILED",
        "QUEUE_FULL",
        "REQUEST_INVALID",
        "ROUTE_NOT_FOR_MODEL",
        "SERVED_NAME_UNKNOWN",
    }
    assert {code for code in codes if f"`{code}`" not in text} == inside
