"""Thefts in the path between client and runtime: a relay that reads and cuts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia_demo.chat import ask_once, stream_once
from regalia_demo.clients import plain_client, sealed_client
from regalia_demo.outcome import refused_with, stolen_if
from regalia_demo.relay import relay_to

if TYPE_CHECKING:
    from regalia_demo.attacker import Attacker
    from regalia_demo.outcome import Side

SECRET = "The merger with Vandelay Industries is on Tuesday. Say OK."  # noqa: S105 - a prompt
LONG_ANSWER = "Tell me three things about the sea."
_KEEP = 6  # pieces of the streamed answer that the relay lets through


def reads_plain(attacker: Attacker) -> Side:
    """Plain HTTP behind a reseller's TLS endpoint: the reseller reads."""
    with relay_to(attacker.plain.url, keep_chunks=None) as relay:
        ask_once(plain_client(relay.url), SECRET)
    return stolen_if(SECRET.encode() in relay.seen, "the relay read the prompt word by word")


def reads(attacker: Attacker) -> Side:
    """The same relay in front of the runtime."""
    with relay_to(attacker.deployment.running["runtime"].url, keep_chunks=None) as relay:
        answer = ask_once(sealed_client(attacker.deployment, relay.url), SECRET)
    words = [w for w in ("merger", "Vandelay", "messages", answer[:24]) if w.encode() in relay.seen]
    detail = f"the answer came through, and the relay saw {len(relay.seen):,} bytes of ciphertext"
    return refused_with(None if words else "SEALED", f"it saw {words}" if words else detail)


def cuts_plain(attacker: Attacker) -> Side:
    """A stream that ends early looks like an answer."""
    with relay_to(attacker.plain.url, keep_chunks=_KEEP) as relay:
        text, error = stream_once(plain_client(relay.url), LONG_ANSWER)
    return stolen_if(error is None and bool(text), f"the client took {text!r} for the whole answer")


def cuts(attacker: Attacker) -> Side:
    """The last chunk of a sealed answer says that it is the last."""
    with relay_to(attacker.deployment.running["runtime"].url, keep_chunks=_KEEP) as relay:
        text, error = stream_once(sealed_client(attacker.deployment, relay.url), LONG_ANSWER)
    return refused_with(error, f"after {text!r} the client raised {error}")
