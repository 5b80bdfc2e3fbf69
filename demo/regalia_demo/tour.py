"""The acts of the demo, in order."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.types import ModelId
from regalia_demo.attacker import set_up, start_unprotected
from regalia_demo.attacks import ATTACKS
from regalia_demo.chat import converse
from regalia_demo.clients import sealed_client
from regalia_demo.control_plane import broker_starts, owner_pins_policy
from regalia_demo.deployment import (
    SERVED_NAME,
    have_model,
    make_folders,
    operator_configures_runtime,
    owner_makes_keys,
    owner_seals,
)
from regalia_demo.processes import free_address
from regalia_testing.tees.snp.simulator import SnpSimulator

if TYPE_CHECKING:
    from regalia.client.verify import VerifiedRuntime
    from regalia_demo.chat import Conversation
    from regalia_demo.deployment import Deployment
    from regalia_demo.outcome import Outcome
    from regalia_demo.processes import DemoService


LOOK_CLOSER = (
    "Look closer:",
    "- docs/tutorial.md does all of this by hand, step by step",
    "- regalia demo --dir demo-run keeps every file and log",
    "- docs/errors.md explains each code; where nobody had to refuse, the word in its place",
    "  (CIPHERTEXT_ONLY, NOT_IN_CORE, SEALED) says what the thief found",
    "- regalia demo --json prints the same for programs",
)


@dataclass(frozen=True, slots=True)
class TourResult:
    """What the demo found."""

    model_id: str
    conversation: Conversation
    outcomes: tuple[Outcome, ...]
    seconds: float
    before_thefts: float  # seconds until the chat was over

    @property
    def ok(self) -> bool:
        """Everything was as it should be."""
        return (
            self.conversation.sensible
            and len(self.outcomes) == len(ATTACKS)
            and all(outcome.as_expected for outcome in self.outcomes)
        )

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "ok": self.ok,
            "hardware": "simulated",
            "model_id": self.model_id,
            "answer": self.conversation.answers[0],
            "answers": list(self.conversation.answers),
            "streamed_events": self.conversation.streamed_events,
            "attacks": [outcome.as_dict() for outcome in self.outcomes],
            "seconds": round(self.seconds, 1),
            "seconds_before_thefts": round(self.before_thefts, 1),
        }


def run_tour(deployment: Deployment) -> TourResult:
    """Everything, end to end."""
    began = time.monotonic()
    screen = deployment.screen
    screen.banner()
    make_folders(deployment)
    screen.title("1. A real model")
    have_model(deployment)
    plain = start_unprotected(deployment, free_address(), deployment.model)
    deployment.services.enter_context(plain)
    model_id = prepare(deployment)
    screen.title("4. Start broker and runtime; the key is released to attested code only")
    broker_starts(deployment)
    runtime_starts(deployment)
    screen.title("5. Chat through the sealed path, with the stock openai client")
    conversation = chat(deployment)
    before_thefts = time.monotonic() - began
    screen.title("6. Thefts, each beside the same attack on an unprotected server")
    outcomes = thefts(deployment, plain)
    screen.table(outcomes)
    seconds = time.monotonic() - began
    result = TourResult(model_id, conversation, tuple(outcomes), seconds, before_thefts)
    closing(deployment, result)
    return result


def prepare(deployment: Deployment) -> str:
    """Keys, sealing, store, measured configuration, policy. Returns the model id."""
    screen = deployment.screen
    screen.title("2. The owner makes keys and seals the model")
    owner_makes_keys(deployment)
    sealed = owner_seals(deployment)
    model_id, owner_key = str(sealed["model_id"]), str(sealed["signer"])
    screen.fact("model id", model_id)
    address = deployment.store_address
    store = deployment.start("store", ["store", "serve", "store", "--listen", address], address)
    screen.title("3. The operator configures a runtime; the owner pins a policy to it")
    operator_configures_runtime(deployment, ModelId.parse(model_id), owner_key)
    store.wait_ready()
    owner_pins_policy(deployment)
    return model_id


def runtime_starts(deployment: Deployment) -> DemoService:
    """The attested runtime, as a process of its own."""
    serve = ["serve", "--config", "runtime/runtime.toml"]
    runtime = deployment.start("runtime", serve, deployment.runtime_address)
    with deployment.screen.working("the runtime attests, gets the key, and decrypts into memory"):
        runtime.wait_ready()
    deployment.screen.fact("runtime", f"serves at {runtime.url}, process {runtime.pid}")
    return runtime


def chat(deployment: Deployment) -> Conversation:
    """Verify first, then talk."""
    screen = deployment.screen

    def verified(runtime: VerifiedRuntime) -> None:
        screen.fact("client verified", f"hardware {runtime.claims.hardware.value}")
        screen.fact("", f"measurement {runtime.claims.measurement.hex()[:32]}…")

    client = sealed_client(deployment, f"http://{deployment.runtime_address}", verified)
    return converse(client, SERVED_NAME, screen)


def thefts(deployment: Deployment, plain: DemoService) -> list[Outcome]:
    """Every attack on both sides."""
    with deployment.screen.working("waiting for the unprotected server"):
        plain.wait_ready()
    attacker = set_up(deployment, SnpSimulator.open(deployment.root / "platform"), plain)
    outcomes = []
    for number, attack in enumerate(ATTACKS, 1):
        with deployment.screen.working(f"{number}. {attack.title}"):
            outcome = attack.run(number, attacker)
        deployment.screen.outcome(outcome)
        outcomes.append(outcome)
    return outcomes


def closing(deployment: Deployment, result: TourResult) -> None:
    """How it went, and how to look closer."""
    screen = deployment.screen
    verdict = (
        "Everything was as it should be" if result.ok else "NOT everything was as it should be"
    )
    screen.say(f"{verdict} ({result.seconds:.0f} s).")
    screen.banner()
    for line in LOOK_CLOSER:
        screen.say(line)
