"""The mapping that holds the weights: locked, absent from dumps and children, wiped at the end."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from regalia.core.errors import LocalError
from regalia.runtime.codes import RuntimeCode
from regalia.runtime.hardening import can_lock_everything
from regalia.runtime.memory import LockedMemory, MemoryKind

SIZE = 3 << 20
NEEDLE = b"a needle that stands for weights"


def flags_of(address: int) -> set[str]:
    text = Path("/proc/self/smaps").read_text()
    match = re.search(rf"^{address:x}-.*?^VmFlags: ([^\n]*)", text, re.DOTALL | re.MULTILINE)
    assert match is not None, "the mapping begins at its address"
    return set(match.group(1).split())


def secret_memory_works() -> bool:
    try:
        LockedMemory(MemoryKind.SECRET, dangerous_allow_unlocked=False).allocate(1 << 16)
    except LocalError:
        return False
    return True


def lockable(size: int) -> bool:
    return can_lock_everything() or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] >= size


def allocate(kind: MemoryKind, size: int = SIZE) -> tuple[LockedMemory, memoryview]:
    if not lockable(size) or (kind is MemoryKind.SECRET and not secret_memory_works()):
        pytest.skip("this machine does not give such memory")
    memory = LockedMemory(kind, dangerous_allow_unlocked=False)
    return memory, memory.allocate(size)


@pytest.mark.parametrize("kind", list(MemoryKind))
def test_flags_in_smaps(kind: MemoryKind) -> None:
    memory, view = allocate(kind)
    view[:] = b"\xff" * SIZE
    flags = flags_of(memory.address)
    assert {"lo", "dd", "dc"} <= flags, "locked, not dumped, not copied to children"
    assert memory.locked
    assert len(view) == memory.size == SIZE
    assert memory.address % 4096 == 0


@pytest.mark.parametrize("kind", list(MemoryKind))
def test_wiping_leaves_zeros(kind: MemoryKind) -> None:
    memory, view = allocate(kind)
    assert memory.wiped
    view[-1:] = b"\x01"
    assert not memory.wiped
    view[: len(NEEDLE)] = NEEDLE
    memory.wipe()
    assert memory.wiped
    assert bytes(view[: len(NEEDLE)]) == bytes(len(NEEDLE)), "views stay valid and read zeros"
    memory.wipe()


def test_sizes() -> None:
    for size in (0, 1, 4097):
        memory, view = allocate(MemoryKind.LOCKED, size)
        assert (len(view), memory.wiped) == (size, True)
    never = LockedMemory(MemoryKind.LOCKED, dangerous_allow_unlocked=False)
    never.wipe()
    assert never.wiped


@pytest.mark.parametrize("kind", list(MemoryKind))
def test_more_memory_is_wiped_with_the_first(kind: MemoryKind) -> None:
    memory, view = allocate(kind)
    more = memory.allocate(8192)
    assert memory.size == SIZE + 8192
    more[:] = NEEDLE * (8192 // len(NEEDLE))
    assert not memory.wiped
    memory.wipe()
    assert memory.wiped
    assert not any(more)
    assert len(view) == SIZE


@pytest.mark.parametrize("kind", list(MemoryKind))
@pytest.mark.parametrize(("start", "stop"), [(0, SIZE), (100, 200), (4000, 12_400), (8192, 12_288)])
def test_discarded_parts_read_zeros_and_the_rest_stays(
    start: int, stop: int, kind: MemoryKind
) -> None:
    memory, view = allocate(kind)
    view[:] = b"\xff" * SIZE
    memory.discard(start, stop)
    assert view.tobytes() == b"\xff" * start + bytes(stop - start) + b"\xff" * (SIZE - stop)
    for wrong in ((-1, 1), (0, SIZE + 1), (2, 1)):
        with pytest.raises(ValueError, match="part"):
            memory.discard(*wrong)


def test_children_do_not_inherit_it() -> None:
    """A child that touches the mapping dies of it; it was never copied."""
    program = """
    import ctypes, os
    from regalia.runtime.memory import LockedMemory, MemoryKind
    memory = LockedMemory(MemoryKind.LOCKED, dangerous_allow_unlocked=True)
    view = memory.allocate(1 << 16)
    view[:4] = b"abcd"
    child = os.fork()
    if child == 0:
        ctypes.string_at(memory.address, 4)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    )
    assert done.stdout.strip() == "-11"


UNPRIVILEGED = """
    import os, resource, sys
    import regalia.runtime.memory as m
    from regalia.core.errors import LocalError
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
    os.setgid(65534); os.setuid(65534)
    memory = m.LockedMemory(m.MemoryKind(sys.argv[1]), dangerous_allow_unlocked=sys.argv[2] == "1")
    try:
        memory.allocate(1 << 20)
    except LocalError as exc:
        print(exc.code.name)
    else:
        print("locked" if memory.locked else "not locked")
"""


def unprivileged(kind: MemoryKind, *, dangerous: bool) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(UNPRIVILEGED), kind, "1" if dangerous else "0"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_what_cannot_be_locked_is_refused() -> None:
    assert unprivileged(MemoryKind.LOCKED, dangerous=False) == "MEMORY_NOT_LOCKABLE"
    assert unprivileged(MemoryKind.LOCKED, dangerous=True) == "not locked"
    # Secret memory is asked for by name; no switch weakens it to something else.
    assert unprivileged(MemoryKind.SECRET, dangerous=False) == "SECRET_MEMORY_UNAVAILABLE"
    assert unprivileged(MemoryKind.SECRET, dangerous=True) == "SECRET_MEMORY_UNAVAILABLE"


def test_more_than_there_is() -> None:
    memory = LockedMemory(MemoryKind.LOCKED, dangerous_allow_unlocked=False)
    with pytest.raises(LocalError) as caught:
        memory.allocate(1 << 62)
    assert caught.value.code is RuntimeCode.MEMORY_NOT_LOCKABLE
