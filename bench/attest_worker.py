"""One checkout's side of ``attest_cost --against``: python -P attest_worker.py CHECKOUT.

It imports the checkout's own ``bench/attest_cases.py`` and ``src``, and of the cases it needs no
more than ``CASES``, ``verify`` and ``rest``, so a checkout that knows nothing of comparisons can be
compared. It speaks lines of JSON, one answer for each request:

    (at the start)        {"cases": [NAME, ...]}
    {"make": NAME}        {"made": BOOL}          False: its real evidence is absent
    {"count": NUMBER}     {"us": [TIME, ...]}     CPU time of that many verifications, each
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

WARM_UP = 20


def source_roots(checkout: Path) -> Iterator[str]:
    """The folders of a checkout that modules are imported from, if they are there."""
    for name in ("bench", "src", "testing", "demo"):
        if (checkout / name).is_dir():
            yield str(checkout / name)


def require_own_code(checkout: Path) -> None:
    """Refuse to measure an installed package, or another checkout, in place of this one."""
    for name, module in sys.modules.items():
        if name == "attest_cases" or name.partition(".")[0].startswith("regalia"):
            file = getattr(module, "__file__", None)
            if file is None or not Path(file).resolve().is_relative_to(checkout):
                raise SystemExit(f"{name} was imported from {file}, want {checkout}")


def run(case: Any, count: int) -> list[float]:  # noqa: ANN401 - of another checkout, so of no type here
    """CPU microseconds of each of ``count`` verifications."""
    times = []
    gc.disable()
    try:
        for _ in range(count):
            case.rest()
            start = time.thread_time()
            case.verify()
            times.append((time.thread_time() - start) * 1e6)
    finally:
        gc.enable()
    return times


def main() -> None:
    checkout = Path(sys.argv[1]).resolve()
    sys.path[:0] = source_roots(checkout)
    answers, sys.stdout = sys.stdout, sys.stderr  # what a case prints is no answer
    cases = importlib.import_module("attest_cases").CASES
    require_own_code(checkout)
    print(json.dumps({"cases": list(cases)}), file=answers, flush=True)
    case = None
    with tempfile.TemporaryDirectory(prefix="regalia-bench-") as folder:
        for number, line in enumerate(sys.stdin):
            request: dict[str, Any] = json.loads(line)
            answer: dict[str, object]
            if "make" in request:
                case = cases[request["make"]](Path(folder) / str(number))
                answer = {"made": case is not None}
                require_own_code(checkout)
                if case is not None:
                    run(case, WARM_UP)
            else:
                answer = {"us": run(case, request["count"])}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
