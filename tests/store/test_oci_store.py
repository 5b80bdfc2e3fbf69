"""Ciphertext from a registry: a reader that believes nothing of it, and gives it no secret."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.core.errors import CoreCode, IntegrityError, ParseError, UnavailableError
from regalia.store.attempts import ATTEMPTS
from regalia.store.names import StoreCode
from tests.store.registry_double import (
    ADDRESS,
    CHALLENGE,
    FILES,
    HOST,
    NAME,
    SHARD,
    TOKEN,
    RegistryDouble,
    blob_path,
    image,
    ranged,
    sha256,
    whole,
)

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.core.errors import RegaliaError

PASSWORD = "hunter2"
AUTH = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
PATH = blob_path()


@pytest.fixture(autouse=True)
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nobody's credentials."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker/config.json"


@pytest.fixture
def registry() -> RegistryDouble:
    return RegistryDouble.with_model()


def login(config: Path, host: str = HOST, **entry: str) -> None:
    config.write_text(json.dumps({"auths": {host: entry or {"auth": AUTH}}}))


def read(registry: RegistryDouble, size: int = 100) -> bytes:
    buffer = bytearray(size)
    with registry.opened() as blobs:
        blobs.read_into(NAME, 50, memoryview(buffer))
    return bytes(buffer)


def refused(registry: RegistryDouble) -> RegaliaError:
    with pytest.raises((IntegrityError, UnavailableError, ParseError)) as caught:
        read(registry)
    for text in (str(caught.value), caught.value.explain()):
        assert PASSWORD not in text
        assert TOKEN not in text
    return caught.value


def test_an_honest_registry(registry: RegistryDouble) -> None:
    assert read(registry) == SHARD[50:150]
    with registry.opened() as blobs:
        assert blobs.names() == frozenset(FILES)
        assert [blobs.size(name) for name in FILES] == [len(data) for data in FILES.values()]
        assert blobs.describe() == "oci://r.example/acme/model:v1"


def test_reading_ends_with_its_block(registry: RegistryDouble) -> None:
    with registry.opened() as blobs:
        blobs.size(NAME)
    with pytest.raises(RuntimeError):
        blobs.size("index.seal")


def test_a_version_by_its_digest(registry: RegistryDouble) -> None:
    digest = sha256(image().encode())
    with registry.opened(replace(ADDRESS, reference=digest)) as blobs:
        assert blobs.size(NAME) == len(SHARD)
    registry.images[digest] = image({**FILES, "index.seal": b"other"}).encode()
    with pytest.raises(IntegrityError) as caught:
        registry.opened(replace(ADDRESS, reference=digest))
    assert caught.value.code is StoreCode.STORE_ANSWER_WRONG


def test_no_such_version(registry: RegistryDouble) -> None:
    del registry.images["v1"]
    assert refused(registry).code is StoreCode.VERSION_MISSING


def test_a_file_that_the_version_does_not_have(registry: RegistryDouble) -> None:
    with registry.opened() as blobs, pytest.raises(UnavailableError) as caught:
        blobs.size("shard-00001.seal")
    assert caught.value.code is StoreCode.BLOB_MISSING


def test_a_container_image(registry: RegistryDouble) -> None:
    registry.images["v1"] = json.dumps({"schemaVersion": 2, "layers": []}).encode()
    assert refused(registry).code is StoreCode.NOT_A_SEALED_MODEL


def test_an_index_of_container_images(registry: RegistryDouble) -> None:
    kind = "application/vnd.oci.image.index.v1+json"
    document = {"schemaVersion": 2, "mediaType": kind, "manifests": []}
    registry.images["v1"] = json.dumps(document).encode()
    error = refused(registry)
    assert error.code is StoreCode.NOT_A_SEALED_MODEL
    assert kind in error.what
    # A registry answers 404 if the type that it has is not among those that are asked for.
    assert kind in registry.requests[-1].headers["accept"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (ranged(SHARD[:-1], 50, 149), StoreCode.STORE_ANSWER_WRONG),  # another size
        (ranged(SHARD, 50, 149, total=1 << 60), StoreCode.STORE_ANSWER_WRONG),
        (ranged(SHARD, 49, 148), StoreCode.STORE_ANSWER_WRONG),
        (ranged(SHARD, 50, 150), StoreCode.STORE_ANSWER_WRONG),
        (whole(SHARD), StoreCode.STORE_ANSWER_WRONG),
        (httpx.Response(404), StoreCode.BLOB_MISSING),
        (httpx.Response(403), StoreCode.STORE_ACCESS_REFUSED),
        (httpx.Response(503), StoreCode.STORE_FAILED),
        (httpx.ConnectError("no route"), CoreCode.PEER_UNREACHABLE),
        (httpx.ReadTimeout("slow"), CoreCode.PEER_UNREACHABLE),
    ],
)
def test_a_wrong_answer_to_a_range(answer: object, code: object, registry: RegistryDouble) -> None:
    registry.instead[PATH] = [registry.honest, answer]
    assert refused(registry).code is code
    assert len(registry.pauses) <= ATTEMPTS - 1


def test_a_first_answer_with_another_size(registry: RegistryDouble) -> None:
    registry.instead[PATH] = [ranged(SHARD[:-1], 0, 0)]
    error = refused(registry)
    assert error.code is StoreCode.STORE_ANSWER_WRONG
    assert f"{len(SHARD) - 1} bytes" in error.what


def test_a_storm_that_passes(registry: RegistryDouble) -> None:
    registry.instead[PATH] = [httpx.Response(502), httpx.Response(429), registry.honest]
    registry.instead["manifests/"] = [httpx.Response(500), registry.honest]
    assert read(registry) == SHARD[50:150]


def test_a_document_that_is_too_large(registry: RegistryDouble) -> None:
    registry.instead["manifests/"] = [whole(b" " * ((4 << 20) + 1))]
    assert refused(registry).code is StoreCode.STORE_ANSWER_WRONG


def test_a_range_that_is_shorter_than_it_says(registry: RegistryDouble) -> None:
    short = httpx.Response(
        206,
        headers={"content-range": f"bytes 50-149/{len(SHARD)}"},
        stream=httpx.ByteStream(SHARD[50:100]),
    )
    registry.instead[PATH] = [registry.honest, short]
    assert refused(registry).code is StoreCode.STORE_FAILED


# Credentials


def test_a_token_for_anybody(registry: RegistryDouble) -> None:
    registry.challenge = CHALLENGE
    assert read(registry) == SHARD[50:150]
    assert registry.logins == [""]


def test_a_token_for_a_password(registry: RegistryDouble, config: Path) -> None:
    login(config)
    registry.challenge = CHALLENGE
    assert read(registry) == SHARD[50:150]
    assert registry.logins == [f"Basic {AUTH}"]
    for request in registry.requests:
        if request.url.path != "/token":
            assert AUTH not in str(request.headers.raw)


def test_a_token_for_an_identity_token(registry: RegistryDouble, config: Path) -> None:
    login(config, identitytoken=PASSWORD)
    registry.challenge = CHALLENGE
    assert read(registry) == SHARD[50:150]
    assert registry.logins == [PASSWORD]


def test_a_password_itself(registry: RegistryDouble, config: Path) -> None:
    login(config)
    registry.challenge = 'Basic realm="tests"'
    assert read(registry) == SHARD[50:150]
    assert registry.requests[0].headers.get("authorization") is None


def test_a_password_for_another_registry(registry: RegistryDouble, config: Path) -> None:
    login(config, "other.example")
    registry.challenge = 'Basic realm="tests"'
    assert refused(registry).code is StoreCode.STORE_ACCESS_REFUSED
    assert all("authorization" not in request.headers for request in registry.requests)


def test_a_token_that_expires_in_the_middle(registry: RegistryDouble) -> None:
    registry.challenge = CHALLENGE
    with registry.opened() as blobs:
        blobs.size(NAME)
        registry.token = "token-that-came-later"
        buffer = bytearray(10)
        blobs.read_into(NAME, 0, memoryview(buffer))
    assert bytes(buffer) == SHARD[:10]
    assert len(registry.logins) == 2


def test_a_token_that_is_never_good(registry: RegistryDouble) -> None:
    registry.challenge = CHALLENGE
    registry.instead["/token"] = [httpx.Response(200, json={"token": "expired"})]
    assert refused(registry).code is StoreCode.STORE_ACCESS_REFUSED
    assert len(registry.requests) == 3


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(401),
        httpx.Response(200, content=b"{"),
        httpx.Response(200, json={"token": ""}),
        httpx.Response(200, json={"token": "two words"}),
        httpx.Response(200, json={"token": "line\nbreak: x"}),
        httpx.Response(200, content=b"x" * (1 << 17)),
        httpx.Response(302, headers={"location": "https://elsewhere.example/"}),
    ],
)
def test_no_token(answer: httpx.Response, registry: RegistryDouble, config: Path) -> None:
    login(config)
    registry.challenge = CHALLENGE
    registry.instead["/token"] = [answer]
    assert refused(registry).code in {
        StoreCode.STORE_ACCESS_REFUSED,
        StoreCode.STORE_ANSWER_WRONG,
    }
    assert {request.url.host for request in registry.requests} == {HOST}


@pytest.mark.parametrize(
    "realm",
    [
        "https://thief.example/token",
        "https://r.example.thief.example/token",
        "https://r.example@thief.example/token",
        "https://r.example:444/token",
        "http://r.example/token",
        "https://r.example/token?x=y",
        "/token",
        "",
        "ftp://r.example/token",
    ],
)
def test_a_registry_that_sends_passwords_elsewhere(
    realm: str, registry: RegistryDouble, config: Path
) -> None:
    login(config)
    registry.challenge = f'Bearer realm="{realm}",service="{HOST}"'
    assert refused(registry).code is StoreCode.STORE_ACCESS_REFUSED
    assert len(registry.requests) == 1


def test_a_host_for_tokens_that_was_named(registry: RegistryDouble, config: Path) -> None:
    login(config)
    registry.challenge = f'Bearer realm="https://auth.example/token",service="{HOST}"'
    with registry.opened(replace(ADDRESS, auth="auth.example")) as blobs:
        assert blobs.size(NAME) == len(SHARD)
    assert registry.logins == [f"Basic {AUTH}"]


LOCAL = "127.0.0.1:5000"


def test_tokens_of_this_machine_come_in_clear(registry: RegistryDouble, config: Path) -> None:
    login(config, LOCAL)
    registry.challenge = f'Bearer realm="http://{LOCAL}/token",service="{HOST}"'
    with registry.opened(replace(ADDRESS, host=LOCAL)) as blobs:
        assert blobs.size(NAME) == len(SHARD)
    assert registry.logins == [f"Basic {AUTH}"]


def test_tokens_in_clear_are_for_nobody(registry: RegistryDouble, config: Path) -> None:
    login(config)
    registry.challenge = f'Bearer realm="http://{HOST}/token",service="{HOST}"'
    with registry.opened(replace(ADDRESS, dangerous_http=True)) as blobs:
        assert blobs.size(NAME) == len(SHARD)
    assert registry.logins == [""]


def test_a_password_of_this_machine_does_not_travel_in_clear(
    registry: RegistryDouble, config: Path
) -> None:
    login(config, LOCAL)
    registry.challenge = f'Bearer realm="http://auth.example/token",service="{HOST}"'
    address = replace(ADDRESS, host=LOCAL, auth="auth.example", dangerous_http=True)
    with pytest.raises(UnavailableError) as caught:
        registry.opened(address)
    assert caught.value.code is StoreCode.STORE_ACCESS_REFUSED
    assert registry.logins == []


def test_connections_are_closed_with_the_files(registry: RegistryDouble) -> None:
    repository = registry.repository()
    repository.open("v1").close()
    with pytest.raises(RuntimeError):
        repository.tags()


def test_no_password_in_clear(registry: RegistryDouble, config: Path) -> None:
    login(config)
    registry.challenge = 'Basic realm="tests"'
    with pytest.raises(UnavailableError) as caught:
        registry.opened(replace(ADDRESS, dangerous_http=True))
    assert "no credentials are sent in clear" in caught.value.what
    assert registry.requests[0].url.scheme == "http"
    assert all("authorization" not in request.headers for request in registry.requests)


# Redirects


def test_a_redirect_to_a_host_that_was_named(registry: RegistryDouble) -> None:
    def moved(request: httpx.Request) -> httpx.Response | None:
        if request.url.host == HOST:
            return httpx.Response(307, headers={"location": f"https://cdn.example/x/{PATH}?s=1"})
        assert "authorization" not in request.headers
        first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
        return ranged(SHARD, first, last)

    registry.challenge = CHALLENGE
    registry.instead[PATH] = [moved]
    buffer = bytearray(10)
    with registry.opened(replace(ADDRESS, blobs=frozenset({"cdn.example"}))) as blobs:
        blobs.read_into(NAME, 5, memoryview(buffer))
    assert bytes(buffer) == SHARD[5:15]


@pytest.mark.parametrize(
    "location",
    [
        "https://thief.example/x",
        "http://cdn.example/x",
        "https://cdn.example:444/x",
        "https://cdn.example.thief.example/x",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "",
    ],
)
def test_other_redirects(location: str, registry: RegistryDouble) -> None:
    registry.instead[PATH] = [httpx.Response(307, headers={"location": location})]
    with (
        registry.opened(replace(ADDRESS, blobs=frozenset({"cdn.example"}))) as blobs,
        pytest.raises(IntegrityError) as caught,
    ):
        blobs.size(NAME)
    assert caught.value.code is StoreCode.STORE_ANSWER_WRONG
    assert {request.url.host for request in registry.requests} == {HOST}


@pytest.mark.parametrize(
    ("host", "elsewhere", "followed"),
    [
        (LOCAL, "127.0.0.1:9", True),
        (LOCAL, "cdn.example", False),
        (HOST, "127.0.0.1:9", False),
    ],
)
def test_redirects_in_clear_stay_on_this_machine(
    host: str, elsewhere: str, *, followed: bool, registry: RegistryDouble
) -> None:
    def moved(request: httpx.Request) -> httpx.Response:
        if request.url.netloc.decode() == host:
            return httpx.Response(307, headers={"location": f"http://{elsewhere}/{PATH}"})
        return ranged(SHARD, 0, 0)

    registry.instead[PATH] = [moved]
    address = replace(ADDRESS, host=host, blobs=frozenset({elsewhere}))
    with registry.opened(address) as blobs:
        if followed:
            assert blobs.size(NAME) == len(SHARD)
            return
        with pytest.raises(IntegrityError) as caught:
            blobs.size(NAME)
    assert caught.value.code is StoreCode.STORE_ANSWER_WRONG


def test_redirects_in_a_circle(registry: RegistryDouble) -> None:
    registry.instead["x"] = []
    registry.instead["cdn.example"] = [
        httpx.Response(307, headers={"location": "https://cdn.example/x"})
    ]
    registry.instead[PATH] = [httpx.Response(307, headers={"location": "https://cdn.example/x"})]
    with (
        registry.opened(replace(ADDRESS, blobs=frozenset({"cdn.example"}))) as blobs,
        pytest.raises(IntegrityError),
    ):
        blobs.size(NAME)
    assert len(registry.requests) == 3


def test_all_tags_are_listed(registry: RegistryDouble) -> None:
    for number in range(7):
        registry.images[f"t{number}"] = registry.images["v1"]
    registry.images["-no-tag"] = b""
    with registry.repository() as repository:
        assert repository.tags() == [*(f"t{number}" for number in range(7)), "v1"]


@pytest.mark.parametrize("answer", [b"{", b'{"tags": 1}', b"[1]"])
def test_a_list_of_tags_that_is_none(answer: bytes, registry: RegistryDouble) -> None:
    registry.instead["tags/"] = [whole(answer)]
    with registry.repository() as repository, pytest.raises(IntegrityError):
        repository.tags()


def test_a_list_of_tags_that_repeats_itself(registry: RegistryDouble) -> None:
    def again(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"link": 'x; rel="next"'}, json={"tags": ["a"]})

    registry.instead["tags/"] = [again]
    with registry.repository() as repository:
        assert repository.tags() == ["a"]
    assert len(registry.requests) == 2


def test_attempts_take_bounded_time(registry: RegistryDouble) -> None:
    registry.instead["manifests/"] = [httpx.ConnectError("no route")]
    begun = time.monotonic()
    assert refused(registry).code is CoreCode.PEER_UNREACHABLE
    assert len(registry.requests) == ATTEMPTS
    assert time.monotonic() - begun < 5
