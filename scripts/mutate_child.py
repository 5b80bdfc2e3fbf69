"""What ``mutate.py`` does in its forks: runs pytest over the unchanged or one changed module."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
import threading
import traceback
from collections import defaultdict
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from importlib.machinery import ModuleSpec
    from pathlib import Path
    from types import CodeType, FrameType

# Names of files in which a fork says which test it began last, and which it did not find.
BEGAN = "began"
MISSING = "missing"
MEMORY_MAX = 8 << 30  # bytes of one fork: an endless loop may gather things
PYTEST = "-q -p no:cacheprovider -p no:randomly -W ignore::pytest.PytestAssertRewriteWarning"


class Changed(SourceFileLoader):
    """Finds and loads one module from changed code, in place of its source."""

    def __init__(self, module: str, path: Path, code: CodeType) -> None:
        super().__init__(module, str(path))
        self._code = code

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the loader's interface
        """The changed code."""
        return self._code

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Of this module only."""
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None


@dataclass(eq=False)  # pytest keeps its plug-ins in sets
class Baseline:
    """What the tests do to the unchanged modules. A pytest plug-in, in the fork that finds out."""

    paths: frozenset[str]  # of the modules in question
    lines: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    setup: float = 0  # seconds of the longest, as of a fixture that many tests share
    failed: set[str] = field(default_factory=set)
    loaded: list[str] = field(default_factory=list)  # modules that are none of ours
    test: str = ""  # the one that runs now; empty while modules are imported

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Says which test runs."""
        self.test = item.nodeid
        result = yield
        self.test = ""
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps times and failures."""
        self.seconds[report.nodeid] += report.duration
        if report.when == "setup":
            self.setup = max(self.setup, report.duration)
        if report.failed:
            self.failed.add(report.nodeid)

    def trace(self, frame: FrameType, event: str, _arg: Any) -> Any:  # noqa: ANN401 - sys.settrace
        """Notes every line of the modules in question."""
        if frame.f_code.co_filename not in self.paths:
            return None
        if event == "line":
            self.lines[frame.f_code.co_filename, frame.f_lineno].add(self.test)
        return self.trace

    def tests_of(self, path: Path, lines: Iterable[int]) -> list[str]:
        """Those that run these lines, the quickest first; all if they run at import."""
        ran = {test for line in lines for test in self.lines.get((str(path), line), ())}
        return self._usable(set(self.seconds) if "" in ran else ran & self.seconds.keys())

    def others(self, tests: Iterable[str]) -> list[str]:
        """Every other test: a fixture or a cache may bring a change to it."""
        return self._usable(set(self.seconds).difference(tests))

    def _usable(self, tests: set[str]) -> list[str]:
        return sorted(tests - self.failed, key=lambda test: (self.seconds[test], test))


class Chosen:
    """Runs chosen tests in their order, each within its processor time. A pytest plug-in too."""

    def __init__(self, seconds: dict[str, float], work: Path, spare: float) -> None:
        self._seconds = seconds
        self._work = work
        self._spare = spare  # seconds for fixtures, which another test may have paid for before
        self._order = {test: at for at, test in enumerate(seconds)}
        self.files = list(dict.fromkeys(test.partition("::")[0] for test in seconds))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keeps what was chosen."""
        kept = [item for item in items if item.nodeid in self._order]
        missing = self._order.keys() - {item.nodeid for item in kept}
        (self._work / MISSING).write_text("\n".join(sorted(missing)))
        items[:] = sorted(kept, key=lambda item: self._order[item.nodeid])

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """From here on the kernel ends a process that takes much longer than it did before."""
        (self._work / BEGAN).write_text(item.nodeid)
        signal.setitimer(signal.ITIMER_VIRTUAL, self._spare + 5 * self._seconds[item.nodeid])


def fork(work: Path, run: Callable[[], int]) -> int:
    """Run this in a child, which ends with its result; returns the child's process id."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        os.setsid()  # so that processes of its own can be ended with it
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MAX, MEMORY_MAX))
        work.mkdir()
        output = os.open(work / "output", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        status = run()
    except BaseException:  # noqa: BLE001 - it must not unwind into its parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run_baseline(root: Path, work: Path, tests: Iterable[str], baseline: Baseline) -> int:
    """Run all tests, and leave what was learned in a file."""
    threading.settrace(baseline.trace)
    sys.settrace(baseline.trace)
    status = _pytest(root, work, tests, baseline)
    sys.settrace(None)
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    baseline.loaded = [name for name, file in files.items() if file and _is_foreign(file, root)]
    (work / "baseline").write_bytes(pickle.dumps(vars(baseline)))
    return status


def run_chosen(root: Path, work: Path, chosen: Chosen, changed: Changed | None) -> int:
    """Run these tests until one fails."""
    if changed is not None:
        sys.meta_path.insert(0, changed)
    return _pytest(root, work, ["-x", *chosen.files], chosen)


def _pytest(root: Path, work: Path, args: Iterable[str], plugin: object) -> int:
    options = [f"--rootdir={root}", f"--basetemp={work / 'files'}", "-m", "not slow"]
    return int(pytest.main([*PYTEST.split(), *options, *args], plugins=[plugin]))


def _is_foreign(file: str, root: Path) -> bool:
    return "site-packages" in file or not file.startswith(f"{root}/")
