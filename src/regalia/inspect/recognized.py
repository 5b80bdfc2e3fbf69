"""A file of evidence whose form was recognized. Raw and untrusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regalia.wire.evidence import DeviceEvidence, Evidence
    from regalia.wire.serving import ServingEvidence


@dataclass(frozen=True, slots=True)
class BareQuote:
    """A TPM quote beside a bare public key, which nothing binds to any TPM.

    Attributes:
        quoted: TPMS_ATTEST.
        signature: TPMT_SIGNATURE.
        ak_spki: SubjectPublicKeyInfo, DER.
    """

    quoted: bytes
    signature: bytes
    ak_spki: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognized:
    """One file of evidence.

    Attributes:
        form: what it was, for people, e.g. "SEV-SNP report, as hex".
        evidence: the CPU's or TPM's, or None if the file holds something else.
        devices: devices whose evidence stands by itself, with no CPU that commits to it.
        bare_quote: a quote that can be looked at, and never be accepted.
        serving: the runtime's whole answer, if that is what it was: it says which keys are bound.
    """

    form: str
    evidence: Evidence | None
    devices: tuple[DeviceEvidence, ...] = ()
    bare_quote: BareQuote | None = None
    serving: ServingEvidence | None = None

    @property
    def subject(self) -> str:
        """The kind of attester, for results."""
        if self.evidence is not None:
            return self.evidence.tee.value
        return self.devices[0].kind.value if self.devices else "tpm"
