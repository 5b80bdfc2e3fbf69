"""Computes in a child of this process what an engine would start a new interpreter for.

vLLM looks at a model's class in another process, so that its own does not touch a GPU. A new
interpreter would import the whole of vLLM for that: 13 s of a CPU. A fork has it already.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn, TypeVar

from regalia.runtime.hosted.child import die_with

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def run_forked(compute: Callable[[], T]) -> T:
    """Compute in a child, which ends then.

    Args:
        compute: its result can be pickled.

    Raises:
        RuntimeError: it failed. Its trace is on standard error.
    """
    own = os.getpid()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _compute(compute, own, writing)
    os.close(writing)
    with open(reading, "rb") as stream:  # noqa: PTH123 - a descriptor
        data = stream.read()
    _, status = os.waitpid(pid, 0)
    if status != 0 or not data:
        raise RuntimeError("the child of this process failed")
    result: T = pickle.loads(data)  # noqa: S301 - of our own child
    return result


def _compute(compute: Callable[[], object], parent: int, writing: int) -> NoReturn:
    status = 1
    try:
        die_with(parent)
        with open(writing, "wb") as stream:
            stream.write(pickle.dumps(compute()))
        status = 0
    except BaseException:  # noqa: BLE001 - nothing of the parent may go on in the child
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(status)
