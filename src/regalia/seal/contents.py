"""What lies in a model directory: weights, what no engine needs, and what is missing.

Directories are taken as they are found: snapshots of a hub cache, clones and downloads. Decisions
are made by names, as engines make them; nothing is loaded.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, LocalError, ParseError
from regalia.host.localfs import read_file
from regalia.seal.codes import SealCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from regalia.core.types import ModelId

_WEIGHTS = ".safetensors"
_INDEX = ".safetensors.index.json"
_INDEX_LIMIT = 64 * MIB  # bytes
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
_PARTS_MAX = 10_000
_UNFINISHED = ".incomplete"  # what a hub client calls a download that is under way

# Loading a pickle runs whatever code is in it, so no engine here does.
_PICKLES = frozenset({".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_PICKLED_NAME = re.compile(
    r"(pytorch_model|adapter_model|training_args|optimizer|scheduler).*\.bin"
)
_PICKLED_HEAD = re.compile(rb"\x80[\x02-\x05]|PK\x03\x04.{26,200}/data\.pkl", re.DOTALL)
# Of other frameworks: TensorFlow, Flax, Rust, and lists of parts of pickled weights.
_OTHERS = frozenset({".h5", ".msgpack", ".ot", ".tflite"})
_PICKLED_INDEX = ".bin.index.json"
_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_ORIGINAL = "original"  # the vendor's own files, beside the converted ones


class _WeightIndex(msgspec.Struct):
    """The part of ``model.safetensors.index.json`` that says which files there are."""

    weight_map: dict[str, str]


def hub_blobs(model: Path) -> Path | None:
    """The directory that the links of a hub cache's snapshot lead into; None if it is no snapshot.

    A cache is ``models--OWNER--NAME`` with ``snapshots/REVISION`` and ``blobs`` in it.
    """
    real = Path(os.path.realpath(model))
    cache = real.parent.parent
    blobs = cache / "blobs"
    named = real.parent.name == "snapshots" and cache.name.startswith("models--")
    # A link in its place could lead to any directory of whoever seals.
    return blobs if named and blobs.is_dir() and not blobs.is_symlink() else None


def check_is_no_cache(model: Path) -> None:
    """Refuse a hub cache, and what is no snapshot in it: which of its snapshots is meant?

    Raises:
        LocalError: IS_A_CACHE.
    """
    real = Path(os.path.realpath(model))
    cache = real.parent if real.name in {"blobs", "snapshots"} else real
    snapshots = cache / "snapshots"
    if snapshots.is_dir() and (cache / "blobs").is_dir():
        names = sorted(path.name for path in snapshots.iterdir())
        raise LocalError(
            SealCode.IS_A_CACHE,
            f"{model}: a hub cache, with the snapshots {', '.join(names) or 'none'}",
        )
    models = sorted(path.parent.name for path in real.glob("models--*/snapshots"))
    if models:
        raise LocalError(SealCode.IS_A_CACHE, f"{model}: a hub cache, with {', '.join(models)}")


def is_pickle(path: str, head: bytes) -> bool:
    """Whether a file is a pickle, by its name or its first bytes.

    Args:
        path: path in the model.
        head: its first bytes; looked at only if the name ends in ``.bin``.
    """
    name = PurePosixPath(path).name.casefold()
    suffix = PurePosixPath(name).suffix
    if suffix in _PICKLES or _PICKLED_NAME.fullmatch(name):
        return True
    return suffix == ".bin" and _PICKLED_HEAD.match(head) is not None


def may_be_pickle_by_head(path: str) -> bool:
    """Whether the first bytes of a file say something that its name does not."""
    return path.casefold().endswith(".bin")


def unneeded(paths: Iterable[str]) -> frozenset[str]:
    """Paths that no engine needs, because the same weights lie there as safetensors.

    Args:
        paths: all paths of a model.
    """
    every = frozenset(paths)
    if not any(path.endswith(_WEIGHTS) and "/" not in path for path in every):
        return frozenset()
    return frozenset(path for path in every if _is_duplicate(path))


def _is_duplicate(path: str) -> bool:
    name = path.casefold()
    return (
        name.startswith(f"{_ORIGINAL}/")
        or PurePosixPath(name).suffix in _OTHERS
        or name.endswith(_PICKLED_INDEX)
        or is_pickle(path, b"")
    )


def check_base(paths: Iterable[str], base: ModelId | None) -> None:
    """Refuse an adapter without its base, and a base for what is no adapter.

    Args:
        paths: all paths of a model or an adapter.
        base: the model that it is sealed for; None for a model by itself.

    Raises:
        LocalError: ADAPTER_WITHOUT_BASE, NOT_AN_ADAPTER or INCOMPLETE_MODEL.
    """
    every = frozenset(paths)
    adapter = {_ADAPTER_CONFIG, _ADAPTER_WEIGHTS}
    others = {path for path in every - adapter if path.endswith(_WEIGHTS) and "/" not in path}
    # A whole model may have an adapter's settings beside it, left by those who merged it.
    if others or not every & adapter:
        if base is not None:
            what = f"has the weights {min(others)!a}" if others else f"has no {_ADAPTER_WEIGHTS}"
            raise LocalError(SealCode.NOT_AN_ADAPTER, f"the folder {what}")
        return
    if base is None:
        raise LocalError(
            SealCode.ADAPTER_WITHOUT_BASE, f"{min(every & adapter)!a} is a part of an adapter"
        )
    _require(adapter, dict.fromkeys(every, Path()), "a part of every adapter")


def check_complete(files: Mapping[str, Path]) -> None:
    """Refuse weights of which a part is missing.

    Args:
        files: all files of a model by their paths, and where they lie.

    Raises:
        LocalError: INCOMPLETE_MODEL, or a list of parts cannot be read.
        ParseError: MALFORMED or TOO_LARGE, a list of parts.
    """
    for path, source in sorted(files.items()):
        name = PurePosixPath(path)
        if name.suffix == _UNFINISHED:
            raise _incomplete(path, "is a download that has not ended")
        if path.endswith(_INDEX):
            folder = path[: -len(name.name)]
            wanted = {folder + part for part in _indexed(path, source)}
            _require(wanted, files, f"named in {path!a}")
        elif part := _PART.fullmatch(name.name):
            count = int(part["count"])
            if not 1 <= int(part["number"]) <= count <= _PARTS_MAX:
                continue  # no engine counts like this, so it is only a name
            wanted = {
                str(name.with_name(f"{part['stem']}-{number:05}-of-{count:05}{_WEIGHTS}"))
                for number in range(1, count + 1)
            }
            _require(wanted, files, f"one of the {count} parts that {path!a} counts")


def _indexed(path: str, source: Path) -> set[str]:
    data = read_file(source, limit=_INDEX_LIMIT)
    try:
        return set(msgspec.json.decode(data, type=_WeightIndex).weight_map.values())
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"{path!a}: {exc}") from exc


def _require(wanted: set[str], files: Mapping[str, Path], why: str) -> None:
    missing = sorted(wanted - files.keys())
    if missing:
        raise _incomplete(missing[0], f"is missing, {why}")


def _incomplete(path: str, why: str) -> LocalError:
    return LocalError(SealCode.INCOMPLETE_MODEL, f"{path!a} {why}")
