"""Which of an operator's documents is for this platform, and whether it is in date."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from regalia.appraisal.claims import Revocation
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import require_valid_at
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError
from regalia.tees.intel.evidence.documents import EnclaveIdentity, TcbInfo

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.tees.intel.evidence.documents import TcbInfoId
    from regalia.tees.intel.evidence.pck import PckFacts
    from regalia.tees.intel.evidence.verified_collateral import PreparedCollateral, Verified

T = TypeVar("T", TcbInfo, EnclaveIdentity)


def for_platform(
    collateral: PreparedCollateral, kind: TcbInfoId, facts: PckFacts
) -> list[Verified[TcbInfo]]:
    """The TCB infos for this FMSPC and PCEID; empty if there is none for this kind of TEE at all.

    Args:
        collateral: what the verifier's operator provides, prepared.
        kind: of TEE.
        facts: what the verified PCK certificate says of the platform.

    Raises:
        AttestationError: LEAF_BINDING_MISMATCH, all of that kind are for other platforms.
    """
    of_kind = [each for each in collateral.tcb_infos if each.document.id is kind]
    fitting = [
        each
        for each in of_kind
        if each.document.fmspc == facts.fmspc and each.document.pce_id == facts.pce_id
    ]
    if of_kind and not fitting:
        known = sorted({f"{e.document.fmspc.hex()}/{e.document.pce_id.hex()}" for e in of_kind})
        raise AttestationError(
            AttestCode.LEAF_BINDING_MISMATCH,
            f"the PCK certificate is for FMSPC/PCEID {facts.fmspc.hex()}/{facts.pce_id.hex()}, "
            f"the {kind} TCB info for {', '.join(known)}",
        )
    return fitting


def newest(found: Sequence[Verified[T]], now: datetime, what: str) -> Verified[T]:
    """Of several issued before ``now``, the one with the highest evaluation data number.

    Args:
        found: verified documents of one kind.
        now: the moment of the appraisal, aware.
        what: names the value in the error.

    Raises:
        AttestationError: COLLATERAL_MISSING, ``found`` is empty.
    """
    if not found:
        raise AttestationError(AttestCode.COLLATERAL_MISSING, f"no {what} was given")
    if len(found) == 1:
        return found[0]
    return max(
        found,
        key=lambda each: (
            each.document.issue_date <= now <= each.document.next_update,
            each.document.issue_date <= now,
            each.document.evaluation_data_number,
            each.document.issue_date,
        ),
    )


def require_dated(found: Verified[T], at: AppraisalContext, what: str) -> Revocation:
    """Document and signer are in date; a late document counts within the grace, and says so.

    Args:
        found: a verified document.
        at: the context of the appraisal.
        what: names the value in the error.

    Raises:
        AttestationError: COLLATERAL_STALE; CERT_EXPIRED or CERT_NOT_YET_VALID for the signer.
    """
    document, now = found.document, at.now
    require_valid_at(found.signer, now)
    if document.issue_date <= now <= document.next_update:
        return Revocation.CHECKED
    if document.next_update < now <= document.next_update + at.rule.grace:
        return Revocation.GRACE
    raise AttestationError(
        AttestCode.COLLATERAL_STALE,
        f"{what}: {rfc3339(document.issue_date)} to {rfc3339(document.next_update)}, "
        f"and now is {rfc3339(now)}",
    )
