"""Auditing a whole log: over its database, over HTTP, and with somebody lying at each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
import pytest
import sqlalchemy as sa

from regalia.core.errors import LogError, RegaliaError, UsageError
from regalia.tlog.audit import audit_log
from regalia.tlog.merkle import Frontier, leaf_hash
from regalia.tlog.note import NOTE_LIMIT, Checkpoint, LogKey, parse_log_key, sign_checkpoint
from regalia.tlog.source import DatabaseSource, HttpSource
from regalia.tlog.tiles import BUNDLE_MAX, TILE_WIDTH, encode_bundle, parse_tile_path
from regalia.wire.release import ReleaseRecord

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from regalia.crypto.sign import SigningKey
    from regalia.tlog.audit import Audit
    from regalia.tlog.log import Log
    from regalia.tlog.tiles import Tile

MakeRecord = Callable[..., ReleaseRecord]


class Memory:
    """A log in memory that serves whatever it is told to."""

    def __init__(self, entries: list[bytes], signer: SigningKey, origin: str) -> None:
        self.entries = entries
        self.changes: dict[str, bytes] = {}
        frontier = Frontier()
        self.hashes: dict[tuple[int, int], bytes] = {}
        for entry in entries:
            self.hashes.update(frontier.append(leaf_hash(entry)))
        self.note = sign_checkpoint(Checkpoint(origin, frontier.size, frontier.root()), signer)

    def checkpoint(self) -> str:
        return self.note

    def tile(self, tile: Tile) -> bytes:
        if tile.path() in self.changes:
            return self.changes[tile.path()]
        first = tile.n * TILE_WIDTH
        if tile.level is None:
            return encode_bundle(self.entries[first : first + tile.width])
        return b"".join(self.hashes[8 * tile.level, first + offset] for offset in range(tile.width))


@pytest.fixture(scope="module")
def entries(make_record: MakeRecord) -> list[bytes]:
    denial = {"decision": "denial", "reasons": []}
    return [
        make_record(number, **(denial if number % 3 == 2 else {})).encode() for number in range(600)
    ]


@pytest.fixture
def memory(entries: list[bytes], signer: SigningKey, origin: str) -> Memory:
    return Memory(list(entries), signer, origin)


@pytest.fixture(scope="module")
def key(signer: SigningKey, origin: str) -> LogKey:
    return LogKey(origin, signer.verify_key.spki[-32:])


def audit(source: Memory, key: LogKey, remembered: str | None = None) -> Audit:
    return audit_log(source, key, remembered=remembered, visit=lambda *_: None)


def code(call: Callable[[], object]) -> str:
    with pytest.raises(RegaliaError) as caught:
        call()
    return caught.value.code.name


def test_whole_log(memory: Memory, key: LogKey) -> None:
    seen: list[int] = []
    result = audit_log(
        memory, key, remembered=None, visit=lambda index, _record: seen.append(index)
    )
    assert seen == list(range(600))
    assert (result.releases, result.denials, result.checkpoint.size) == (400, 200, 600)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512])
def test_sizes_around_tile_borders(
    size: int, entries: list[bytes], signer: SigningKey, origin: str, key: LogKey
) -> None:
    result = audit(Memory(entries[:size], signer, origin), key)
    assert result.releases + result.denials == size


def test_growing_log_contains_what_was_remembered(
    entries: list[bytes], signer: SigningKey, origin: str, key: LogKey, memory: Memory
) -> None:
    for size in (0, 1, 256, 300, 600):
        old = Memory(entries[:size], signer, origin).note
        assert audit(memory, key, old).remembered == size


def test_rewritten_history_is_found(
    entries: list[bytes], signer: SigningKey, origin: str, key: LogKey, make_record: MakeRecord
) -> None:
    other = [make_record(9999).encode(), *entries[1:]]
    old = Memory(entries[:300], signer, origin).note
    assert code(lambda: audit(Memory(other, signer, origin), key, old)) == "LOG_FORKED"
    shrunk = Memory(entries[:299], signer, origin)
    assert code(lambda: audit(shrunk, key, old)) == "LOG_FORKED"
    assert code(lambda: audit(shrunk, key, "forged memory")) == "CHECKPOINT_INVALID"


@pytest.mark.parametrize(
    "path",
    [
        "tile/entries/000",
        "tile/entries/002.p/88",
        "tile/0/001",
        "tile/0/002.p/88",
        "tile/1/000.p/2",
    ],
)
@pytest.mark.parametrize("position", [0, 5, -1])
def test_a_changed_byte_anywhere(memory: Memory, key: LogKey, path: str, position: int) -> None:
    data = bytearray(memory.tile(parse_tile_path(path)))
    data[position] ^= 1
    memory.changes[path] = bytes(data)
    assert code(lambda: audit(memory, key)) == "LOG_INCONSISTENT"


def test_a_dropped_or_swapped_entry(memory: Memory, entries: list[bytes], key: LogKey) -> None:
    for changed in (
        [entries[1], entries[0], *entries[2:256]],
        [entries[0], *entries[2:257]],
        entries[:255],
    ):
        memory.changes["tile/entries/000"] = encode_bundle(changed)
        assert code(lambda: audit(memory, key)) == "LOG_INCONSISTENT"


def test_a_consistent_log_that_was_not_the_signed_one(
    entries: list[bytes], signer: SigningKey, origin: str, key: LogKey, make_record: MakeRecord
) -> None:
    other = Memory([make_record(9999).encode(), *entries[1:300]], signer, origin)
    other.note = Memory(entries[:300], signer, origin).note
    with pytest.raises(LogError, match=r"LOG_INCONSISTENT: .*the root that was signed"):
        audit(other, key)


def test_a_logged_entry_that_is_no_record(
    entries: list[bytes], signer: SigningKey, origin: str, key: LogKey
) -> None:
    odd = Memory([*entries[:3], b"{}"], signer, origin)
    assert code(lambda: audit(odd, key)) == "LOG_INCONSISTENT"


def test_checkpoint_of_another_key(memory: Memory, origin: str) -> None:
    other = LogKey(origin, b"k" * 32)
    assert code(lambda: audit(memory, other)) == "CHECKPOINT_INVALID"


def test_database_source(engine: Engine, log: Log, make_record: MakeRecord) -> None:
    engine.dispose()
    sa.event.listen(engine, "connect", lambda c, _: c.execute("PRAGMA synchronous = OFF") and None)
    for number in range(260):
        log.append(make_record(number))
    result = audit_log(
        DatabaseSource(log.reader),
        parse_log_key(log.log_key),
        remembered=None,
        visit=lambda *_: None,
    )
    assert result.releases == 260


def served(memory: Memory) -> Callable[[httpx.Request], httpx.Response]:
    def handle(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/log/")
        if path == "checkpoint":
            return httpx.Response(200, text=memory.note)
        return httpx.Response(200, content=memory.tile(parse_tile_path(path)))

    return handle


def http_source(handle: Callable[[httpx.Request], httpx.Response]) -> HttpSource:
    client = httpx.Client(transport=httpx.MockTransport(handle))
    return HttpSource("http://log.example/log/", client)


def test_http_source(memory: Memory, key: LogKey) -> None:
    source = http_source(served(memory))
    result = audit_log(source, key, remembered=None, visit=lambda *_: None)
    source.close()
    assert result.checkpoint.size == 600


def test_http_that_fails() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    assert code(http_source(refuse).checkpoint) == "PEER_UNREACHABLE"
    for response in (
        httpx.Response(404),
        httpx.Response(302, headers={"location": "http://elsewhere.example/"}),
        httpx.Response(200, content=b"x" * 70_000),
    ):
        assert code(http_source(lambda _, r=response: r).checkpoint) == "LOG_UNREADABLE"
    not_text = http_source(lambda _: httpx.Response(200, content=b"\xff\xfe"))
    assert code(not_text.checkpoint) == "CHECKPOINT_INVALID"
    with pytest.raises(UsageError):
        HttpSource("file:///etc/passwd", httpx.Client())


@pytest.mark.parametrize("path", ["checkpoint", "tile/entries/000"])
def test_http_that_says_too_much(path: str) -> None:
    def read(size: int) -> int:
        source = http_source(lambda _: httpx.Response(200, content=b"x" * size))
        if path == "checkpoint":
            return len(source.checkpoint())
        return len(source.tile(parse_tile_path(path)))

    limit = NOTE_LIMIT if path == "checkpoint" else BUNDLE_MAX
    assert read(limit) == limit
    assert code(lambda: read(limit + 1)) == "LOG_UNREADABLE"


def test_http_closes_its_client() -> None:
    for url in ("http://log.example", "https://log.example/log/"):
        client = httpx.Client()
        HttpSource(url, client).close()
        assert client.is_closed


def test_log_error_is_what_auditing_raises(memory: Memory, key: LogKey) -> None:
    memory.note = ""
    with pytest.raises(LogError):
        audit(memory, key)
