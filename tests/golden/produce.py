"""The golden files: what is in them, how they are made, and how a new run is compared with them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from tests.golden import commands, policies, simulated, vectors
from tests.golden.text import settled, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent / "files"
PARTS = ("commands", "policies", "simulated", "vectors")
# What commands print must not depend on who runs them where.
_ENVIRONMENT = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}


@contextlib.contextmanager
def _quiet_place() -> Iterator[None]:
    """An empty current folder, and an environment in which all terminals are alike."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, _ENVIRONMENT),
    ):
        yield


def texts(part: str, evidence: Path) -> dict[str, str]:
    """The files of a part by name, as the product of today makes them.

    Args:
        part: one of ``PARTS``.
        evidence: the folder of real evidence, for the part ``vectors``.
    """
    with _quiet_place():
        match part:
            case "commands":
                return commands.files()
            case "policies":
                return policies.files()
            case "simulated":
                return simulated.files()
            case "vectors":
                return vectors.files(evidence)
            case _:
                raise ValueError(part)


def made(part: str, evidence: Path) -> dict[str, str]:
    """The files of a part as they are committed.

    What is random is found by making all of it twice: a value that differs is replaced.
    """
    first = texts(part, evidence)
    if part != "simulated":
        return first
    second = texts(part, evidence)
    return {
        name: settled(text, tokens(text) & tokens(second[name])) for name, text in first.items()
    }


def committed(part: str) -> dict[str, str]:
    """The files of a part by name."""
    return {
        path.name: path.read_bytes().decode("utf-8")
        for path in sorted((FOLDER / part).glob("*.txt"))
    }


def compared(part: str, evidence: Path) -> dict[str, tuple[str, str]]:
    """Committed and new text by name; they are equal where nothing has changed.

    A value of the new text that the committed one does not hold is taken as random, and gets a
    placeholder as there. A changed value that is not random so differs as well.
    """
    old, new = committed(part), texts(part, evidence)
    if part == "simulated":
        new = {name: settled(text, tokens(old.get(name, ""))) for name, text in new.items()}
    return {name: (old.get(name, ""), new.get(name, "")) for name in sorted(old | new)}
