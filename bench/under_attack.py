"""An honest runtime while others attack: python bench/under_attack.py [--json] [--only ATTACK].

For each attack a fresh broker process (SQLite on a real disk, a simulated platform, the development
key store), one process that attacks from eight addresses, and an honest runtime that asks for its
key again and again, each time from an address that the broker does not know. Its time is that of
both requests, tries that were refused included; making the evidence is not in it. The first row is
the same without an attack. Status 1 if the slowest key or the peak of memory is over the goal.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attackers import ATTACKS
from harness import show_table

if TYPE_CHECKING:
    from collections.abc import Iterator

GOAL_S = 1.0  # for a key
GOAL_MIB = 384  # peak memory of the broker: what docs/reference/configuration-broker.md says
BASELINE = "no attack"
WARM_UP_S = 2.0
GIVE_UP_S = 30.0
BETWEEN_S = 0.1
TIMEOUT_S = 10.0


class Honest:
    """Asks for a key, as a runtime does, until it gets one."""

    def __init__(self, deployment: Any, address: str) -> None:  # noqa: ANN401 - the tests' world
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))
        self._deployment = deployment
        self._asked = 0

    def key(self) -> float:
        """Seconds until the key was there."""
        self._asked += 1
        source, spent = f"127.0.1.{self._asked % 250 + 1}", 0.0
        while spent < GIVE_UP_S:
            start = time.perf_counter()
            connection = http.client.HTTPConnection(
                *self._target, timeout=TIMEOUT_S, source_address=(source, 0)
            )
            try:
                status, paused = self._exchange(connection)
            except (OSError, http.client.HTTPException):
                status, paused = 0, 0.0
            finally:
                connection.close()
            spent += time.perf_counter() - start - paused
            if status == http.client.OK:
                return spent
            time.sleep(0.02)
            spent += 0.02
        return spent

    def _exchange(self, connection: http.client.HTTPConnection) -> tuple[int, float]:
        """Status of the last answer, and seconds that went into the evidence."""
        message: object = {"model_id": str(self._deployment.model_id)}
        answer, data = self._post(connection, "/v1/challenge", message)
        if answer != http.client.OK:
            return answer, 0.0
        start = time.perf_counter()
        message = self._deployment.request(self._deployment.parse_challenge(data))
        paused = time.perf_counter() - start
        answer, _ = self._post(connection, "/v1/release", message)
        return answer, paused

    def _post(
        self, connection: http.client.HTTPConnection, path: str, message: object
    ) -> tuple[int, bytes]:
        connection.request("POST", path, json.dumps(message, sort_keys=True, separators=(",", ":")))
        answer = connection.getresponse()
        return answer.status, answer.read()


@contextmanager
def process(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:  # noqa: ANN401
    """A child that is stopped at the end."""
    child = subprocess.Popen(
        [sys.executable, *command], stderr=subprocess.DEVNULL, text=True, **options
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def peak_mib(pid: int) -> int:
    """The most memory that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    raise KeyError("VmHWM")


def measure(deployment: Any, attack: str, folder: Path, keys: int) -> dict[str, Any]:  # noqa: ANN401
    """One row: an honest runtime beside one attack."""
    config = deployment.write_config(folder / attack.replace(" ", "_"))
    serve = ("-m", "regalia", "broker", "serve", "--config", str(config), "--json")
    with process(*serve, stdout=subprocess.PIPE) as broker:
        line = "" if broker.stdout is None else broker.stdout.readline()
        address = json.loads(line)["serving"]["listen"]
        honest = Honest(deployment, address)
        honest.key()  # what is loaded once is loaded now
        if attack == BASELINE:
            seconds = ask(honest, keys)
        else:
            script = str(Path(__file__).with_name("attackers.py"))
            with process(script, attack, address, str(folder / "request.json")) as attacker:
                time.sleep(WARM_UP_S)
                seconds = ask(honest, keys)
                if attacker.poll() is not None:
                    raise SystemExit(f"{attack}: the attacker has ended, so this shows nothing")
        row = {"median_s": statistics.median(seconds), "worst_s": max(seconds)}
        return row | {"peak_mib": peak_mib(broker.pid), "log_entries": entries(config.parent)}


def ask(honest: Honest, keys: int) -> list[float]:
    """Ask for keys, one after the other."""
    seconds = []
    for _ in range(keys):
        seconds.append(honest.key())
        time.sleep(BETWEEN_S)
    return seconds


def entries(folder: Path) -> int:
    """Entries in a broker's log."""
    from regalia.tlog.database import open_existing  # noqa: PLC0415
    from regalia.tlog.log import LogReader  # noqa: PLC0415

    engine = open_existing(f"sqlite:///{folder}/log.db")
    try:
        return LogReader(engine).size()
    finally:
        engine.dispose()


def run(attacks: list[str], keys: int, folder: Path) -> dict[str, dict[str, Any]]:
    """All rows, by attack."""
    sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' world around one broker
    from tests.broker import harness  # noqa: PLC0415 - it is found only now

    deployment = harness.Deployment(folder, harness.Shared(folder), policy={"holders_max": 1000})
    sample = deployment.request(deployment.challenge())
    (folder / "request.json").write_text(json.dumps(sample))
    try:
        return {
            attack: measure(deployment, attack, folder, keys) for attack in (BASELINE, *attacks)
        }
    finally:
        deployment.close()


def show(rows: dict[str, dict[str, Any]]) -> None:
    """A table."""
    cells = [
        [
            attack.replace("_", " "),
            f"{row['median_s'] * 1000:.0f}",
            f"{row['worst_s'] * 1000:.0f}",
            str(row["peak_mib"]),
            str(row["log_entries"]),
        ]
        for attack, row in rows.items()
    ]
    headings = ("attack", "key, median ms", "key, slowest ms", "broker's peak MiB", "log entries")
    show_table("An honest runtime beside one attacker at eight addresses", headings, cells)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keys", type=int, default=20, help="that the honest runtime asks for")
    parser.add_argument("--only", choices=ATTACKS)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[1:])
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # /tmp may be in memory
        attacks = [options.only] if options.only else list(ATTACKS)
        rows = run(attacks, options.keys, Path(folder))
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        show(rows)
    slow = max(row["worst_s"] for row in rows.values()) > GOAL_S
    large = max(row["peak_mib"] for row in rows.values()) > GOAL_MIB
    return int(slow or large)


if __name__ == "__main__":
    sys.exit(main())
