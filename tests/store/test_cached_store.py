"""Reading through cache and peers: what comes from where, and what happens to what is wrong."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.core.errors import CoreCode, IntegrityError, LocalError, UnavailableError, UsageError
from regalia.crypto.aead import AeadCode
from regalia.seal.load import load_model
from regalia.seal.progress import no_progress
from regalia.store import cached as module
from regalia.store.cached import CachedBlobs
from regalia.store.http import HttpBlobs
from regalia.store.local import LocalBlobs
from regalia.store.locate import open_cached
from regalia.store.names import StoreCode
from regalia.store.peers import Peers
from regalia.store.piece_cache import LEAST, PieceCache
from regalia.store.server import build_app
from regalia_testing.sealed import KeptMemory, pattern
from tests.store.owned import Sent, sealed
from tests.store.registry_double import unread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.seal.load import LoadedModel

SIZE = 600_000
LIMIT = 100 << 20


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    return sealed(tmp_path_factory.mktemp("owned"), SIZE)


@pytest.fixture(autouse=True, params=[100_000, 1 << 20])
def piece_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "PIECE", request.param)
    return int(request.param)


class Origin:
    """The store itself, which remembers what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.blobs = LocalBlobs(folder)
        self.asked: list[tuple[str, int, int]] = []
        self.down = False
        self._lock = threading.Lock()

    def size(self, name: str) -> int:
        return self.blobs.size(name)

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        with self._lock:
            self.asked.append((name, offset, buffer.nbytes))
        if self.down and buffer.nbytes > module.PREFIX:
            raise UnavailableError(StoreCode.STORE_FAILED, "down")
        self.blobs.read_into(name, offset, buffer)

    def describe(self) -> str:
        return "the store"

    def close(self) -> None:
        self.blobs.close()

    def data(self) -> list[tuple[str, int, int]]:
        """What was read besides prefixes."""
        return [each for each in self.asked if each[2] != module.PREFIX]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def load(sent: Sent, source: CachedBlobs) -> LoadedModel:
    return load_model(
        source, sent.owned.verified(), sent.owned.key, KeptMemory(), threads=3, progress=no_progress
    )


def opened(
    sent: Sent, cache: Path | None, peers: Peers | None = None
) -> tuple[Origin, CachedBlobs]:
    origin = Origin(sent.folder)
    return origin, CachedBlobs(origin, None if cache is None else PieceCache(cache, LIMIT), peers)


def is_right(model: LoadedModel) -> bool:
    return bytes(model.view("a.bin")) == pattern(SIZE)


def spoil(cache: Path, *, by: int = 1) -> None:
    """Change every piece, with a header that fits: as somebody would who means it."""
    for path in sorted((cache / "pieces").glob("*/0*"))[:by]:
        data = bytearray(path.read_bytes())
        data[2000] ^= 1
        from regalia.store.piece_cache import _header  # noqa: PLC0415

        data[:8] = _header(memoryview(data)[8:])
        path.write_bytes(data)


def test_the_second_time_comes_from_the_cache(sent: Sent, cache: Path) -> None:
    origin, source = opened(sent, cache)
    assert is_right(load(sent, source))
    assert origin.data() != []
    origin, source = opened(sent, cache)
    assert is_right(load(sent, source))
    assert origin.data() == []


def test_every_range_is_right(sent: Sent, cache: Path, piece_size: int) -> None:
    name = "shard-00000.seal"
    data = (sent.folder / name).read_bytes()
    _, source = opened(sent, cache)
    edges = [0, 1, 4095, 4096, 4097, 4096 + piece_size, len(data) - 1, len(data)]
    edges = sorted(edge for edge in edges if edge <= len(data))
    for start in edges:
        for stop in edges:
            if start < stop:
                buffer = bytearray(stop - start)
                source.read_into(name, start, memoryview(buffer))
                assert bytes(buffer) == data[start:stop]
    with pytest.raises((IntegrityError, LocalError)):
        source.read_into(name, len(data) - 1, memoryview(bytearray(2)))


def test_the_manifest_is_never_cached(sent: Sent, cache: Path) -> None:
    for _ in range(2):
        origin, source = opened(sent, cache)
        buffer = bytearray(source.size("manifest.json"))
        source.read_into("manifest.json", 0, memoryview(buffer))
        assert bytes(buffer) == sent.manifest
        assert len(origin.asked) == 1


def test_another_model_is_another_one(sent: Sent, cache: Path, tmp_path: Path) -> None:
    """The same names, at the same store, behind the same cache."""
    load(sent, opened(sent, cache)[1])
    other = sealed(tmp_path / "other", SIZE)
    assert is_right(load(other, opened(other, cache)[1]))
    origin, source = opened(sent, cache)
    assert is_right(load(sent, source))
    assert origin.data() == []


def test_accidents_in_the_cache_are_mended(sent: Sent, cache: Path) -> None:
    load(sent, opened(sent, cache)[1])
    for path in (cache / "pieces").glob("*/0*"):
        path.write_bytes(path.read_bytes()[:-1])
    origin, source = opened(sent, cache)
    assert is_right(load(sent, source))
    assert origin.data() != []
    origin, source = opened(sent, cache)
    load(sent, source)
    assert origin.data() == []


def test_a_spoilt_cache_is_read_once_and_replaced(sent: Sent, cache: Path) -> None:
    load(sent, opened(sent, cache)[1])
    spoil(cache)
    origin, source = opened(sent, cache)
    assert is_right(load(sent, source))
    assert origin.data() != []
    _, source = opened(sent, cache)
    assert is_right(load(sent, source))


def test_a_spoilt_store_is_refused_though_cached(sent: Sent, cache: Path, tmp_path: Path) -> None:
    damaged = sent.owned.copy(tmp_path / "damaged")
    damaged.patch("shard-00000.seal", 5000)
    spoilt = Sent(damaged, sent.image, sent.blobs, sent.manifest, sent.signer)
    for _ in range(2):
        _, source = opened(spoilt, cache)
        with pytest.raises(IntegrityError) as caught:
            load(sent, source)
        assert caught.value.code is AeadCode.CHUNK_FORGED
    _, source = opened(sent, cache)  # the store is mended
    assert is_right(load(sent, source))


def test_what_the_store_alone_gave_is_not_read_twice(sent: Sent, tmp_path: Path) -> None:
    damaged = sent.owned.copy(tmp_path / "damaged")
    damaged.patch("shard-00000.seal", 5000)
    spoilt = Sent(damaged, sent.image, sent.blobs, sent.manifest, sent.signer)
    _, source = opened(spoilt, None)
    with pytest.raises(IntegrityError):
        load(sent, source)
    assert not source.distrust()


def test_a_store_that_is_down_behind_a_full_cache(sent: Sent, cache: Path) -> None:
    load(sent, opened(sent, cache)[1])
    origin, source = opened(sent, cache)
    origin.down = True
    assert is_right(load(sent, source))


def test_a_cache_that_cannot_be_written(sent: Sent, cache: Path) -> None:
    origin, source = opened(sent, cache)
    (cache / "pieces").rmdir()
    assert is_right(load(sent, source))
    assert origin.data() != []


def test_many_threads_and_processes_at_once(sent: Sent, cache: Path) -> None:
    def one(_: int) -> bool:
        return is_right(load(sent, opened(sent, cache)[1]))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(8)))


# Peers


class Site:
    """Other machines, each with a cache that it serves, or with something else."""

    def __init__(self) -> None:
        self.machines: dict[str, object] = {}
        self.asked: list[httpx.Request] = []
        self.now = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        machine = self.machines[request.url.host]
        if isinstance(machine, Exception):
            raise machine
        if callable(machine):
            response = machine(request)
            assert isinstance(response, httpx.Response)
            return unread(response)
        raise AssertionError(machine)

    def peers(self) -> Peers:
        urls = [f"http://{host}:8480" for host in self.machines]
        return Peers(urls, transport=httpx.MockTransport(self), clock=lambda: self.now)


def serving(cache: Path) -> object:
    """A machine that serves its cache, over the real application."""
    from starlette.testclient import TestClient  # noqa: PLC0415

    client = TestClient(build_app(cache))

    def answer(request: httpx.Request) -> httpx.Response:
        got = client.get(request.url.path)
        return httpx.Response(got.status_code, stream=httpx.ByteStream(got.content))

    return answer


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def peer(sent: Sent, tmp_path: Path) -> Iterator[Path]:
    """The full cache of another machine."""
    folder = tmp_path / "peer"
    load(sent, opened(sent, folder)[1])
    return folder


def test_ciphertext_comes_from_a_peer(sent: Sent, peer: Path, cache: Path, site: Site) -> None:
    site.machines = {"one": serving(peer)}
    origin, source = opened(sent, cache, site.peers())
    assert is_right(load(sent, source))
    assert origin.data() == []
    site.asked.clear()
    origin, source = opened(sent, cache, site.peers())
    assert is_right(load(sent, source))
    assert (origin.data(), site.asked) == ([], [])  # it was kept


def test_peers_without_a_cache(sent: Sent, peer: Path, site: Site) -> None:
    site.machines = {"one": serving(peer)}
    origin, source = opened(sent, None, site.peers())
    assert is_right(load(sent, source))
    assert origin.data() == []


def test_peers_share_the_work(sent: Sent, peer: Path, site: Site, piece_size: int) -> None:
    site.machines = {"one": serving(peer), "two": serving(peer)}
    load(sent, opened(sent, None, site.peers())[1])
    hosts = {request.url.host for request in site.asked}
    assert hosts == ({"one", "two"} if piece_size < 1 << 20 else {"one"})


@pytest.mark.parametrize(
    "machine",
    [
        httpx.ConnectError("no route"),
        httpx.ReadTimeout("hangs"),
        lambda _request: httpx.Response(500, stream=httpx.ByteStream(b"")),
        lambda _request: httpx.Response(200, stream=httpx.ByteStream(b"short")),
        lambda _request: httpx.Response(200, stream=httpx.ByteStream(b"x" * (2 << 20))),
        lambda _request: httpx.Response(
            302, headers={"location": "http://thief/"}, stream=httpx.ByteStream(b"")
        ),
        lambda _request: httpx.Response(403, stream=httpx.ByteStream(b"")),
    ],
)
def test_a_peer_that_fails(machine: object, sent: Sent, site: Site) -> None:
    site.machines = {"one": machine}
    origin, source = opened(sent, None, site.peers())
    assert is_right(load(sent, source))
    assert origin.data() != []
    assert len(site.asked) <= 3  # as many threads may have asked before one of them knew
    before = len(site.asked)
    site.now = 31.0
    load(sent, source)
    assert len(site.asked) > before


def test_a_peer_that_has_nothing(sent: Sent, site: Site, tmp_path: Path) -> None:
    PieceCache(tmp_path / "empty", LIMIT)
    site.machines = {"one": serving(tmp_path / "empty")}
    origin, source = opened(sent, None, site.peers())
    assert is_right(load(sent, source))
    assert len(site.asked) == len(origin.data())


def test_a_peer_that_sends_something_else(sent: Sent, peer: Path, cache: Path, site: Site) -> None:
    spoil(peer)
    site.machines = {"one": serving(peer)}
    origin, source = opened(sent, cache, site.peers())
    assert is_right(load(sent, source))
    assert origin.data() != []
    assert is_right(load(sent, opened(sent, cache)[1]))  # what was kept of it is gone


@pytest.mark.parametrize(
    "path",
    [
        "/manifest.json",
        "/.usage",
        "/regalia-cache",
        "/pieces/",
        "/pieces/../regalia-cache",
        f"/pieces/{'ab' * 32}/..",
        f"/pieces/{'ab' * 32}/00000000",
        f"/pieces/{'AB' * 32}/00000001",
        f"/pieces/{'ab' * 32}/.0000001",
        f"/pieces/{'ab' * 32}/1",
        f"/pieces/{'ab' * 32}/%2e%2e",
    ],
)
def test_nothing_else_of_a_cache_is_served(path: str, peer: Path) -> None:
    from starlette.testclient import TestClient  # noqa: PLC0415

    (peer / "pieces" / ("ab" * 32)).mkdir()
    (peer / "pieces" / ("ab" * 32) / "00000000").symlink_to(peer / "regalia-cache")
    (peer / "pieces" / ("ab" * 32) / ".0000001").write_bytes(b"unfinished")
    client = TestClient(build_app(peer))
    assert client.get(path).status_code == 404
    assert client.get("/health").status_code == 200


# Settings


def test_what_is_opened(sent: Sent, tmp_path: Path) -> None:
    assert isinstance(
        open_cached(str(sent.folder), tmp_path, cache="c", cache_bytes=LEAST), LocalBlobs
    )
    url = "http://127.0.0.1:9/m/"
    with open_cached(url, tmp_path) as blobs:
        assert isinstance(blobs, HttpBlobs)
    with open_cached(url, tmp_path, cache="c", cache_bytes=LEAST) as blobs:
        assert isinstance(blobs, CachedBlobs)
        assert blobs.describe() == url
    with open_cached(url, tmp_path, peers=["http://127.0.0.1:9"]) as blobs:
        assert isinstance(blobs, CachedBlobs)
    assert (tmp_path / "c/regalia-cache").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"cache": "c", "cache_bytes": LEAST - 1},
        {"peers": ["ftp://a"]},
        {"peers": ["http://"]},
        {"peers": ["http://user:hunter2@a/"]},
        {"peers": ["http://a/?x=hunter2"]},
        {"peers": ["http://a"] * 17},
    ],
)
def test_settings_that_are_wrong(settings: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_cached("http://127.0.0.1:9/m/", tmp_path, **settings)  # type: ignore[arg-type]
    assert caught.value.code is CoreCode.BAD_CONFIG
    assert "hunter2" not in str(caught.value)
