"""What evidence must be bound to, as every command takes it: ``--challenge``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, UsageError
from regalia.verifier.registry import plugin_for
from regalia.wire.evidence import CHALLENGE_SIZE, REPORT_DATA_SIZE

if TYPE_CHECKING:
    from regalia.appraise.recorded import Expected
    from regalia.inspect.recognized import Recognized
    from regalia.wire.evidence import DeviceKind, Tee

ANY = "any"


def read_challenge(text: str) -> bytes | None:
    """Bytes, or None for the word any. Raises UsageError."""
    return None if text == ANY else read_hex(text, "hex digits or any")


def read_hex(text: str, wanted: str) -> bytes:
    """The bytes of a challenge.

    Args:
        text: of the command line.
        wanted: what the option takes, for the message.

    Raises:
        UsageError: BAD_USAGE.
    """
    try:
        return bytes.fromhex(text)
    except ValueError as exc:
        raise UsageError(CoreCode.BAD_USAGE, f"--challenge: want {wanted}") from exc


def expected_of(found: Recognized, challenge: bytes | None) -> Expected:
    """What a file of evidence must be bound to.

    A runtime's answer says which keys it binds beside the challenge; a runtime's envelope carries
    its report data in the form that its TEE has room for; any other evidence carries all of it.

    Args:
        found: the evidence, recognized and untrusted.
        challenge: as it was given; None accepts a replay.

    Raises:
        UsageError: BAD_USAGE, such evidence never carries so many bytes.
    """
    if challenge is None:
        return None
    if found.serving is not None:
        if len(challenge) != CHALLENGE_SIZE:
            raise _wrong_size(challenge, f"a runtime is asked with {CHALLENGE_SIZE}")
        return found.serving.binding(challenge)
    evidence = found.evidence
    if evidence is not None and evidence.runtime_config and len(challenge) == REPORT_DATA_SIZE:
        return plugin_for(evidence.tee).expected(challenge)
    kinds: set[Tee | DeviceKind] = {device.kind for device in found.devices}
    if evidence is not None:
        kinds = {evidence.tee}
    for kind in kinds:
        require_size(challenge, kind)
    return challenge


def require_size(challenge: bytes, kind: Tee | DeviceKind) -> None:
    """Refuse a challenge that evidence of this kind never carries. Raises UsageError BAD_USAGE.

    Args:
        challenge: of the command line.
        kind: of the evidence.
    """
    sizes = plugin_for(kind).nonce.sizes
    if len(challenge) in sizes:
        return
    first, last = sizes.start, sizes.stop - 1
    want = f"{first}" if first == last else f"{first} to {last}"
    raise _wrong_size(challenge, f"evidence of {kind} carries {want}")


def _wrong_size(challenge: bytes, why: str) -> UsageError:
    return UsageError(CoreCode.BAD_USAGE, f"--challenge has {len(challenge)} bytes; {why}")
