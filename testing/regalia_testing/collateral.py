"""Collateral that is format-true and signed by nobody real."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from regalia.tees.intel.evidence.collateral import SignedDocument
from regalia.tees.intel.evidence.pcs import pcs_body
from regalia.verifier.collateral import CollateralSet
from regalia.wire.collateral import CollateralKind
from regalia.wire.deny_list import FORMAT, DeniedIdentity, DenyList

if TYPE_CHECKING:
    from regalia.tees.tpm.evidence import TpmCollateral

SITE = "site-one"
DENY_LIST = DenyList(
    entries=[DeniedIdentity(identity="ab" * 64, of="sev-snp", reason="stolen in transport")],
    format=FORMAT,
    name="stolen devices",
)


def tcb_info_body(
    *,
    number: int,
    fmspc: str = "50806F000000",
    issued: str = "2026-11-20T00:00:00Z",
    next_update: str = "2026-12-20T00:00:00Z",
) -> bytes:
    """A TCB info as Intel's service answers with it. Its signature is 64 zero bytes."""
    date = "2026-08-13T00:00:00Z"
    tcb = {"sgxtcbcomponents": [{"svn": 0}] * 16, "pcesvn": 0}
    document = {
        "id": "SGX",
        "version": 3,
        "issueDate": issued,
        "nextUpdate": next_update,
        "fmspc": fmspc,
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": number,
        "tcbLevels": [{"tcb": tcb, "tcbDate": date, "tcbStatus": "UpToDate"}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    return pcs_body(CollateralKind.TCB_INFO, SignedDocument(text, bytes(64)))


def tpm_set(collateral: TpmCollateral) -> CollateralSet:
    """A TPM's collateral, in the places of an operator's."""
    return CollateralSet(
        certificates=collateral.intermediates,
        crls=collateral.crls,
        documents={
            CollateralKind.EK_ROOT: collateral.ek_roots,
            CollateralKind.AK_ROOT: collateral.ak_roots,
            CollateralKind.ENROLMENT: collateral.enrolments,
        },
    )
