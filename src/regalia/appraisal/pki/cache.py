"""Remembers what does not depend on time: parsed certificates, and signatures that held.

A cache is an argument, never a global. It holds no trust: pins, validity, revocation and the
vendor's own rules are checked again each time. Bounded tables; when one is full it is emptied.
What came with evidence gets in only after an authority's signature on it held, so hostile
evidence can make the cache neither large nor useless.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from regalia.appraisal.pki.certificates import parse_certificate, require_issued_by
from regalia.appraisal.pki.crl import parse_crl, require_signed_by
from regalia.core.codec import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from regalia.appraisal.pki.certificates import Certificate
    from regalia.appraisal.pki.crl import Crl
    from regalia.appraisal.pki.schemes import Scheme

T = TypeVar("T")

ENTRIES_MAX = 1024
DERIVED_MAX = 32 * MIB  # bytes of certificates and the like, a few KiB for a machine
REPLAYS_MAX = 64 * MIB  # bytes of event logs, of which a machine's has some 20 to 100 KiB

_TAIL = 64  # bytes, of the 96 and more of a signature

Name = tuple[str, Hashable]


def tail(der: bytes) -> bytes:
    """A certificate ends with its signature, which tells it from all others: a short key."""
    return der[-_TAIL:]


class _Kept(NamedTuple):
    """A result, and all that it follows from."""

    proof: tuple[bytes, ...]
    held: tuple[bytes, ...]
    value: object

    @property
    def size(self) -> int:
        """Bytes that this keeps in memory; what is held, is there anyhow."""
        return sum(map(len, self.proof))


@dataclass(slots=True)
class _Table:
    """Results by name, bounded."""

    bytes_max: int
    known: dict[Name, _Kept] = field(default_factory=dict)
    size: int = 0

    def keep(self, name: Name, kept: _Kept) -> None:
        """Remember it; a full table is emptied first, and what is too large is left out."""
        if kept.size > self.bytes_max:
            return
        before = self.known.pop(name, None)
        if before is not None:
            self.size -= before.size
        if len(self.known) >= ENTRIES_MAX or self.size + kept.size > self.bytes_max:
            self.known.clear()
            self.size = 0
        self.known[name] = kept
        self.size += kept.size


@dataclass(frozen=True, slots=True)
class Cache:
    """Parsed certificates and lists by their exact bytes, and pairs whose signature held.

    A leaf may be remembered too, once its issuer's signature held: a machine attests again.
    """

    _parsed: dict[bytes, Certificate] = field(default_factory=dict)
    _lists: dict[bytes, Crl] = field(default_factory=dict)
    _signed: set[tuple[bytes, bytes, Scheme]] = field(default_factory=set)
    _derived: _Table = field(default_factory=lambda: _Table(DERIVED_MAX))
    _replays: _Table = field(default_factory=lambda: _Table(REPLAYS_MAX))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def certificate(self, der: bytes, *, what: str) -> Certificate:
        """``parse_certificate``, once for each byte string. Raises ParseError.

        For collateral: what its operator provided is theirs to bound.

        Args:
            der: untrusted.
            what: names the certificate in the error.
        """
        found = self._parsed.get(der)
        if found is None:
            found = parse_certificate(der, what=what)
            self._keep(found)
        return found

    def certificate_of_evidence(self, der: bytes, *, what: str) -> Certificate:
        """The same, but a new one is not remembered: whoever sent it may send a million others.

        ``require_issued_by`` remembers it once an authority's signature on it held.

        Args:
            der: raw, untrusted.
            what: names the certificate in the error.
        """
        return self._parsed.get(der) or parse_certificate(der, what=what)

    def require_issued_by(
        self, child: Certificate, issuer: Certificate, schemes: Collection[Scheme]
    ) -> None:
        """``require_issued_by``, with the signature verified once for each pair.

        Args:
            child: untrusted until this returns.
            issuer: whose key must have signed it.
            schemes: that the issuer may sign with.

        Raises:
            AttestationError: CHAIN_INVALID. A refusal is not remembered.
        """
        pair = (child.der, issuer.spki, child.scheme)
        if pair in self._signed and child.scheme in schemes and child.issuer == issuer.subject:
            return
        require_issued_by(child, issuer, schemes)
        self._held(pair)
        self._keep(child)

    def crl(self, der: bytes) -> Crl:
        """``parse_crl``, once for each byte string. For collateral. Raises ParseError."""
        found = self._lists.get(der)
        if found is None:
            found = parse_crl(der)
            with self._lock:
                if len(self._lists) >= ENTRIES_MAX:
                    self._lists.clear()
                self._lists[der] = found
        return found

    def require_signed_by(self, crl: Crl, issuer: Certificate, schemes: Collection[Scheme]) -> None:
        """``crl.require_signed_by``, with the signature verified once for each pair.

        Args:
            crl: untrusted until this returns.
            issuer: whose key must have signed it.
            schemes: that the issuer may sign with.

        Raises:
            AttestationError: CRL_SIG_INVALID. A refusal is not remembered.
        """
        pair = (crl.der, issuer.der, crl.scheme)
        if pair in self._signed and crl.scheme in schemes:
            return
        require_signed_by(crl, issuer, schemes)
        self._held(pair)

    def _keep(self, certificate: Certificate) -> None:
        with self._lock:
            if len(self._parsed) >= ENTRIES_MAX:
                self._parsed.clear()
            self._parsed[certificate.der] = certificate

    def _held(self, pair: tuple[bytes, bytes, Scheme]) -> None:
        with self._lock:
            if len(self._signed) >= ENTRIES_MAX:
                self._signed.clear()
            self._signed.add(pair)

    def derived(
        self,
        what: str,
        key: Hashable,
        proof: tuple[bytes, ...],
        make: Callable[[], T],
        *,
        held: tuple[bytes, ...] = (),
    ) -> T:
        """What follows from these bytes and from nothing else, made once.

        Args:
            what: names the derivation; the same name always goes with the same ``make``.
            key: something short that mostly tells one proof from another. It is where to look,
                and nothing follows from it: comparing a whole proof is faster than hashing it.
            proof: all of evidence that the result depends on; mostly certificates in DER.
            make: raises if they are not right. A refusal is not remembered.
            held: what else it depends on, of the operator's: it is in memory anyhow.
        """
        kept = self._derived.known.get((what, key))
        if kept is not None and kept.proof == proof and kept.held == held:
            return cast("T", kept.value)
        made = make()
        with self._lock:
            self._derived.keep((what, key), _Kept(proof, held, made))
        return made

    def replayed(
        self, what: str, registers: tuple[bytes, ...], log: bytes, make: Callable[[], T]
    ) -> T:
        """What follows from an event log and from signed registers, and from nothing else.

        A machine that renews its lease sends the log of the same boot again. Logs have a table of
        their own, bounded by its bytes: they are large, and the owner of a genuine machine can
        write many, since not every event is measured.

        Args:
            what: names the derivation; the same name always goes with the same ``make``.
            registers: everything that says which values the log must lead to.
            log: the event log.
            make: raises if the log does not lead there. A refusal is not remembered.
        """
        name = (what, (len(log), *registers))
        proof = (log, *registers)
        kept = self._replays.known.get(name)
        if kept is not None and kept.proof == proof:
            return cast("T", kept.value)
        made = make()
        with self._lock:
            self._replays.keep(name, _Kept(proof, (), made))
        return made
