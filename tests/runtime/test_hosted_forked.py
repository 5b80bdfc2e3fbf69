"""Computing in a child of this process."""

from __future__ import annotations

import os

import pytest

from regalia.runtime.hosted.forked import run_forked


def test_a_result_comes_from_a_child() -> None:
    pid, parent = run_forked(lambda: (os.getpid(), os.getppid()))
    assert pid != os.getpid()
    assert parent == os.getpid()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # it was waited for


def test_a_large_result() -> None:
    assert run_forked(lambda: b"x" * (1 << 20)) == b"x" * (1 << 20)


@pytest.mark.parametrize(
    "compute",
    [
        lambda: 1 / 0,
        lambda: os._exit(0),
        lambda: os.kill(os.getpid(), 9),
        lambda: lambda: None,  # cannot be pickled
    ],
)
def test_a_child_that_fails(compute: object) -> None:
    with pytest.raises(RuntimeError, match="the child of this process failed"):
        run_forked(compute)  # type: ignore[arg-type]
