"""What a verifier of TPMs trusts, and the collateral it was given. All of it is an argument."""

from __future__ import annotations

import contextlib
from dataclasses import InitVar, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Self, TypeVar

from regalia.appraisal.claims import Hardware
from regalia.core.errors import CoreCode, ParseError, RegaliaError
from regalia.tees.tpm.evidence.ek import read_enrolled_ek
from regalia.tees.tpm.evidence.enrolment import parse_enrolment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.appraisal.pki import Certificate
    from regalia.tees.tpm.evidence.ek import EkChain
    from regalia.tees.tpm.evidence.enrolment import Enrolment
    from regalia.tees.tpm.evidence.keys import AttestationPublicKey

T = TypeVar("T")

ENTRIES_MAX = 1024


# Keeps anchors from being assembled by hand; no wall against code in the same process.
_MINT = object()


@dataclass(frozen=True, slots=True)
class KnownChain:
    """An enrolment's EK chain that led to one of ``roots``, whenever that was."""

    chain: EkChain
    path: tuple[Certificate, ...]
    roots: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """Results of pure functions for machines that ask again and again. It holds no trust.

    Only what a bound AK's quote led to is kept, and a table that is full is emptied.

    Attributes:
        chains: EK certificates of enrolments, by AK name.
        keys: attestation keys with their names and attributes, by TPMT_PUBLIC.
    """

    chains: dict[bytes, KnownChain] = field(default_factory=dict)
    keys: dict[bytes, tuple[AttestationPublicKey, bytes, int]] = field(default_factory=dict)

    @staticmethod
    def keep(table: dict[bytes, T], key: bytes, value: T) -> T:
        """Remember a result, and return it.

        Args:
            table: one of this memory's; a full one is emptied.
            key: where to look for the result.
            value: the result, which held.
        """
        if len(table) >= ENTRIES_MAX:
            table.clear()
        table[key] = value
        return value


@dataclass(frozen=True, slots=True)
class TpmCollateral:
    """What the verifier's operator provides and has signed.

    Attributes:
        ek_roots: DER; authorities trusted to say that a key is a TPM's endorsement key.
        ak_roots: DER; authorities trusted to say that a key is a TPM's attestation key. An EK
            root is none of them: it never saw the AK.
        intermediates: DER; authorities between those roots and the certificates of TPMs.
        crls: DER; revocation lists of all these authorities.
        enrolments: documents of ``tees.tpm.evidence.enrolment``.
    """

    ek_roots: tuple[bytes, ...] = ()
    ak_roots: tuple[bytes, ...] = ()
    intermediates: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    enrolments: tuple[bytes, ...] = ()

    def prepare(self) -> PreparedCollateral:
        """Parse the enrolments and the EK certificates in them, once for many appraisals.

        An enrolment whose certificates are not right harms nobody else's: evidence under it is
        refused when it comes, with the reason.

        Raises:
            ParseError: an enrolment is malformed, or one AK is enrolled twice.
        """
        enrolments: dict[bytes, Enrolment] = {}
        eks: dict[bytes, EkChain] = {}
        for document in self.enrolments:
            enrolment = parse_enrolment(document)
            if enrolment.ak_name in enrolments:
                raise ParseError(
                    CoreCode.MALFORMED, f"AK {enrolment.ak_name.hex()} is enrolled twice"
                )
            enrolments[enrolment.ak_name] = enrolment
            with contextlib.suppress(RegaliaError):
                eks[enrolment.ak_name] = read_enrolled_ek(enrolment)
        return PreparedCollateral(
            self, MappingProxyType(enrolments), MappingProxyType(eks), Memory()
        )


@dataclass(frozen=True, slots=True)
class PreparedCollateral:
    """Collateral with its enrolments by AK name. Made by ``TpmCollateral.prepare``.

    Attributes:
        eks: of those enrolments whose certificates are right, by AK name; nobody vouches for
            them yet.
        memory: what does not depend on time and roots, once it held.
    """

    collateral: TpmCollateral
    enrolments: Mapping[bytes, Enrolment]
    eks: Mapping[bytes, EkChain]
    memory: Memory


@dataclass(frozen=True, slots=True)
class TpmAnchors:
    """Where trusted roots come from.

    No root is pinned in code: TPM vendors have hundreds, so the operator names those of the TPMs
    that they bought.
    """

    hardware: Hardware
    only_root: bytes  # DER; empty in production
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("use TpmAnchors.production()")

    @classmethod
    def production(cls) -> Self:
        """The operator's roots. A software TPM is simulated all the same."""
        return cls.pinned(Hardware.GENUINE, b"")

    @classmethod
    def pinned(cls, hardware: Hardware, root_der: bytes) -> Self:
        """One root, for EKs and AKs. Only regalia_testing calls this with ``Hardware.SIMULATED``.

        Args:
            hardware: what claims say of evidence under this root.
            root_der: its certificate; empty trusts the roots in the operator's collateral.
        """
        return cls(hardware, root_der, _MINT)

    def ek_roots(self, collateral: TpmCollateral) -> tuple[bytes, ...]:
        """Trusted for EKs."""
        return (self.only_root,) if self.only_root else collateral.ek_roots

    def ak_roots(self, collateral: TpmCollateral) -> tuple[bytes, ...]:
        """Trusted for AKs."""
        return (self.only_root,) if self.only_root else collateral.ak_roots
