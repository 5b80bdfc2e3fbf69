"""The thefts. Each is run twice: against an unprotected control, and against Regalia."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import RegaliaError
from regalia_demo.attacks import machine, path, release, storage
from regalia_demo.outcome import FAILED, Outcome, Side

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_demo.attacker import Attacker


@dataclass(frozen=True, slots=True)
class Attack:
    """One theft, and how it is tried on both sides."""

    id: str
    title: str
    control: Callable[[Attacker], Side]
    regalia: Callable[[Attacker], Side]

    def run(self, number: int, attacker: Attacker) -> Outcome:
        """Try both sides."""
        began = time.monotonic()
        control, regalia = _side(self.control, attacker), _side(self.regalia, attacker)
        return Outcome(
            number=number,
            id=self.id,
            attack=self.title,
            control=control.result,
            control_detail=control.detail,
            regalia=regalia.result,
            regalia_detail=regalia.detail,
            code=regalia.code,
            seconds=round(time.monotonic() - began, 1),
        )


def _side(attempt: Callable[[Attacker], Side], attacker: Attacker) -> Side:
    """An attempt that breaks off shows nothing, and its row must say so."""
    try:
        return attempt(attacker)
    except RegaliaError as error:
        return Side(FAILED, f"the attempt broke off: {error}")


ATTACKS = (
    Attack(
        "read-disks",
        "read the store and everything the services wrote",
        storage.read_disks_plain,
        storage.read_disks,
    ),
    Attack(
        "tamper-chunks",
        "flip, swap and truncate chunks of the model",
        storage.tamper_plain,
        storage.tamper,
    ),
    Attack(
        "other-measurement",
        "run a changed runtime that would leak",
        release.changed_runtime_naive,
        release.changed_runtime,
    ),
    Attack(
        "debug-tee", "ask for the key from a debug-mode TEE", release.debug_naive, release.debug
    ),
    Attack("replay", "replay genuine evidence of yesterday", release.replay_naive, release.replay),
    Attack(
        "other-key",
        "put another key beside genuine fresh evidence",
        release.other_key_naive,
        release.other_key,
    ),
    Attack("old-version", "serve an old model version", storage.old_plain, storage.old_version),
    Attack("core-dump", "dump the runtime's core", machine.core_plain, machine.core),
    Attack("relay-reads", "read prompts on a relay in the path", path.reads_plain, path.reads),
    Attack("relay-cuts", "cut an answer short on that relay", path.cuts_plain, path.cuts),
    Attack(
        "unwritable-log",
        "take a key while the log cannot be written",
        release.silent_log_naive,
        release.silent_log,
    ),
    Attack(
        "self-made-root",
        "show evidence under a root of one's own",
        release.own_root_naive,
        release.own_root,
    ),
    Attack("host-memory", "read the TEE's memory as root", machine.memory_plain, machine.memory),
)
