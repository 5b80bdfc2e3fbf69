"""Loads from stores that are far away: several chunks by one reading, many readings at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.errors import CoreCode, IntegrityError, LocalError
from regalia.core.weights import Reading
from regalia.crypto.aead import AeadCode
from regalia.seal.format.sealed import Geometry
from regalia.seal.pieces import Piece, chunk_jobs, in_order
from regalia.seal.progress import no_progress
from regalia.seal.reader import open_sealed
from regalia.seal.reading import ReadPlan, batches, plan_reading
from regalia.store.local import LocalBlobs
from regalia_testing.sealed import PAYLOAD, STRIDE

if TYPE_CHECKING:
    from regalia.seal.reader import SealedReader
    from regalia_testing.sealed import OwnedModel

MIB = 1 << 20
S3 = Reading(size=8 * MIB, at_once=16)


class Far(LocalBlobs):
    """A store far away, which counts the readings that are under way."""

    def __init__(self, model: OwnedModel, reading: Reading | None) -> None:
        super().__init__(model.folder)
        self.readings: list[tuple[str, int, int]] = []
        self.most = 0
        self.broken = False
        self._reading = reading
        self._under_way = 0
        self._lock = threading.Lock()
        self.together: threading.Barrier | None = None

    def reading(self) -> Reading | None:
        return self._reading

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        with self._lock:
            self.readings.append((name, offset, buffer.nbytes))
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        try:
            if self.broken:
                raise LocalError(CoreCode.IO_FAILED, "for this test")
            if self.together is not None:
                self.together.wait(20)
            super().read_into(name, offset, buffer)
        finally:
            with self._lock:
                self._under_way -= 1


def opened(model: OwnedModel, reading: Reading | None) -> tuple[Far, SealedReader]:
    far = Far(model, reading)
    sealed = open_sealed(far, model.verified(), model.key)
    far.readings.clear()
    far.most = 0
    return far, sealed


def whole(reader: SealedReader, threads: int = 1) -> bytes:
    out = bytearray(reader.stream_size)
    reader.read_all(memoryview(out), threads=threads, progress=no_progress)
    return bytes(out)


def test_the_same_bytes_in_fewer_readings(pristine: OwnedModel) -> None:
    near, reader = opened(pristine, None)
    want = whole(reader)
    count = len(near.readings)
    far, reader = opened(pristine, Reading(size=8 * STRIDE, at_once=1))
    assert whole(reader) == want
    assert len(far.readings) < count
    assert sum(each[2] for each in far.readings) == sum(each[2] for each in near.readings)


def test_as_many_readings_at_once_as_the_store_likes(pristine: OwnedModel) -> None:
    far, reader = opened(pristine, Reading(size=STRIDE, at_once=3))
    far.together = threading.Barrier(3)
    out = bytearray(3 * PAYLOAD)
    reader.load_into([Piece(0, memoryview(out))], threads=1, progress=no_progress)
    assert far.most == 3


def test_a_reading_stays_in_its_shard_and_leaves_gaps_out(pristine: OwnedModel) -> None:
    far, reader = opened(pristine, Reading(size=100 * STRIDE, at_once=1))
    pieces = [Piece(0, memoryview(bytearray(10))), Piece(2 * PAYLOAD, memoryview(bytearray(10)))]
    reader.load_into(pieces, threads=1, progress=no_progress)
    assert [each[2] for each in far.readings] == [STRIDE, STRIDE]


def test_a_forged_chunk_inside_a_reading_wipes_everything(
    pristine: OwnedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    far, reader = opened(pristine, Reading(size=100 * STRIDE, at_once=2))
    real = Far.read_into

    def forge(self: Far, name: str, offset: int, buffer: memoryview) -> None:
        real(self, name, offset, buffer)
        if name == "shard-00000.seal":
            buffer[STRIDE + 5] ^= 1  # in the second chunk of the reading

    monkeypatch.setattr(Far, "read_into", forge)
    out = bytearray(b"\xaa" * 3 * PAYLOAD)
    with pytest.raises(IntegrityError) as caught:
        reader.load_into([Piece(0, memoryview(out))], threads=1, progress=no_progress)
    assert caught.value.code is AeadCode.CHUNK_FORGED
    assert not any(out)
    assert far.readings


def test_a_forged_copy_is_read_again_alone(pristine: OwnedModel) -> None:
    class Copies(Far):
        doubted = False

        def distrust(self) -> bool:
            self.doubted = True
            return True

        def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
            super().read_into(name, offset, buffer)
            if not self.doubted and buffer.nbytes > STRIDE:
                buffer[STRIDE + 5] ^= 1

    far = Copies(pristine, Reading(size=100 * STRIDE, at_once=1))
    reader = open_sealed(far, pristine.verified(), pristine.key)
    far.readings.clear()
    _, near = opened(pristine, None)
    assert whole(reader) == whole(near)
    assert far.doubted
    assert STRIDE in [each[2] for each in far.readings], "the one chunk, by itself"


def test_a_store_that_breaks_leaves_nothing(pristine: OwnedModel) -> None:
    far, reader = opened(pristine, Reading(size=2 * STRIDE, at_once=4))
    far.broken = True
    out = bytearray(b"\xaa" * 2 * PAYLOAD)
    with pytest.raises(LocalError):
        reader.load_into([Piece(0, memoryview(out))], threads=2, progress=no_progress)
    assert not any(out)


@pytest.mark.parametrize(
    ("total", "plan"),
    [
        (2_000_000_000, ReadPlan(threads=8, chunks=3)),
        (4_000_000_000, ReadPlan(threads=8, chunks=7)),
        (140_000_000_000, ReadPlan(threads=16, chunks=8)),
        (3 * MIB, ReadPlan(threads=3, chunks=5)),
        (1, ReadPlan(threads=2, chunks=8)),
    ],
)
def test_plans(total: int, plan: ReadPlan) -> None:
    assert plan_reading(total, MIB, threads=2, reading=S3) == plan


@given(
    total=st.integers(1, 1 << 50),
    stride=st.sampled_from([1 << 12, MIB, 4 * MIB, 16 * MIB]),
    threads=st.integers(1, 64),
    reading=st.builds(Reading, st.integers(1, 1 << 30), st.integers(1, 64)),
)
def test_every_plan_works_and_is_bounded(
    total: int, stride: int, threads: int, reading: Reading
) -> None:
    plan = plan_reading(total, stride, threads=threads, reading=reading)
    assert plan.threads >= threads
    assert plan.chunks >= 1
    assert plan.chunks == 1 or plan.chunks * stride <= reading.size
    most = max(16 * MIB, total // 64, stride) + threads * plan.chunks * stride
    assert plan.threads * plan.chunks * stride <= most
    assert plan_reading(total, stride, threads=threads, reading=None) == (threads, 1)


@settings(max_examples=200)
@given(
    wanted=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3)), min_size=1, max_size=10),
    shard_chunks=st.integers(1, 9),
    most=st.integers(1, 9),
)
def test_batches_keep_every_job_in_order(
    wanted: list[tuple[int, int]], shard_chunks: int, most: int
) -> None:
    geometry = Geometry(STRIDE, shard_chunks, 44 * PAYLOAD)
    pieces = in_order(
        [Piece(at * PAYLOAD, memoryview(bytearray(n * PAYLOAD))) for at, n in wanted],
        geometry.stream_size,
    )
    jobs = list(chunk_jobs(pieces, geometry))
    groups = list(batches(iter(jobs), geometry, most))
    assert [job for group in groups for job in group] == jobs
    for group in groups:
        numbers = [job.number for job in group]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert len({number // shard_chunks for number in numbers}) == 1
        assert len(group) <= most
