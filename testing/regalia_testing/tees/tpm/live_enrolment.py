"""Enrol a live TPM, for tests and demonstrations: attester and verifier in one process."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.tees.tpm.device import EK_KINDS, TpmDevice
from regalia.tees.tpm.evidence import Authorities, TpmCollateral, begin_enrolment, finish_enrolment
from regalia.tees.tpm.evidence.enrol_steps import EnrolmentRequest, answer_data
from regalia.tees.tpm.key_templates import AK_TEMPLATES, DEFAULT_AK
from regalia.tees.tpm.recording import BANK

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from regalia.tees.tpm.evidence.enrolment import Enrolment

# swtpm's authority issues no revocation lists.
NO_LISTS = CollateralRule(RevocationRule.ANY, NO_GRACE)


@dataclass(frozen=True, slots=True)
class EnrolledTpm:
    """A TPM that a verifier knows, and that verifier's collateral for it."""

    enrolment: Enrolment
    collateral: TpmCollateral


def enrol(  # noqa: PLR0913 - a TPM, who vouches for it, and which of its keys
    tcti: str,
    *,
    roots: Sequence[bytes],
    intermediates: Sequence[bytes],
    now: datetime,
    ak: str = DEFAULT_AK,
    ek_kinds: Sequence[tuple[int, str]] = EK_KINDS,
) -> EnrolledTpm:
    """Enrol the AK of the TPM behind a TCTI, as ``regalia attest enroll`` does in four steps.

    Raises:
        AttestationError: as ``begin_enrolment`` and ``finish_enrolment``.
        LocalError: the TPM refuses.
    """
    at = AppraisalContext(now=now, rule=NO_LISTS, cache=Cache())
    authorities = Authorities(tuple(roots), tuple(intermediates), (), at)
    template = AK_TEMPLATES[ak]
    secret = secrets.token_bytes(32)
    with TpmDevice.open(tcti) as tpm:
        ek = tpm.ek(ek_kinds)
        public = tpm.attestation_key(template).encode()
        request = EnrolmentRequest(public, ek.public, ek.certificates)
        credential = begin_enrolment(request, authorities=authorities, secret=secret)
        opened = tpm.activate(ek, template, credential.id_object, credential.encrypted_secret)
        answer = tpm.quote(template, answer_data(opened), BANK)
    enrolment = finish_enrolment(request, answer, authorities=authorities, secret=secret)
    return EnrolledTpm(
        enrolment,
        TpmCollateral(
            ek_roots=tuple(roots),
            intermediates=tuple(intermediates),
            enrolments=(enrolment.encode(),),
        ),
    )
