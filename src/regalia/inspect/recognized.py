"""A file of evidence whose form was recognized. Raw and untrusted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from regalia.core.errors import ParseError
from regalia.inspect.codes import InspectCode

if TYPE_CHECKING:
    from regalia.wire.evidence import DeviceEvidence, Evidence
    from regalia.wire.serving import ServingEvidence


@dataclass(frozen=True, slots=True)
class BareQuote:
    """A TPM quote beside a bare public key, which nothing binds to any TPM.

    Attributes:
        quoted: TPMS_ATTEST.
        signature: TPMT_SIGNATURE.
        ak_spki: SubjectPublicKeyInfo, DER; empty if not even that came along.
    """

    quoted: bytes
    signature: bytes
    ak_spki: bytes


class Part(StrEnum):
    """Parts of evidence that people meet alone."""

    HCL_REPORT = "azure-hcl-report"
    EVENT_LOG = "event-log"
    TPM_ATTEST = "tpm-attest"
    TD_REPORT = "td-report"


_WHOLE = {
    Part.HCL_REPORT: "the vTPM's quote, and on TDX the TD's quote, as well",
    Part.EVENT_LOG: "the quote that it belongs to; the log goes beside it, with --endorsement",
    Part.TPM_ATTEST: "the signature, the registers and the key's certificate as well",
    Part.TD_REPORT: "the quote that the machine's quoting enclave made of it",
}


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part that came alone. It can be looked at, and never be accepted."""

    part: Part
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognized:
    """One file of evidence.

    Attributes:
        form: what it was, for people, e.g. "SEV-SNP report, as hex".
        evidence: the CPU's or TPM's, or None if the file holds something else.
        devices: devices whose evidence stands by itself, with no CPU that commits to it.
        bare_quote: a quote that can be looked at, and never be accepted.
        serving: the runtime's whole answer, if that is what it was: it says which keys are bound.
        fragment: a part of evidence, if no more than that is there.
        own: whether it is a document of Regalia's own, which is whole by itself.
    """

    form: str
    evidence: Evidence | None
    devices: tuple[DeviceEvidence, ...] = ()
    bare_quote: BareQuote | None = None
    serving: ServingEvidence | None = None
    fragment: Fragment | None = None
    own: bool = False

    @property
    def subject(self) -> str:
        """The kind of attester, for results."""
        if self.evidence is not None:
            return self.evidence.tee.value
        if self.fragment is not None:
            return self.fragment.part.value
        return self.devices[0].kind.value if self.devices else "tpm"

    def require_whole(self) -> None:
        """There is more than a part. Raises ParseError EVIDENCE_INCOMPLETE."""
        if self.fragment is not None:
            raise ParseError(
                InspectCode.EVIDENCE_INCOMPLETE,
                f"{self.form}, alone: a verifier needs {_WHOLE[self.fragment.part]}",
            )
