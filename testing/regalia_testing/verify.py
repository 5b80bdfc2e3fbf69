"""One plug-in's whole walk, for tests of a TEE by itself: parse, genuine, fresh."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from regalia.appraisal.claims import MINT, Unbound
from regalia.tees.tpm.evidence import verify_quote
from regalia.tees.tpm.evidence.verify import NONCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.evidence_plugin import Anchors, EvidencePlugin
    from regalia.tees.tpm.evidence import AttestationPublicKey, VerifiedQuote
    from regalia.tees.tpm.evidence.layout import HashAlg

R = TypeVar("R")
T = TypeVar("T")
C = TypeVar("C")
A = TypeVar("A", bound="Anchors")
K = TypeVar("K")


def verify_fresh(  # noqa: PLR0913 - one word for each thing that may be wrong
    plugin: EvidencePlugin[R, T, C, A, K],
    evidence: R,
    *,
    anchors: A,
    collateral: K,
    report_data: bytes,
    at: AppraisalContext,
) -> C:
    """Claims of evidence that is bound to ``report_data``, or of a device bound to that nonce."""
    nonce = plugin.expected(report_data)
    parsed = plugin.parse(evidence, at.check_log)
    found = plugin.genuine(parsed, anchors=anchors, collateral=collateral, at=at)
    return found.fresh(nonce, at.check_log)


def verify_fresh_quote(  # noqa: PLR0913 - one word for each thing that may be wrong
    quoted: bytes,
    signature: bytes,
    pcrs: Mapping[HashAlg, Mapping[int, bytes]],
    *,
    key: AttestationPublicKey,
    expected_data: bytes,
    selection: Mapping[HashAlg, frozenset[int]],
) -> VerifiedQuote:
    """A quote by ``key`` over ``expected_data``; whose key that is, nobody says."""
    found = verify_quote(quoted, signature, pcrs, key=key, selection=selection)
    return Unbound(found, found.quote.extra_data, NONCE, MINT).fresh(expected_data)
