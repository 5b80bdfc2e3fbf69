"""What the verifier's operator provides beside the evidence: reference values, revocation."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regalia.appraisal.pki import Scheme, parse_crl
from regalia.appraisal.pki.crl import require_complete, require_signed_by
from regalia.core.errors import CoreCode, ParseError
from regalia.tees.nvidia.claims import RimFact
from regalia.tees.nvidia.evidence.key_denials import parse_key_denials
from regalia.tees.nvidia.evidence.rims import parse_rim

if TYPE_CHECKING:
    from regalia.appraisal.claims import Hardware
    from regalia.appraisal.pki import Certificate, Crl
    from regalia.tees.nvidia.evidence.key_denials import KeyDenials
    from regalia.tees.nvidia.evidence.models import Model
    from regalia.tees.nvidia.evidence.rims import Rim
    from regalia.tees.nvidia.evidence.spdm import Columns, SpdmParts
    from regalia.tees.nvidia.evidence.wire import Opaque

    Links = tuple[tuple[Crl, ...], ...]

CRL_SCHEMES = frozenset({Scheme.ECDSA_SHA384})
SIGNED_MAX = 256  # remembered CRL signatures
READINGS_MAX = 1024  # of about 4 KiB


@dataclass(frozen=True, slots=True)
class NvidiaCollateral:
    """Raw documents, as the operator's signed bundle carries them.

    Attributes:
        rims: ``regalia/rim/v1``.
        crls: DER, of any of NVIDIA's authorities.
        denials: ``regalia/key-denials/v1``.
    """

    rims: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    denials: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class PreparedRim:
    """One set of reference values, and what follows from it."""

    rim: Rim
    fact: RimFact
    indices: frozenset[int]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a device's report says, and which reference values it matches.

    That depends on the report's record and opaque data, the model and the reference values alone,
    and it stays while the device's firmware does. Whose report it is, and of when, is not in it.
    """

    record: bytes  # as received; the opaque data is where to look for it
    columns: Columns
    opaque: Opaque
    model: Model
    hardware: Hardware
    rims: tuple[RimFact, ...]  # matched
    missing: tuple[str, ...]  # identifiers of those that were not at hand


@dataclass(frozen=True, slots=True)
class PreparedNvidia:
    """The same, parsed once. Holds nothing that depends on time.

    Attributes:
        readings: of devices that were found genuine, by opaque data.
        links: for each authority of a path the lists that are its own, by the path's certificates;
            none of them names the certificate below.
    """

    rims: dict[tuple[Hardware, str], PreparedRim]
    crls: dict[bytes, tuple[Crl, ...]]  # by the issuer's name
    denials: tuple[KeyDenials, ...]
    denied: frozenset[bytes]  # SHA-256 of SubjectPublicKeyInfo
    readings: dict[bytes, Reading] = field(default_factory=dict)
    links: dict[tuple[bytes, ...], Links] = field(default_factory=dict)
    _signed: set[tuple[bytes, bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reading(self, parts: SpdmParts) -> Reading | None:
        """Of a report with this record and this opaque data."""
        found = self.readings.get(parts.opaque)
        return found if found is not None and found.record == parts.record else None

    def remember(self, parts: SpdmParts, reading: Reading) -> None:
        """For the next time. Of a report whose signature held; a full table is emptied.

        Args:
            parts: of a report whose signature held.
            reading: what that report says.
        """
        with self._lock:
            if len(self.readings) >= READINGS_MAX:
                self.readings.clear()
            self.readings[parts.opaque] = reading

    def remember_links(self, path: tuple[bytes, ...], links: Links) -> Links:
        """For the next time. Of a path from the pinned root; a full table is emptied.

        Args:
            path: DER, the leaf first.
            links: for each authority of the path the lists that are its own.
        """
        with self._lock:
            if len(self.links) >= READINGS_MAX:
                self.links.clear()
            self.links[path] = links
        return links

    def crls_of(self, issuer: Certificate) -> tuple[Crl, ...]:
        """The complete lists that this authority signed; each signature is verified once.

        Raises:
            AttestationError: CRL_MISSING or CRL_SIG_INVALID.
        """
        found = self.crls.get(issuer.subject, ())
        for crl in found:
            pair = (crl.der, issuer.spki)
            if pair not in self._signed:
                require_complete(crl)
                require_signed_by(crl, issuer, CRL_SCHEMES)
                with self._lock:
                    if len(self._signed) >= SIGNED_MAX:
                        self._signed.clear()
                    self._signed.add(pair)
        return found


def prepare(collateral: NvidiaCollateral) -> PreparedNvidia:
    """Parse everything; nothing is verified yet.

    Raises:
        ParseError: a document is malformed, or two documents have the same RIM's name.
    """
    rims: dict[tuple[Hardware, str], PreparedRim] = {}
    for document in collateral.rims:
        rim = parse_rim(document)
        fact = RimFact(rim.id, rim.version, rim.source)
        prepared = PreparedRim(rim, fact, frozenset(index for index, _ in rim.measurements))
        if rims.setdefault((rim.hardware, rim.id), prepared).rim != rim:
            raise ParseError(CoreCode.MALFORMED, f"two different RIMs are called {rim.id}")
    crls: dict[bytes, tuple[Crl, ...]] = {}
    for der in collateral.crls:
        crl = parse_crl(der)
        crls[crl.issuer] = (*crls.get(crl.issuer, ()), crl)
    denials = tuple(map(parse_key_denials, collateral.denials))
    denied = frozenset(key.raw for each in denials for key in each.keys)
    return PreparedNvidia(rims, crls, denials, denied)
