"""A worker's side: gets its keys from its runtime, opens what is sealed, and lives by its lease.

It runs in a process of the engine's, in which the engine's plug-in calls it. The process ends when
its lease ends, when its runtime is gone, and when anything of the model fails: at once, with its
memory, as no engine can be relied on to wipe what its libraries have copied.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from regalia.core.errors import CoreCode, IntegrityError, ParseError, RegaliaError
from regalia.core.secret import SecretBytes
from regalia.runtime.codes import RuntimeCode
from regalia.runtime.hardening import harden
from regalia.runtime.hosted.child import die_with
from regalia.runtime.hosted.files import SealedFiles
from regalia.runtime.hosted.frames import (
    KEY_SIZE,
    Failed,
    Grant,
    Hello,
    Hold,
    Loaded,
    fill,
    receive,
    send,
)
from regalia.runtime.process_end import ProcessEnd
from regalia.runtime.startup import fetch_manifest
from regalia.seal.reader import open_sealed
from regalia.store.locate import open_cached

HELLO_S = 30.0  # seconds that the runtime may take to answer
STATUS_GONE = 15  # of a worker whose runtime is gone


def protect_process() -> None:
    """Take the protections of this process before it has a secret: once in each of the engine's.

    Raises:
        LocalError: HARDENING_FAILED.
    """
    die_with(os.getppid())
    harden()


class Weights:
    """One worker's access to the sealed model.

    Args:
        connection: to the runtime.
        files: the model's plaintext.
        adapter: the plaintext of the adapter that is merged into it; None if there is none.
    """

    def __init__(
        self, connection: socket.socket, files: SealedFiles, adapter: SealedFiles | None
    ) -> None:
        """Use ``open_weights`` instead."""
        self._connection = connection
        self._began = time.monotonic()
        self.files = files
        self.adapter = adapter

    def loaded(self, tensors: int, size: int, read: int) -> None:
        """Wipe what was kept for further reading, and tell the runtime that this worker is done.

        Args:
            tensors: number of tensors that were loaded.
            size: bytes of them that this worker wanted.
            read: bytes of ciphertext that it read for that.
        """
        self.files.forget()
        seconds = time.monotonic() - self._began
        send(self._connection, Loaded(tensors=tensors, size=size, read=read, seconds=seconds))

    def failed(self, error: Exception) -> None:
        """Tell the runtime why this worker cannot go on."""
        _tell_failure(self._connection, error)


def _tell_failure(connection: socket.socket, error: Exception) -> None:
    # Messages of others than ours could hold anything.
    code = error.code.name if isinstance(error, RegaliaError) else type(error).__name__
    what = error.what if isinstance(error, RegaliaError) else "the engine's library failed"
    with suppress(OSError):
        send(connection, Failed(code, what))


def open_weights(channel: str, rank: int, workers: int) -> Weights:
    """Get the keys from the runtime and open what is sealed. Call it from the main thread.

    Args:
        channel: path of the runtime's private socket.
        rank: of this worker in its group, from 0.
        workers: number of workers in the group.

    Raises:
        ParseError: the runtime grants no key.
        RegaliaError: the model cannot be opened. The runtime was told.
        OSError: the runtime is gone.
    """
    ending = ProcessEnd()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(HELLO_S)
    connection.connect(channel)
    send(connection, Hello(rank, workers))
    with ExitStack() as keys:
        parts = _receive_parts(connection, keys)
        connection.settimeout(None)
        ending.after(min(part.grant.left_s for part in parts))
        threading.Thread(target=_live, args=(connection, ending), daemon=True).start()
        try:
            files, *others = [_open_files(part.grant, part.key) for part in parts]
        except RegaliaError as exc:
            _tell_failure(connection, exc)
            raise
    return Weights(connection, files, others[0] if others else None)


@dataclass(frozen=True, slots=True)
class _Part:
    """What the model, or its adapter, is opened with."""

    grant: Grant
    key: SecretBytes


def _receive_parts(connection: socket.socket, keys: ExitStack) -> tuple[_Part, ...]:
    """Receive what the model is opened with, and what its adapter is if there is one.

    Args:
        connection: to the runtime.
        keys: wipes them.
    """
    model = _receive_part(connection, keys)
    if not model.grant.adapter_follows:
        return (model,)
    adapter = _receive_part(connection, keys)
    if adapter.grant.adapter_follows:
        raise ParseError(CoreCode.MALFORMED, "the runtime grants more than one adapter")
    return (model, adapter)


def _receive_part(connection: socket.socket, keys: ExitStack) -> _Part:
    grant = receive(connection)
    if not isinstance(grant, Grant):
        raise ParseError(CoreCode.MALFORMED, "the runtime grants no key")
    return _Part(grant, keys.enter_context(_receive_key(connection)))


def _receive_key(connection: socket.socket) -> SecretBytes:
    buffer = bytearray(KEY_SIZE)
    key = SecretBytes(buffer)  # locked before it is filled
    try:
        fill(connection, memoryview(buffer))
    except BaseException:
        key.close()
        raise
    return key


def _open_files(grant: Grant, key: SecretBytes) -> SealedFiles:
    source = open_cached(
        grant.store,
        Path(grant.folder),
        cache=grant.cache,
        cache_bytes=grant.cache_bytes,
        peers=grant.peers,
    )
    manifest = fetch_manifest(source, owner_key=grant.owner_key, model_id=grant.model_id)
    if str(manifest.digest) != grant.manifest:
        raise IntegrityError(
            RuntimeCode.SERVED_MODEL_MISMATCH,
            f"{source.describe()} shows this worker another manifest than its runtime",
        )
    return SealedFiles(open_sealed(source, manifest, key), threads=grant.threads)


def _live(connection: socket.socket, ending: ProcessEnd) -> None:
    """End this process when its runtime is gone. The kernel's timer ends it with its lease."""
    try:
        while (frame := receive(connection)) is not None:
            if isinstance(frame, Hold):
                ending.after(frame.left_s)
    except (OSError, RegaliaError):
        pass
    ending.now(STATUS_GONE)
