"""Records the signature checks that one verification makes, and replays exactly these.

The baseline of ``attest_cost`` is not guessed: one verification runs while the ``verify`` method of
every key type is replaced by a recorder, and the recorded calls are what is replayed.
"""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from attest_cases import Case

# Written in Rust, so their methods cannot be replaced in the ordinary way; see `recorded`.
KEY_TYPES = (
    openssl.ec.ECPublicKey,
    openssl.rsa.RSAPublicKey,
    openssl.ed25519.Ed25519PublicKey,
)
SPEED_CHECKS = 200


@dataclass(frozen=True)
class Call:
    """One signature check: the type's own method and its arguments, the key first."""

    verify: Callable[..., None]
    arguments: tuple[Any, ...]

    def again(self) -> None:
        """Replay it."""
        self.verify(*self.arguments)

    def with_new_key(self) -> Call:
        """The same call with a key that was loaded and never used."""
        key, *rest = self.arguments
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return Call(self.verify, (load_der_public_key(spki), *rest))


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """Every signature that is verified in this process meanwhile."""
    calls: list[Call] = []

    def recorder(original: Callable[..., None]) -> Callable[..., None]:
        def verify(*arguments: object) -> None:
            original(*arguments)
            calls.append(Call(original, arguments))

        return verify

    before = {}
    for kind in KEY_TYPES:
        (members,) = gc.get_referents(kind.__dict__)  # the dictionary behind the read-only view
        before[kind] = (members, members["verify"])
        members["verify"] = recorder(members["verify"])
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))
    try:
        yield calls
    finally:
        for kind, (members, original) in before.items():
            members["verify"] = original
            ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


def baseline(case: Case) -> Callable[[], list[Call]]:
    """Gives the calls to replay, each with its key in the state that the verifier has it in.

    A key that is another object in each verification came with the evidence and was just loaded:
    OpenSSL prepares it in its first use, in the baseline too.
    """
    before, calls = _record(case), _record(case)
    if not calls:
        raise SystemExit("no signature was verified")
    used = {id(call.arguments[0]) for call in before}
    return lambda: [
        call if id(call.arguments[0]) in used else call.with_new_key() for call in calls
    ]


def _record(case: Case) -> list[Call]:
    """The calls of one verification."""
    case.rest()
    with recorded() as calls:
        case.verify()
    return calls


def replay(calls: list[Call]) -> None:
    """Make all of the calls again."""
    for call in calls:
        call.again()


def p384_us() -> float:
    """Median CPU time of one ECDSA P-384 check, in us: tells how fast this machine is just now."""
    key, scheme = ec.generate_private_key(ec.SECP384R1()), ec.ECDSA(hashes.SHA384())
    public, signature = key.public_key(), key.sign(b"", scheme)
    times = []
    for _ in range(SPEED_CHECKS):
        start = time.thread_time()
        public.verify(signature, b"", scheme)
        times.append(time.thread_time() - start)
    return statistics.median(times) * 1e6
