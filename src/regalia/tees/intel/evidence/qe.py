"""The quoting enclave: does it vouch for the attestation key, and is it Intel's?"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from regalia.core.errors import AttestationError
from regalia.tees.intel.evidence.codes import IntelCode
from regalia.tees.intel.evidence.tcb import isv_level
from regalia.tees.intel.names import SgxAttributeBit

if TYPE_CHECKING:
    from regalia.tees.intel.evidence.bodies import EnclaveReport
    from regalia.tees.intel.evidence.documents import EnclaveIdentity, IsvLevel
    from regalia.tees.intel.evidence.wire import QeCertification

_DIGEST_SIZE = 32  # bytes of the QE report's REPORTDATA; zeros follow
_FLAGS_BITS = 64


def require_attestation_key(qe: QeCertification) -> None:
    """The QE's REPORTDATA is SHA-256(attestation key, authentication data), then zeros.

    Raises:
        AttestationError: QE_BINDING_MISMATCH.
    """
    digest = hashlib.sha256(qe.attestation_key + qe.qe_auth_data).digest()
    expected = digest.ljust(2 * _DIGEST_SIZE, b"\x00")
    if not hmac.compare_digest(qe.qe_report.report_data, expected):
        raise AttestationError(
            IntelCode.QE_BINDING_MISMATCH,
            f"the QE report is over {qe.qe_report.report_data.hex()}, the quote's attestation "
            f"key and authentication data give {expected.hex()}",
        )


def require_identity(report: EnclaveReport, identity: EnclaveIdentity) -> IsvLevel:
    """The QE is the one that the identity describes, in production mode; returns its level.

    Intel PCS API version 4, "Get Quoting Enclave Identity", steps of the verification.

    Args:
        report: the QE's, signed by the PCK, as the caller has verified.
        identity: from a document whose signature was verified.

    Raises:
        AttestationError: QE_IDENTITY_MISMATCH, or TCB_NO_MATCH.
    """
    if report.attributes >> SgxAttributeBit.DEBUG & 1:
        raise _mismatch("it runs in debug mode, so its host can read its keys")
    if report.misc_select & identity.misc_select_mask != identity.misc_select:
        raise _mismatch(f"MISCSELECT is {report.misc_select:#x}, want {identity.misc_select:#x}")
    attributes = report.xfrm << _FLAGS_BITS | report.attributes
    if attributes & identity.attributes_mask != identity.attributes:
        raise _mismatch(
            f"ATTRIBUTES is {attributes:#x}, want {identity.attributes:#x} "
            f"in the bits {identity.attributes_mask:#x}"
        )
    if report.mr_signer != identity.mr_signer:
        raise _mismatch(f"MRSIGNER is {report.mr_signer.hex()}, want {identity.mr_signer.hex()}")
    if report.isv_prod_id != identity.isv_prod_id:
        raise _mismatch(f"ISVPRODID is {report.isv_prod_id}, want {identity.isv_prod_id}")
    return isv_level(identity.levels, report.isv_svn, what=f"the quoting enclave ({identity.id})")


def _mismatch(what: str) -> AttestationError:
    return AttestationError(IntelCode.QE_IDENTITY_MISMATCH, f"quoting enclave: {what}")
