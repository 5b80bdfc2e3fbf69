"""What the contract ``pure`` cannot see: a clock, a file, a descriptor, third-party packages.

``datetime`` and ``open`` are needed or at hand everywhere, so no contract about imports can keep
pure code from reading the time or a file with them. These tests read the sources instead.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "regalia"
# Packages that do I/O, in whole or in part; what is pure of them, the contract names.
DOES_IO = {"host", "seal", "keys", "tlog", "store", "engines", "broker", "client", "runtime", "cli"}
# Rooms of a TEE that do I/O.
ROOMS = {"source", "fetch"}

# What each could do that its user must keep it from: import-linter does not look inside.
THIRD_PARTY = {
    "cryptography",  # opens no socket; OpenSSL below it may read its own configuration
    "msgspec",  # parses and writes bytes
    "cbor2",  # decodes Nitro documents in memory, after every tag was refused
    "cel",  # evaluates expressions of a policy; it is handed no function that does I/O
    "lxml",  # libxml2 can load files and URLs: rim_xml/document.py switches that off
    "signxml",  # verifies what lxml parsed
    "sevsnpmeasure",  # opens the paths that it is handed: tees/snp/measure.py hands it memory
    "tpm2_pytss",  # opens the TPM: tees/tpm/device.py only, which is a device reader
}

CLOCKS = {"now", "utcnow", "today", "system_clock", "localtime", "gmtime"}
# Of os, what neither reads nor changes anything outside of the process.
OS_ALLOWED = {"urandom"}
# snp.measure hands the library memory as a file, because it takes nothing but paths.
OS_ALLOWED_IN = {"tees/snp/measure.py": {"memfd_create", "MFD_CLOEXEC", "fdopen", "close"}}


def contract() -> list[str]:
    read = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (pure,) = [each for each in read["tool"]["importlinter"]["contracts"] if each["id"] == "pure"]
    return [name.removeprefix("regalia.").removesuffix(".**") for name in pure["source_modules"]]


def sources() -> list[Path]:
    """Every module that the contract calls pure, device readers and fetchers among them."""
    found: set[Path] = set()
    for name in contract():
        place = SOURCE / name.replace(".", "/")
        found |= {place.with_suffix(".py")} if place.with_suffix(".py").exists() else set()
        found |= set(place.rglob("*.py"))
    return sorted(found)


def does_io(path: Path) -> bool:
    """Whether the file lies in one of the rooms of a TEE that do I/O."""
    return path.stem in ROOMS or path == SOURCE / "tees/tpm/device.py"


def nodes(text: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(text)))


def clock_readings(text: str) -> list[str]:
    """Expressions that read the wall clock, or hand on what does.

    ``context.now`` is a moment that was handed in; ``datetime.now`` and any call of ``now`` is
    the clock.
    """
    found: list[str] = []
    for node in nodes(text):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in CLOCKS:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            if ast.unparse(node.value).rpartition(".")[2] in ("datetime", "date", "clock"):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Name) and node.id == "system_clock":
            found.append(node.id)
        elif isinstance(node, ast.alias) and node.name.partition(".")[0] in ("time", "zoneinfo"):
            found.append(f"import {node.name}")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found.append("from time import")
    return found


def file_accesses(text: str, allowed: frozenset[str] = frozenset()) -> list[str]:
    """Calls of ``open``, paths that can be opened, and what ``os`` can do to the outside."""
    found: list[str] = []
    for node in nodes(text):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found += [node.func.id] if node.func.id in ("open", "input", "print") else []
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os":
            found += [f"os.{node.attr}"] if node.attr not in OS_ALLOWED | allowed else []
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "io", "pathlib"):
            pure = {"PurePath", "PurePosixPath"}
            found += [each.name for each in node.names if each.name not in pure]
        elif isinstance(node, ast.Import):
            bad = ("io", "pathlib", "mmap", "fcntl", "socket", "signal", "resource")
            found += [each.name for each in node.names if each.name.partition(".")[0] in bad]
    return found


def imported(text: str) -> set[str]:
    """Top-level packages that a source imports."""
    found: set[str] = set()
    for node in nodes(text):
        if isinstance(node, ast.Import):
            found |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_every_package_is_pure_or_known_to_do_io() -> None:
    """A new package is pure until somebody decides otherwise, here and in the contract."""
    packages = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert packages - set(contract()) == DOES_IO
    assert len(sources()) > 200


def test_pure_code_reads_no_clock() -> None:
    found = {path: clock_readings(path.read_text(encoding="utf-8")) for path in sources()}
    assert {path: seen for path, seen in found.items() if seen} == {}


def test_pure_code_opens_no_file() -> None:
    pure = [path for path in sources() if not does_io(path)]
    assert len(pure) > 100
    for path in pure:
        allowed = OS_ALLOWED_IN.get(str(path.relative_to(SOURCE)), set())
        text = path.read_text(encoding="utf-8")
        assert file_accesses(text, frozenset(allowed)) == [], path


@pytest.mark.parametrize(
    "planted",
    [
        "from datetime import datetime, UTC\nnow = datetime.now(UTC)",
        "import datetime as d\nd.datetime.utcnow()",
        "import datetime\ndatetime.date.today()",
        "from datetime import datetime as dt\ndt.now()",
        "def verify(clock=datetime.now): ...",
        "from regalia.host.clock import system_clock\nread = system_clock",
        "from regalia.host import clock\nclock.system_clock()",
        "import time\ntime.time()",
        "def later():\n    from time import time_ns",
        "import time as t",
    ],
)
def test_a_planted_clock_is_seen(planted: str) -> None:
    assert clock_readings(planted) != []


@pytest.mark.parametrize(
    "innocent",
    [
        "def verify(context): return context.now",
        "def verify(now): return now.timestamp()",
        "from datetime import datetime, timedelta",
        "'datetime.now is read by services only'",
    ],
)
def test_a_moment_that_is_handed_in_is_no_clock(innocent: str) -> None:
    assert clock_readings(innocent) == []


@pytest.mark.parametrize(
    "planted",
    [
        "def read(name): return open(name).read()",
        "from pathlib import Path",
        "import pathlib",
        "import os\nos.environ['REGALIA_TRUST']",
        "import os\nos.open('/dev/sev', 0)",
        "from os import environ",
        "import io",
        "import mmap",
        "print('secret')",
    ],
)
def test_a_planted_file_is_seen(planted: str) -> None:
    assert file_accesses(planted) != []


@pytest.mark.parametrize(
    "innocent",
    [
        "from pathlib import PurePath",
        "import os\nos.urandom(32)",
        "def decrypt(context, sealed): return context.open(sealed)",
    ],
)
def test_what_stays_in_the_process_is_no_file(innocent: str) -> None:
    assert file_accesses(innocent) == []


def test_third_party_packages_of_pure_code_are_known() -> None:
    found: dict[str, set[Path]] = {}
    for path in sources():
        for name in imported(path.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(path.relative_to(SOURCE))
    foreign = {name for name in found if name not in {*sys.stdlib_module_names, "regalia"}}
    assert foreign == THIRD_PARTY
    assert found["tpm2_pytss"] == {Path("tees/tpm/device.py")}


def test_the_exception_for_urllib_is_for_its_parser() -> None:
    """Contracts see ``urllib`` as one package, and ``urllib.request`` opens sockets."""
    text = (SOURCE / "tees/intel/fetch.py").read_text(encoding="utf-8")
    modules = [node.module for node in nodes(text) if isinstance(node, ast.ImportFrom)]
    assert [each for each in modules if each and each.startswith("urllib")] == ["urllib.parse"]
    plain = [
        each.name for node in nodes(text) if isinstance(node, ast.Import) for each in node.names
    ]
    assert not any(name.startswith("urllib") for name in plain)
