"""Every loader, in two steps: what is done before the clock starts, and what is measured.

When the clock stops, every byte of every tensor is in private memory of the process. Loaders whose
tensors are views on a mapping of the file therefore copy them. A loader returns its tensors by
name, or None if it makes none.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import files as formats
from files import AGE, OPENSSL, weights
from harness import MIB, threads
from load_speed import Given, in_threads, locked_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from files import Files

    Tensors = dict[str, Any] | None
    Load = Callable[[Callable[[], None]], Tensors]  # told when the first bytes are there


@dataclass(frozen=True)
class Loader:
    """One row.

    Attributes:
        name: as it stands in the table.
        setup: does what is not measured, and returns what is.
        folder: what it reads, which is brought into the page cache before.
        write: makes the files that it reads; None if they are the model's own.
        encrypted: whether what it reads is encrypted and authenticated.
    """

    name: str
    setup: Callable[[Files], Load]
    folder: Callable[[Files], Path]
    write: Callable[[Files], object] | None = None
    encrypted: str = "no"


# --- plain


def load_plain(files: Files) -> Load:
    from safetensors.torch import load_file  # noqa: PLC0415

    def load(first: Callable[[], None]) -> Tensors:
        kept = {}
        for path in weights(files.plain):
            for name, tensor in load_file(path).items():
                kept[name] = tensor.clone()
                first()
        return kept

    return load


def load_and_copy(files: Files) -> Load:
    from safetensors.torch import load_file  # noqa: PLC0415

    ready = parameters(files)

    def load(first: Callable[[], None]) -> Tensors:
        for path in weights(files.plain):
            for name, tensor in load_file(path).items():
                ready[name].copy_(tensor)
                first()
        return ready

    return load


def parameters(files: Files) -> dict[str, Any]:
    """Tensors as an engine has them before it loads: allocated, faulted in, with other content."""
    import torch  # noqa: PLC0415
    from safetensors import safe_open  # noqa: PLC0415

    made = {}
    for path in weights(files.plain):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dictionary
                shape = file.get_slice(name).get_shape()
                made[name] = torch.full(shape, 1, dtype=torch.bfloat16)
    return made


def preadv(*, faulted: bool) -> Callable[[Files], Load]:
    """A loader without cryptography and without tensors: the floor."""

    def setup(files: Files) -> Load:
        paths = weights(files.plain)
        total = sum(path.stat().st_size for path in paths)
        ready = locked_memory(total if faulted else 1, faulted=True)  # imports what it needs

        def load(first: Callable[[], None]) -> Tensors:
            memory, view = ready if faulted else locked_memory(total, faulted=False)
            jobs, start = [], 0
            for path in paths:
                fd, size = os.open(path, os.O_RDONLY), path.stat().st_size
                jobs += [(fd, at, start + at, min(MIB, size - at)) for at in range(0, size, MIB)]
                start += size
            next_job = count()

            def run(_number: int) -> None:
                while (number := next(next_job)) < len(jobs):  # atomic in CPython
                    fd, offset, target, size = jobs[number]
                    if os.preadv(fd, [view[target : target + size]], offset) != size:
                        raise SystemExit("short read")
                    first()

            in_threads(run)
            kept.append(memory)
            return None

        kept: list[object] = []
        return load

    return setup


# --- ours


def _manifest(files: Files) -> Any:  # noqa: ANN401 - regalia is imported by who needs it
    from regalia.seal.manifest import ANY_SIGNER, verify_manifest  # noqa: PLC0415

    data = (files.sealed / "manifest.json").read_bytes()
    return verify_manifest(data, signers=ANY_SIGNER, minimum_version=1)


def _key(files: Files) -> Any:  # noqa: ANN401
    from regalia.core.secret import SecretBytes  # noqa: PLC0415

    return SecretBytes.copy_of((files.root / "sealed.key").read_bytes())


def write_sealed(files: Files) -> None:
    from load_speed import seal_once  # noqa: PLC0415

    key = seal_once(files.plain, files.sealed)
    (files.root / "sealed.key").touch(mode=0o600)
    (files.root / "sealed.key").write_bytes(bytes.fromhex(key))


def sealed_whole(*, faulted: bool) -> Callable[[Files], Load]:
    """The whole stream into memory of the runtime, and tensors as views on it."""

    def setup(files: Files) -> Load:
        from safetensors.torch import load as _warm_import  # noqa: F401, PLC0415

        from regalia.runtime.memory import LockedMemory, MemoryKind  # noqa: PLC0415
        from regalia.seal.load import load_model  # noqa: PLC0415
        from regalia.store.local import LocalBlobs  # noqa: PLC0415

        size = _manifest(files).content.geometry.stream_size
        given = Given(*locked_memory(size, faulted=True)) if faulted else None

        def load(first: Callable[[], None]) -> Tensors:
            memory = given or LockedMemory(MemoryKind.LOCKED, dangerous_allow_unlocked=True)
            with LocalBlobs(files.sealed) as blobs:
                model = load_model(
                    blobs,
                    _manifest(files),
                    _key(files),
                    memory,
                    threads=threads(),
                    progress=lambda _done, _total: first(),
                )
            return tensors_of({path: model.view(path) for path in model.paths()})

        return load

    return setup


def tensors_of(views: dict[str, memoryview]) -> dict[str, Any]:
    """Tensors as views on safetensors files that lie in memory."""
    import torch  # noqa: PLC0415

    made = {}
    for name, start, stop, view in entries_of(views):
        address = view[start:stop]
        made[name] = torch.frombuffer(address, dtype=torch.bfloat16)
    return made


def entries_of(views: dict[str, memoryview]) -> list[tuple[str, int, int, memoryview]]:
    """Name, first and last byte of every tensor in safetensors files."""
    import json  # noqa: PLC0415

    found = []
    for path, view in views.items():
        if not path.endswith(".safetensors"):
            continue
        size = int.from_bytes(view[:8], "little")
        header = json.loads(bytes(view[8 : 8 + size]))
        found += [
            (name, *(8 + size + at for at in entry["data_offsets"]), view)
            for name, entry in header.items()
            if name != "__metadata__"
        ]
    return found


def sealed_into_parameters(files: Files) -> Load:
    """``load_into``: every tensor straight to where the engine has it."""
    import json  # noqa: PLC0415

    from regalia.seal.progress import no_progress  # noqa: PLC0415
    from regalia.seal.reader import Piece, open_sealed  # noqa: PLC0415
    from regalia.store.local import LocalBlobs  # noqa: PLC0415

    _manifest(files), _key(files)  # so that everything is imported
    ready = parameters(files)
    outs = {
        name: memoryview((ctypes.c_ubyte * tensor.nbytes).from_address(tensor.data_ptr())).cast("B")
        for name, tensor in ready.items()
    }

    def load(first: Callable[[], None]) -> Tensors:
        with LocalBlobs(files.sealed) as blobs:
            reader = open_sealed(blobs, _manifest(files), _key(files))
            pieces = []
            for entry in reader.index.entries:
                if not entry.path.endswith(".safetensors"):
                    continue
                size = memoryview(bytearray(8))
                reader.read_range(entry.offset, size)
                header = memoryview(bytearray(int.from_bytes(size, "little")))
                reader.load_into([Piece(entry.offset + 8, header)], threads=1, progress=no_progress)
                data = entry.offset + 8 + header.nbytes
                pieces += [
                    Piece(data + tensor["data_offsets"][0], outs[name])
                    for name, tensor in json.loads(bytes(header)).items()
                    if name != "__metadata__"
                ]
            reader.load_into(pieces, threads=threads(), progress=lambda _done, _total: first())
        return ready

    return load


# --- the others


def tensorizer(*, encrypted: bool) -> Callable[[Files], Load]:
    def setup(files: Files) -> Load:
        from tensorizer import DecryptionParams, TensorDeserializer  # noqa: PLC0415

        path = files.tensorizer_encrypted if encrypted else files.tensorizer
        key = DecryptionParams.from_key(files.key("tensorizer")) if encrypted else None

        def load(first: Callable[[], None]) -> Tensors:
            loaded = TensorDeserializer(
                str(path), device="cpu", encryption=key, num_readers=threads()
            )
            first()
            return dict(loaded)

        return load

    return setup


def cryptotensors(files: Files) -> Load:
    import cryptotensors as library  # noqa: PLC0415
    from cryptotensors.torch import load_file  # noqa: PLC0415

    library.register_direct_key_provider(keys=list(formats.cryptotensors_keys(files).values()))

    def load(first: Callable[[], None]) -> Tensors:
        kept = {}
        for path in weights(files.cryptotensors):
            kept.update(load_file(path))
            first()
        return kept

    return load


def runai(files: Files) -> Load:
    from runai_model_streamer import SafetensorsStreamer  # noqa: PLC0415

    os.environ["RUNAI_STREAMER_CONCURRENCY"] = str(threads())

    def load(first: Callable[[], None]) -> Tensors:
        kept = {}
        with SafetensorsStreamer() as streamer:
            streamer.stream_files([str(path) for path in weights(files.plain)])
            for name, tensor in streamer.get_tensors():
                kept[name] = tensor.clone()  # its buffer is used again
                first()
        return kept

    return load


def fastsafetensors(files: Files) -> Load:
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup  # noqa: PLC0415

    def load(first: Callable[[], None]) -> Tensors:
        loader = SafeTensorsFileLoader(
            SingleGroup(), device="cpu", nogds=True, max_threads=threads()
        )
        loader.add_filenames({0: [str(path) for path in weights(files.plain)]})
        buffers = loader.copy_files_to_device()
        first()
        kept = {name: buffers.get_tensor(name) for name in buffers.key_to_rank_lidx}
        kept_alive.append((loader, buffers))
        return kept

    kept_alive: list[object] = []
    return load


def program(name: str) -> Callable[[Files], Load]:
    """Decrypt to a tmpfs with a program, and load from there: a copy of the plaintext in a file."""

    def setup(files: Files) -> Load:
        from safetensors.torch import load_file  # noqa: PLC0415

        folder = formats.shared_memory() / f"regalia-bench-{os.getpid()}"
        ending = ".age" if name == AGE else ".enc"
        sources = [path for path in folder_of(files) if path.suffix == ending]

        def command(source: Path, out: Path) -> list[str]:
            if name == AGE:
                identity = str(formats.age_identity(files))
                return [AGE, "-d", "-i", identity, "-o", str(out), str(source)]
            return formats.openssl_command(files, source, out, "-d")

        def load(first: Callable[[], None]) -> Tensors:
            folder.mkdir()
            kept = {}
            try:
                for source in sources:
                    out = folder / source.stem
                    subprocess.run(command(source, out), check=True, capture_output=True)
                    for tensor_name, tensor in load_file(out).items():
                        kept[tensor_name] = tensor.clone()
                        first()
                    out.unlink()
            finally:
                for left in folder.iterdir():
                    left.unlink()
                folder.rmdir()
            return kept

        return load

    def folder_of(files: Files) -> list[Path]:
        return sorted(files.decrypted_by(name).iterdir())

    return setup


# --- ceilings


def memory_copy(files: Files) -> Load:
    """What nothing that reads each byte once can beat: memory to memory, both faulted in."""
    total = sum(path.stat().st_size for path in weights(files.plain))
    memory = [memoryview(mmap.mmap(-1, total)) for _ in range(2)]
    for view in memory:
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(view)), 1, total)
    step = 4 * MIB

    def load(first: Callable[[], None]) -> Tensors:
        next_step = count()
        source, target = (ctypes.addressof(ctypes.c_char.from_buffer(view)) for view in memory)

        def run(_number: int) -> None:
            while (at := next(next_step) * step) < total:
                ctypes.memmove(target + at, source + at, min(step, total - at))

        in_threads(run)
        first()
        return None

    return load


def decrypt_in_cache(files: Files) -> Load:
    """AES-256-GCM of the same number of bytes, always the same ones, which stay in the cache."""
    from regalia.crypto.aead import ChunkCipher  # noqa: PLC0415

    total = sum(path.stat().st_size for path in weights(files.plain))
    cipher = ChunkCipher(bytes(32), b"")
    sealed = memoryview(bytearray(MIB))
    cipher.seal_into(0, memoryview(bytes(MIB - 16)), sealed, last=False)

    def load(first: Callable[[], None]) -> Tensors:
        next_chunk = count()

        def run(_number: int) -> None:
            out = memoryview(bytearray(MIB - 16))
            while next(next_chunk) * MIB < total:
                cipher.open_into(0, sealed, out, last=False)

        in_threads(run)
        first()
        return None

    return load


PLAIN = "safetensors load_file + clone"
PLAIN_AGAIN = "safetensors load_file + copy_"
SEALED = "regalia sealed"
SEALED_AGAIN = "regalia sealed, whole stream"
SEALED_INTO = "regalia sealed, load_into parameters"
PREADV = "plain preadv, no tensors"
PREADV_AGAIN = "plain preadv, no tensors, faulted in"
DECRYPTION = "ceiling: AES-256-GCM in the cache"
TENSORIZER_ENCRYPTED = "tensorizer, encrypted"
CRYPTOTENSORS = "cryptotensors, encrypted"

FRESH = (
    Loader(PLAIN, load_plain, lambda f: f.plain),
    Loader(SEALED, sealed_whole(faulted=False), lambda f: f.sealed, write_sealed, "yes"),
    Loader(PREADV, preadv(faulted=False), lambda f: f.plain),
    Loader(
        TENSORIZER_ENCRYPTED,
        tensorizer(encrypted=True),
        lambda f: f.tensorizer_encrypted.parent,
        lambda f: formats.write_tensorizer(f, encrypted=True),
        "weights only",
    ),
    Loader(
        "tensorizer, plain",
        tensorizer(encrypted=False),
        lambda f: f.tensorizer.parent,
        lambda f: formats.write_tensorizer(f, encrypted=False),
    ),
    Loader(
        CRYPTOTENSORS,
        cryptotensors,
        lambda f: f.cryptotensors,
        formats.write_cryptotensors,
        "weights only",
    ),
    Loader("runai-model-streamer + clone", runai, lambda f: f.plain),
    Loader("fastsafetensors, no GPU", fastsafetensors, lambda f: f.plain),
    Loader(
        "age -d to tmpfs, load_file + clone",
        program(AGE),
        lambda f: f.decrypted_by(AGE),
        formats.write_age,
        "yes",
    ),
    Loader(
        "openssl enc -d to tmpfs, load_file + clone",
        program(OPENSSL),
        lambda f: f.decrypted_by(OPENSSL),
        formats.write_openssl,
        "not authenticated",
    ),
)
FAULTED = (
    Loader(PLAIN_AGAIN, load_and_copy, lambda f: f.plain),
    Loader(SEALED_INTO, sealed_into_parameters, lambda f: f.sealed, None, "yes"),
    Loader(SEALED_AGAIN, sealed_whole(faulted=True), lambda f: f.sealed, None, "yes"),
    Loader(PREADV_AGAIN, preadv(faulted=True), lambda f: f.plain),
    Loader("ceiling: memory copy", memory_copy, lambda f: f.plain),
    Loader(DECRYPTION, decrypt_in_cache, lambda f: f.plain),
)
LOADERS = {loader.name: loader for loader in (*FRESH, *FAULTED)}
