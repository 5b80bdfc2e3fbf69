"""``regalia demo --engine NAME``: the whole path with one engine, and where its weights are."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from regalia.host.localfs import read_file
from regalia.seal.format.sealed import MANIFEST_NAME
from regalia.seal.manifest import ANY_SIGNER, verify_manifest
from regalia_demo.attacker import owner_recovers_key
from regalia_demo.clients import sealed_client
from regalia_demo.control_plane import broker_starts
from regalia_demo.deployment import SERVED_NAME, have_model, make_folders
from regalia_demo.plain_engines import plain_answers
from regalia_demo.tour import prepare, runtime_starts
from regalia_demo.traces import Search, can_read_memory, descendants, everywhere, left_in_memory
from regalia_testing.needles import Needles

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai import OpenAI

    from regalia_demo.deployment import Deployment
    from regalia_demo.processes import DemoService
    from regalia_demo.traces import Place

CLIENTS = 8
_MANIFEST_MAX = 24 << 20  # bytes
LEASE_S = 20
GONE_S = 30  # seconds within which everything must be gone
ANSWER_TOKENS = 24
QUESTIONS = (
    "What is the capital of France?",
    "What is the capital of Italy?",
    "Name a color.",
    "How many days has a week?",
    "What do bees make?",
    "Which animal says meow?",
    "What is ice made of?",
    "Name a planet.",
)


@dataclass
class Moment:
    """What was found at one moment."""

    name: str
    places: list[Place]
    left: list[str] = field(default_factory=list)  # processes and shared memory that remain

    @property
    def as_expected(self) -> bool:
        """Nothing is where it must not be, and nothing remains that must not."""
        return not self.left and all(place.as_expected for place in self.places)


@dataclass(frozen=True, slots=True)
class EngineResult:
    """What the tour found."""

    engine: str
    equal: int  # answers that are equal, token for token, to those of the plain engine
    at_once: int  # clients that had an answer
    moments: tuple[Moment, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Everything was as it should be."""
        answered = self.equal == len(QUESTIONS) and self.at_once == CLIENTS
        return answered and all(moment.as_expected for moment in self.moments)

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "ok": self.ok,
            "hardware": "simulated",
            "engine": self.engine,
            "memory_searched": can_read_memory(),
            "equal_answers": self.equal,
            "clients_at_once": self.at_once,
            "moments": [
                {
                    "name": moment.name,
                    "as_expected": moment.as_expected,
                    "left": moment.left,
                    "places": [
                        {"where": p.name, "weights": p.weights, "key": p.key} for p in moment.places
                    ],
                }
                for moment in self.moments
            ],
            "seconds": round(self.seconds, 1),
        }


def run_engine_tour(deployment: Deployment) -> EngineResult:
    """The whole path, and three ends."""
    began = time.monotonic()
    screen = deployment.screen
    screen.banner()
    make_folders(deployment)
    screen.title(f"1. A real model, and what {deployment.engine} answers without protection")
    have_model(deployment)
    with screen.working("the plain engine starts and answers"):
        plain = plain_answers(deployment, QUESTIONS, ANSWER_TOKENS)
    prepare(deployment)
    search = what_to_look_for(deployment)
    screen.title("4. Start broker and runtime; the key is released to attested code only")
    broker_starts(deployment)
    runtime = runtime_starts(deployment)
    screen.title("5. Sealed chats, one after the other and eight at once")
    equal, at_once = chats(deployment, plain)
    screen.title("6. Where weights and key are, and what is left at the end")
    moments = [look(deployment, search, "while it serves", runtime)]
    moments.append(end(deployment, search, runtime, "after SIGTERM", by(signal.SIGTERM)))
    runtime = runtime_starts(deployment)
    moments.append(end(deployment, search, runtime, "after SIGKILL", by(signal.SIGKILL)))
    runtime = runtime_starts(deployment)
    broker = deployment.running["broker"]
    moments.append(end(deployment, search, runtime, "after a lost lease", lambda _: broker.stop()))
    result = EngineResult(
        deployment.engine, equal, at_once, tuple(moments), time.monotonic() - began
    )
    show(deployment, result)
    return result


def what_to_look_for(deployment: Deployment) -> Search:
    """Pieces of the weights, and the key, which the owner can recover."""
    data = read_file(deployment.root / "store" / MANIFEST_NAME, limit=_MANIFEST_MAX)
    manifest = verify_manifest(data, signers=ANY_SIGNER, minimum_version=1)
    with owner_recovers_key(deployment, manifest) as key:
        return Search(deployment.needles, Needles((bytes(key.view()),)))


def chats(deployment: Deployment, plain: list[str]) -> tuple[int, int]:
    """Ask one after the other, then all at once.

    Returns:
        Number of answers that equal those of the plain engine, and of clients that had one.
    """
    client = sealed_client(deployment, f"http://{deployment.runtime_address}")
    answers = [ask(client, question) for question in QUESTIONS]
    equal = sum(one == other for one, other in zip(answers, plain, strict=True))
    deployment.screen.turn("you  ", QUESTIONS[0])
    deployment.screen.turn("model", answers[0].strip())
    deployment.screen.fact("equal to plain", f"{equal} of {len(QUESTIONS)}, token for token")
    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [
            sealed_client(deployment, f"http://{deployment.runtime_address}")
            for _ in range(CLIENTS)
        ]
        at_once = list(pool.map(ask, clients, QUESTIONS))
    took = time.monotonic() - began
    answered = sum(bool(answer) for answer in at_once)
    deployment.screen.fact("at once", f"{answered} clients answered in {took:.1f} s")
    return equal, answered


def ask(client: OpenAI, question: str) -> str:
    """A greedy answer."""
    done = client.chat.completions.create(
        model=SERVED_NAME,
        messages=[{"role": "user", "content": question}],
        max_tokens=ANSWER_TOKENS,
        temperature=0,
    )
    return done.choices[0].message.content or ""


def look(deployment: Deployment, search: Search, name: str, runtime: DemoService | None) -> Moment:
    """Search everything at one moment."""
    with deployment.screen.working(f"looking for weights and key {name}"):
        return Moment(name, everywhere(deployment, search, runtime.pid if runtime else None))


def by(number: signal.Signals) -> Callable[[DemoService], None]:
    """A way to end a runtime."""
    return lambda runtime: runtime.process.send_signal(number)


def end(
    deployment: Deployment,
    search: Search,
    runtime: DemoService,
    name: str,
    how: Callable[[DemoService], None],
) -> Moment:
    """End the runtime, and look for what is left."""
    processes = descendants(runtime.pid)
    how(runtime)
    runtime.process.wait(LEASE_S + GONE_S)
    deadline = time.monotonic() + GONE_S
    while (alive := [pid for pid in processes if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    moment = look(deployment, search, name, None)
    moment.left = [f"process {pid} {processes[pid]}" for pid in alive]
    if name != "after SIGKILL":  # a killed process removes nothing; the next one does
        moment.left += left_in_memory(runtime.pid)
    return moment


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def show(deployment: Deployment, result: EngineResult) -> None:
    """The table, and the verdict."""
    table = Table("moment", "where", "weights", "key", "")
    for moment in result.moments:
        for number, place in enumerate(moment.places):
            mark = "[green]ok" if place.as_expected else "[bold red]NOT AS IT SHOULD BE"
            held = f"{place.weights} of {len(deployment.needles.pieces)}"
            table.add_row(
                moment.name if number == 0 else "",
                place.name,
                held,
                "yes" if place.key else "no",
                mark,
            )
        for what in moment.left:
            table.add_row("", what, "", "", "[bold red]LEFT BEHIND")
    deployment.screen.print(table)
    if not can_read_memory():
        deployment.screen.say("Memory of processes was not searched: that needs root.")
    verdict = "Everything was as it should be" if result.ok else "NOT everything was"
    deployment.screen.say(f"{verdict} ({result.seconds:.0f} s).")
    deployment.screen.banner()
