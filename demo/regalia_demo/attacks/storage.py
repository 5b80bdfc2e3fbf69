"""Thefts on storage: what lies on disks, and what can be put there."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from regalia.core.errors import IntegrityError, PolicyDenied, RegaliaError
from regalia.host.localfs import write_new
from regalia.seal.load import load_model
from regalia.seal.progress import no_progress
from regalia.store.local import LocalBlobs
from regalia_demo.attacker import start_unprotected
from regalia_demo.chat import QUESTIONS, ask_once
from regalia_demo.clients import plain_client
from regalia_demo.deployment import OLD_VERSION, VERSION, runtime_toml
from regalia_demo.outcome import REFUSED, Side, refused_with, stolen_if
from regalia_demo.processes import free_address
from regalia_testing.needles import file_blocks, files_under

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia_demo.attacker import Attacker

_STRIDE = 1 << 20
_DATA = 4096  # chunks begin after the prefix


def _needles_in(attacker: Attacker, folders: tuple[Path, ...]) -> tuple[int, int]:
    """Needles found, and bytes searched."""
    found, size = 0, 0
    for path in files_under(folders):
        found = max(found, attacker.deployment.needles.found_in(file_blocks(path)))
        size += path.stat().st_size
    return found, size


def read_disks_plain(attacker: Attacker) -> Side:
    """The unprotected server's model directory."""
    found, size = _needles_in(attacker, (attacker.deployment.model,))
    total = len(attacker.deployment.needles.pieces)
    return stolen_if(found == total, f"{found} of {total} pieces of weights in {size:,} bytes")


def read_disks(attacker: Attacker) -> Side:
    """Every file of store, broker, runtime, and their logs."""
    found, size = _needles_in(attacker, attacker.deployment.service_folders)
    total = len(attacker.deployment.needles.pieces)
    detail = f"{found} of {total} pieces of weights in {size:,} bytes of every service's files"
    return refused_with("CIPHERTEXT_ONLY" if found == 0 else None, detail)


class _PlainMemory:
    """Where a thief who has the key would load: the attack here is on integrity."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def allocate(self, size: int) -> memoryview:
        """Ordinary memory."""
        self._buffer = bytearray(size)
        return memoryview(self._buffer)

    def discard(self, start: int, stop: int) -> None:
        """Overwrite a part.

        Args:
            start: first byte.
            stop: byte after the last one.
        """
        self._buffer[start:stop] = bytes(stop - start)

    def wipe(self) -> None:
        """Overwrite."""
        self._buffer[:] = bytes(len(self._buffer))


def _flip(shard: Path) -> None:
    with shard.open("r+b") as file:
        file.seek(_DATA + 5 * _STRIDE + 1000)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def _swap(shard: Path) -> None:
    with shard.open("r+b") as file:
        file.seek(_DATA + 3 * _STRIDE)
        third, fourth = file.read(_STRIDE), file.read(_STRIDE)
        file.seek(_DATA + 3 * _STRIDE)
        file.write(fourth + third)


def _truncate(shard: Path) -> None:
    size = shard.stat().st_size
    last = (size - _DATA) % _STRIDE or _STRIDE
    os.truncate(shard, size - last)


def tamper_plain(attacker: Attacker) -> Side:
    """Plain safetensors have no integrity: a changed weight loads like any other."""
    from safetensors import safe_open  # noqa: PLC0415 - an extra, and it imports numpy

    copy = attacker.deployment.root / "tampered.safetensors"
    shutil.copyfile(attacker.deployment.model / "model.safetensors", copy)
    _flip(copy)
    with safe_open(copy, framework="pt") as file:
        count = sum(file.get_tensor(name).numel() > 0 for name in file.keys())  # noqa: SIM118
    copy.unlink()
    return stolen_if(count > 0, f"a changed model loaded: {count} tensors, no complaint")


def _load_tampered(attacker: Attacker, change: Callable[[Path], None]) -> str | None:
    folder = attacker.deployment.root / f"tampered-{change.__name__.strip('_')}"
    shutil.copytree(attacker.deployment.root / "store", folder)
    try:
        change(max(folder.glob("*.seal"), key=lambda path: path.stat().st_size))
        with attacker.owner_key() as key:
            load_model(
                LocalBlobs(folder),
                attacker.manifest,
                key,
                _PlainMemory(),
                threads=2,
                progress=no_progress,
            )
    except IntegrityError as refused:
        return refused.code.name
    except RegaliaError:
        return None
    finally:
        shutil.rmtree(folder)
    return None


def tamper(attacker: Attacker) -> Side:
    """The loader, with the right key, on three copies that were changed in one place each."""
    codes = [_load_tampered(attacker, change) for change in (_flip, _swap, _truncate)]
    if None in codes:
        return refused_with(None, f"a changed copy was loaded: {codes}")
    names = [code for code in codes if code is not None]
    detail = f"flipped bit: {names[0]}; swapped chunks: {names[1]}; truncated: {names[2]}"
    return Side(REFUSED, detail, "+".join(dict.fromkeys(names)))


def old_plain(attacker: Attacker) -> Side:
    """A plain directory has no version: a real server is pointed at an older copy and serves it."""
    old = attacker.deployment.root / "model-old"
    old.mkdir()
    for path in attacker.deployment.model.iterdir():
        (old / path.name).symlink_to(path)
    with start_unprotected(attacker.deployment, free_address(), old) as server:
        server.wait_ready()
        answer = ask_once(plain_client(server.url), QUESTIONS[0])
    return stolen_if(bool(answer), f"a plain server on an older copy answered {answer!r}")


def old_version(attacker: Attacker) -> Side:
    """A real runtime is pointed at the older sealed copy."""
    deployment = attacker.deployment
    store, address = free_address(), free_address()
    write_new(
        deployment.root / "runtime" / "old-version.toml", runtime_toml(deployment, store).encode()
    )
    serve_old = ["store", "serve", "store-old", "--listen", store]
    with deployment.spawn("old-store", serve_old, store) as old_store:
        old_store.wait_ready()
        serve = ["serve", "--config", "runtime/old-version.toml", "--listen", address]
        with deployment.spawn("old-version", serve, address) as runtime:
            status = runtime.wait_exit()
    said = [c for c in ("MODEL_VERSION_TOO_OLD", "VERSION_ROLLBACK") if c in runtime.output()]
    code = said[0] if said and status == PolicyDenied.exit_status else None
    return refused_with(
        code, f"version {OLD_VERSION} where the policy wants {VERSION}: exit status {status}"
    )
