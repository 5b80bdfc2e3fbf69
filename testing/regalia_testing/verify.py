"""One plug-in's whole walk, for tests of a TEE by itself: parse, genuine, fresh."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.evidence_plugin import EvidencePlugin

R = TypeVar("R")
T = TypeVar("T")
C = TypeVar("C")
A = TypeVar("A")
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
    parsed = plugin.parse(evidence, at.check_log)
    found = plugin.genuine(parsed, anchors=anchors, collateral=collateral, at=at)
    return found.fresh(plugin.nonce_of(report_data), at.check_log)
