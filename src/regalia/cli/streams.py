"""Standard output and error of ``regalia``: what cannot be written is never lost silently.

A full disk or a closed descriptor shows when a command writes, when Python flushes at its end, or
not at all. Here the descriptors get streams that remember a failure, so that the end of the
program can say so and choose its exit status.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from regalia.core.errors import CoreCode, LocalError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STANDARD = (0, 1, 2)  # file descriptors


class OutputLostError(LocalError):
    """Standard output took not all that a command has to say."""

    def __init__(self, why: str) -> None:
        super().__init__(CoreCode.IO_FAILED, f"standard output: {why}")


class _Output(io.FileIO):
    """A descriptor that says once why it takes nothing, and then swallows what is left.

    Args:
        fd: the descriptor; it stays open.
        closed_before: whoever started us gave no such descriptor.
    """

    def __init__(self, fd: int, *, closed_before: bool) -> None:
        super().__init__(fd, "wb", closefd=False)
        self._closed_before = closed_before
        self.lost: OutputLostError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write.

        Raises:
            OutputLostError: the first time that it is not possible.
            BrokenPipeError: the reader has gone, which is no failure of ours.
        """
        if self.lost is not None:
            return memoryview(data).nbytes
        try:
            return self._write(data)
        except BrokenPipeError:
            raise
        except OSError as exc:
            self.lost = OutputLostError(exc.strerror or str(exc))
            raise self.lost from exc

    def _write(self, data: ReadableBuffer) -> int:
        if self._closed_before:
            raise OSError(errno.EBADF, "it is closed")
        return super().write(data)


class _Messages(io.FileIO):
    """Standard error: what cannot be written there changes nothing else."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, if that is possible. Raises BrokenPipeError."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError:
            return memoryview(data).nbytes


class Streams:
    """Guards ``sys.stdout`` and ``sys.stderr`` of this process from now on."""

    def __init__(self) -> None:
        absent = _occupy()
        self._output = _Output(1, closed_before=1 in absent)
        sys.stdout = _text(self._output, sys.stdout)
        sys.stderr = _text(_Messages(2, "wb", closefd=False), sys.stderr)

    def flush(self) -> OutputLostError | None:
        """Write what is left. Returns why standard output took not all, or None if it did.

        Raises:
            BrokenPipeError: the reader has gone.
        """
        try:
            sys.stdout.flush()
        except OutputLostError as error:
            return error
        return self._output.lost


def _occupy() -> list[int]:
    """Open what is closed of the standard descriptors, or the next file would get its number."""
    absent = []
    for fd in _STANDARD:
        try:
            os.fstat(fd)
        except OSError:
            absent.append(fd)
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
    return absent


def _text(raw: io.FileIO, like: TextIO | None) -> TextIO:
    """A text stream that is encoded and flushed as the one that Python made.

    Args:
        raw: takes the bytes.
        like: Python's; None if the descriptor was closed.
    """
    if not isinstance(like, io.TextIOWrapper):
        return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", line_buffering=True)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=like.encoding,
        errors=like.errors,
        line_buffering=like.line_buffering,
        write_through=like.write_through,
    )
