"""What the reader touches, in which order, and what it leaves behind when it must stop."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import IntegrityError
from regalia.crypto.aead import AeadCode
from regalia.seal import reader as reader_module
from regalia.seal.faults import address_range
from regalia.seal.opened import OpenedFile
from regalia.seal.progress import no_progress
from regalia.seal.reader import open_sealed
from regalia.seal.workers import Crew
from regalia.store.local import LocalBlobs
from regalia_testing.sealed import PAYLOAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from regalia.seal.format.sealed import Chunk
    from regalia.seal.reader import SealedReader
    from regalia_testing.sealed import OwnedModel

    Watch = Callable[[Callable[[int], None]], list[memoryview]]

FORGED = IntegrityError(AeadCode.CHUNK_FORGED, "for this test")
UNTOUCHED = 0xAA
CHUNKS = 5  # of the model that these tests read


@pytest.fixture
def reader(pristine: OwnedModel) -> Iterator[SealedReader]:
    with LocalBlobs(pristine.folder) as blobs:
        yield open_sealed(blobs, pristine.verified(), pristine.key)


@pytest.fixture
def out(reader: SealedReader) -> memoryview:
    return memoryview(bytearray([UNTOUCHED]) * reader.stream_size)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Calls a function with the number of chunks begun so far, before each is decrypted."""
    real = OpenedFile.open_chunk

    def begin(before: Callable[[int], None]) -> list[memoryview]:
        targets: list[memoryview] = []

        def read(file: OpenedFile, chunk: Chunk, scratch: memoryview, target: memoryview) -> None:
            targets.append(target)
            before(len(targets))
            real(file, chunk, scratch, target)

        monkeypatch.setattr(OpenedFile, "open_chunk", read)
        return targets

    return begin


def fail_at(number: int) -> Callable[[int], None]:
    def before(begun: int) -> None:
        if begun == number:
            raise FORGED

    return before


@pytest.mark.parametrize("difference", [-1, 1])
def test_the_destination_has_the_size_of_the_stream(reader: SealedReader, difference: int) -> None:
    other = memoryview(bytearray([UNTOUCHED]) * (reader.stream_size + difference))
    with pytest.raises(ValueError, match="another size"):
        reader.read_all(other, threads=1, progress=no_progress)
    assert set(other) == {UNTOUCHED}


def test_progress_counts_every_chunk_to_the_end(reader: SealedReader, out: memoryview) -> None:
    told: list[tuple[int, int]] = []
    reader.read_all(out, threads=1, progress=lambda done, total: told.append((done, total)))
    size = reader.stream_size
    assert told == [(min(n * PAYLOAD, size), size) for n in range(1, CHUNKS + 1)]


def test_pages_are_asked_for_before_they_are_written(
    reader: SealedReader, out: memoryview, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    class Recorder:
        def __init__(self, destinations: Iterable[memoryview]) -> None:
            assert [address_range(each) for each in destinations] == [address_range(out)]

        def prepare(self, part: memoryview) -> None:
            asked.append(address_range(part))

    def before(begun: int) -> None:
        assert len(asked) == begun

    monkeypatch.setattr(reader_module, "PageFaulter", Recorder)
    targets = watch(before)
    reader.read_all(out, threads=1, progress=no_progress)
    assert asked == [address_range(target) for target in targets]
    assert [first - asked[0][0] for first, _ in asked] == [n * PAYLOAD for n in range(CHUNKS)]


@pytest.mark.parametrize("number", [1, 2, CHUNKS])
def test_what_was_begun_is_zero_and_the_rest_untouched(
    reader: SealedReader, out: memoryview, watch: Watch, number: int
) -> None:
    watch(fail_at(number))
    with pytest.raises(IntegrityError):
        reader.read_all(out, threads=1, progress=no_progress)
    begun = min(number * PAYLOAD, reader.stream_size)
    assert not any(out[:begun])
    assert set(out[begun:]) <= {UNTOUCHED}


def test_without_a_thread_nothing_is_begun(reader: SealedReader, out: memoryview) -> None:
    with pytest.raises(ValueError, match="thread"):
        reader.read_all(out, threads=0, progress=no_progress)
    assert set(out) == {UNTOUCHED}


def test_a_forged_chunk_stops_the_other_threads(
    reader: SealedReader, out: memoryview, watch: Watch
) -> None:
    failed = threading.Event()

    def before(begun: int) -> None:
        if begun == 1:
            assert failed.wait(20)
            time.sleep(0.1)  # the other thread says that it failed
        else:
            failed.set()
            raise FORGED

    targets = watch(before)
    with pytest.raises(IntegrityError):
        reader.read_all(out, threads=2, progress=no_progress)
    assert len(targets) == 2  # of five
    assert not any(out[: 2 * PAYLOAD])


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_stops_the_threads(
    reader: SealedReader, out: memoryview, watch: Watch, threads: int
) -> None:
    def before(begun: int) -> None:
        if begun == 1:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(1)  # the main thread says meanwhile that it was interrupted

    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        targets = watch(before)
        with pytest.raises(KeyboardInterrupt):
            reader.read_all(out, threads=threads, progress=no_progress)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert len(targets) <= threads  # of five
    assert not any(out[: len(targets) * PAYLOAD])
    assert set(out[threads * PAYLOAD :]) == {UNTOUCHED}


def test_impatience_leaves_no_plaintext(
    reader: SealedReader, out: memoryview, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever interrupts again while the threads end, or while the wipe is made, waits for both."""
    main = threading.main_thread().ident or 0
    interrupts = iter(range(3))
    wipe = reader_module.wipe

    def interrupt() -> None:
        if next(interrupts, None) is not None:
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.1)

    def before(_begun: int) -> None:
        interrupt()
        interrupt()
        time.sleep(0.2)

    def wiping(buffer: memoryview) -> None:
        interrupt()
        wipe(buffer)

    watch(before)
    monkeypatch.setattr(reader_module, "wipe", wiping)
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            reader.read_all(out, threads=2, progress=no_progress)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert next(interrupts, None) is None
    time.sleep(0.5)
    assert not any(out[:PAYLOAD])


def test_an_interrupt_while_a_thread_is_started_leaves_no_plaintext(
    reader: SealedReader, out: memoryview, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    start = Crew.start

    def interrupted(crew: Crew, work: Callable[[], None]) -> None:
        start(crew, work)
        assert begun.wait(20)
        raise KeyboardInterrupt

    def before(_begun: int) -> None:
        begun.set()
        time.sleep(0.2)  # the reader is stopped meanwhile, and would have wiped

    watch(before)
    monkeypatch.setattr(Crew, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reader.read_all(out, threads=2, progress=no_progress)
    assert not any(out[:PAYLOAD])
    time.sleep(0.5)
    assert not any(out[:PAYLOAD]), "nobody writes any more"


def test_a_thread_that_begins_after_the_wipe_writes_nothing() -> None:
    """The system may run a thread long after it was started."""
    crew, written = Crew(), []
    crew.settle()
    crew.start(lambda: written.append(1))
    crew.wait()
    assert written == []


def test_no_plaintext_stays_beside_a_range(reader: SealedReader, watch: Watch) -> None:
    """A chunk that is wanted in part is decrypted somewhere else, which is wiped."""
    targets = watch(lambda _: None)
    part = memoryview(bytearray(10))
    reader.read_range(5, part)
    (beside,) = targets
    assert any(part)
    assert beside.nbytes == PAYLOAD
    assert not any(beside)


def test_no_plaintext_stays_beside_a_range_that_fails(reader: SealedReader, watch: Watch) -> None:
    targets = watch(fail_at(2))
    part = memoryview(bytearray([UNTOUCHED]) * PAYLOAD)
    with pytest.raises(IntegrityError):
        reader.read_range(5, part)
    assert not any(part)
    assert not any(targets[0])
