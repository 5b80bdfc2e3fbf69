"""Parts of the stream, decrypted straight into memory that somebody else owns."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.errors import CoreCode, IntegrityError, LocalError
from regalia.crypto.aead import AeadCode, ChunkCipher
from regalia.seal.format.sealed import Geometry
from regalia.seal.opened import OpenedFile
from regalia.seal.pieces import read_amplification
from regalia.seal.progress import no_progress
from regalia.seal.reader import Piece, open_sealed
from regalia.store.local import LocalBlobs
from regalia_testing.sealed import PAYLOAD, STRIDE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.seal.format.sealed import Chunk
    from regalia.seal.reader import SealedReader
    from regalia_testing.sealed import OwnedModel

UNTOUCHED = 0xAA
CHUNKS = 5
SIZE = 4 * PAYLOAD + 100  # no more than the stream has


class Reads(LocalBlobs):
    """A store that notes which chunk of which file was read."""

    def __init__(self, model: OwnedModel) -> None:
        super().__init__(model.folder)
        self.chunks: list[tuple[str, int]] = []

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        self.chunks.append((name, offset))
        super().read_into(name, offset, buffer)


@pytest.fixture(scope="module")
def opened(pristine: OwnedModel) -> Iterator[tuple[SealedReader, Reads]]:
    with Reads(pristine) as blobs:
        yield open_sealed(blobs, pristine.verified(), pristine.key), blobs


@pytest.fixture(scope="module")
def reader(opened: tuple[SealedReader, Reads]) -> SealedReader:
    return opened[0]


@pytest.fixture(scope="module")
def stream(reader: SealedReader) -> bytes:
    """The plaintext, as the reader of the whole stream gives it."""
    out = memoryview(bytearray(reader.stream_size))
    reader.read_all(out, threads=1, progress=no_progress)
    return out.tobytes()


def piece(offset: int, size: int) -> Piece:
    return Piece(offset, memoryview(bytearray([UNTOUCHED]) * size))


def load(reader: SealedReader, pieces: list[Piece], threads: int = 1) -> None:
    reader.load_into(pieces, threads=threads, progress=no_progress)


spans = st.lists(
    st.one_of(
        st.tuples(st.integers(0, SIZE - 1), st.integers(1, 2 * PAYLOAD)),
        st.tuples(st.sampled_from([n * PAYLOAD for n in range(CHUNKS)]), st.just(PAYLOAD)),
        st.tuples(st.integers(0, SIZE - 1), st.integers(1, 9)),
    ),
    min_size=1,
    max_size=12,
)


@given(spans, st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_any_pieces_get_their_parts_and_each_chunk_is_read_once(
    opened: tuple[SealedReader, Reads], stream: bytes, wanted: list[tuple[int, int]], threads: int
) -> None:
    reader, blobs = opened
    pieces = [piece(offset, min(size, len(stream) - offset)) for offset, size in wanted]
    blobs.chunks.clear()
    told: list[tuple[int, int]] = []
    reader.load_into(
        pieces, threads=threads, progress=lambda done, total: told.append((done, total))
    )
    for each in pieces:
        assert each.out == stream[each.offset : each.end]
    touched = {n for each in pieces for n in range(each.offset // PAYLOAD, -(-each.end // PAYLOAD))}
    assert len(blobs.chunks) == len(set(blobs.chunks)) == len(touched)
    sizes = [min(PAYLOAD, len(stream) - number * PAYLOAD) for number in touched]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (sum(sizes), sum(sizes))
    read = sum(size + STRIDE - PAYLOAD for size in sizes)
    asked = len({at for each in pieces for at in range(each.offset, each.end)})
    assert reader.read_amplification(pieces) == pytest.approx(read / asked)


def test_pieces_of_any_item_size_in_any_order(reader: SealedReader, stream: bytes) -> None:
    late, early = bytearray(3 * 8), bytearray(PAYLOAD)
    load(reader, [Piece(PAYLOAD, memoryview(late).cast("d")), Piece(7, memoryview(early))])
    assert late == stream[PAYLOAD : PAYLOAD + 24]
    assert early == stream[7 : 7 + PAYLOAD]


def test_a_chunk_inside_a_piece_is_decrypted_in_place(
    reader: SealedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, targets = OpenedFile.open_chunk, []

    def read(file: OpenedFile, chunk: Chunk, scratch: memoryview, target: memoryview) -> None:
        targets.append(target)
        real(file, chunk, scratch, target)

    monkeypatch.setattr(OpenedFile, "open_chunk", read)
    whole, part = piece(0, 2 * PAYLOAD), piece(10, 20)
    load(reader, [part, whole])
    assert [target.obj is whole.out.obj for target in targets] == [True, True]
    assert part.out == whole.out[10:30]


def test_one_thread_reads_while_another_decrypts(
    pristine: OwnedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second read ends only after the first chunk was decrypted, and not before it began."""
    decrypted, reading = threading.Event(), threading.Event()
    real = ChunkCipher.open_into

    class Waiting(LocalBlobs):
        reads = -100  # those before the load do not count

        def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
            self.reads += 1
            if self.reads == 2:
                reading.set()
                assert decrypted.wait(20)
            super().read_into(name, offset, buffer)

    def open_into(
        cipher: ChunkCipher, counter: int, data: memoryview, out: memoryview, *, last: bool
    ) -> None:
        assert reading.wait(20)
        real(cipher, counter, data, out, last=last)
        decrypted.set()

    with Waiting(pristine.folder) as blobs:
        reader = open_sealed(blobs, pristine.verified(), pristine.key)
        blobs.reads = 0
        monkeypatch.setattr(ChunkCipher, "open_into", open_into)
        load(reader, [piece(0, reader.stream_size)], threads=2)


def test_nothing_asked_for_is_nothing_read(opened: tuple[SealedReader, Reads]) -> None:
    reader, blobs = opened
    blobs.chunks.clear()
    load(reader, [])
    assert blobs.chunks == []


# --- what is a bug of the caller, and touches nothing


def test_a_piece_is_writable_contiguous_and_not_empty() -> None:
    buffer = bytearray(8)
    for bad in (memoryview(b"ab"), memoryview(buffer)[::2], memoryview(buffer)[:0]):
        with pytest.raises(ValueError, match="writable, contiguous"):
            Piece(0, bad)
    with pytest.raises(ValueError, match="begins"):
        Piece(-1, memoryview(buffer))


@pytest.mark.parametrize("over", [1, PAYLOAD])
def test_a_piece_stays_in_the_stream(reader: SealedReader, stream: bytes, over: int) -> None:
    pieces = [piece(0, 5), piece(len(stream) - 5, 5 + over)]
    with pytest.raises(ValueError, match="leaves the stream"):
        load(reader, pieces)
    assert all(set(each.out) == {UNTOUCHED} for each in pieces)


@pytest.mark.parametrize("between", [0, 7])
def test_two_pieces_never_share_memory(reader: SealedReader, between: int) -> None:
    memory = memoryview(bytearray([UNTOUCHED]) * 16)
    with pytest.raises(ValueError, match="same memory"):
        load(reader, [Piece(0, memory[:8]), Piece(100, memory[between : between + 8])])
    assert set(memory) == {UNTOUCHED}
    load(reader, [Piece(0, memory[:8]), Piece(100, memory[8:])])


def test_a_load_needs_a_thread(reader: SealedReader) -> None:
    with pytest.raises(ValueError, match="thread"):
        load(reader, [piece(0, 5)], threads=0)


# --- what a failure leaves behind


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("broken", range(CHUNKS))
def test_a_forged_chunk_wipes_every_piece(sealed: OwnedModel, broken: int, threads: int) -> None:
    shard, chunk = divmod(broken, 2)
    sealed.patch(f"shard-{shard:05}.seal", 4096 + chunk * STRIDE + 5)
    with LocalBlobs(sealed.folder) as blobs:
        reader = open_sealed(blobs, sealed.verified(), sealed.key)
        size = reader.stream_size
        pieces = [piece(0, size), piece(3, 10), piece(size - 9, 9), piece(PAYLOAD - 1, 2)]
        with pytest.raises(IntegrityError) as refused:
            load(reader, pieces, threads)
    assert refused.value.code is AeadCode.CHUNK_FORGED
    assert not any(any(each.out) for each in pieces)


def test_a_lost_file_wipes_every_piece(pristine: OwnedModel) -> None:
    class Failing(LocalBlobs):
        healthy = True

        def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
            if not self.healthy and name == "shard-00001.seal":
                raise LocalError(CoreCode.IO_FAILED, "for this test")
            super().read_into(name, offset, buffer)

    with Failing(pristine.folder) as blobs:
        reader = open_sealed(blobs, pristine.verified(), pristine.key)
        blobs.healthy = False
        pieces = [piece(0, 100), piece(2 * PAYLOAD, PAYLOAD)]
        with pytest.raises(LocalError):
            load(reader, pieces)
    assert not any(any(each.out) for each in pieces)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_wipes_every_piece_and_nobody_writes_afterwards(
    reader: SealedReader, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    real, begun, beside = OpenedFile.open_chunk, threading.Event(), []

    def read(file: OpenedFile, chunk: Chunk, scratch: memoryview, target: memoryview) -> None:
        real(file, chunk, scratch, target)
        beside.append(target)
        if not begun.is_set():
            begun.set()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    monkeypatch.setattr(OpenedFile, "open_chunk", read)
    pieces = [piece(number * PAYLOAD + 1, PAYLOAD - 2) for number in range(CHUNKS - 1)]
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            load(reader, pieces, threads)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert not any(any(each.out) for each in pieces)
    assert not any(any(each) for each in beside), "what lay beside the pieces is wiped as well"


def test_a_progress_that_raises_cancels_the_load(reader: SealedReader) -> None:
    class Cancelled(Exception):  # noqa: N818 - as a caller would call it
        pass

    def cancel(done: int, _total: int) -> None:
        if done > PAYLOAD:
            raise Cancelled

    whole = piece(0, reader.stream_size)
    with pytest.raises(Cancelled):
        reader.load_into([whole], threads=2, progress=cancel)
    assert not any(whole.out)


# --- the report on read amplification


def spread(rows: int, row: int, keep: int) -> list[tuple[int, int]]:
    """The left columns of a matrix of ``rows`` rows, ``row`` bytes each."""
    return [(number * row, keep) for number in range(rows)]


@pytest.mark.parametrize(
    ("wanted", "chunks"),
    [
        ([(0, 1)], 1),
        ([(PAYLOAD - 1, 2)], 2),
        ([(0, PAYLOAD), (0, PAYLOAD)], 1),
        (spread(10, PAYLOAD, 8), 10),
        (spread(10, PAYLOAD // 2, 8), 5),
    ],
)
def test_amplification_counts_each_chunk_and_each_byte_once(
    wanted: list[tuple[int, int]], chunks: int
) -> None:
    geometry = Geometry(STRIDE, 4, 100 * PAYLOAD)
    asked = len({at for offset, size in wanted for at in range(offset, offset + size)})
    assert read_amplification(wanted, geometry) == pytest.approx(chunks * STRIDE / asked)


def test_slices_of_four_mib_read_at_most_a_quarter_more() -> None:
    """A rank of a tensor-parallel group, at the default stride."""
    mib = 1 << 20
    geometry = Geometry(mib, 4096, 64 << 30)
    wanted = [(number * (32 * mib + 4096) + 77 * number, 4 * mib) for number in range(200)]
    assert read_amplification(wanted, geometry) <= 1.26


@pytest.mark.parametrize("bad", [[], [(0, 0)], [(-1, 2)], [(100, 1)], [(50, 51)]])
def test_amplification_of_no_part_of_the_stream(bad: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="parts of the stream"):
        read_amplification(bad, Geometry(STRIDE, 4, 100))
