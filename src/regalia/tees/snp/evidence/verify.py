"""SEV-SNP appraisal, *is it genuine?* Spec: docs/spec/snp-appraisal.md.

 (1) The report parses: exact size, known version, everything reserved is zero.
 (2) SIGNING_KEY says which chain must vouch for it: VCEK or VLEK.
 (3) ARK (key pinned for the product) -> ASK or ASVK -> leaf, every signature, constraint,
     name and validity at ``now``.
 (4) The ARK's revocation list is in date and names none of them.
 (5) The leaf was issued for this chip, at this TCB, of this product; chip masking is off.
 (6) The leaf's key signed bytes 0x000 to 0x29F of the report.
 (7) All four TCB versions are laid out as the product lays them out.
 (8) REPORT_DATA is what the caller expects, all 64 bytes: ``Unbound.fresh``.

Left to ``regalia.policy``, which gets the claims: debug and migration bits, TCB minimums,
provisional firmware, VMPL, measurement, HOST_DATA against the runtime's configuration, chip
and product lists. DEBUG and MIGRATE_MA stand in ``claims.policy``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.claims import MINT, NonceField, Unbound
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.evidence_plugin import Parsed
from regalia.core.errors import AttestationError
from regalia.crypto.sign import SignCode
from regalia.tees.snp.claims import Firmware, SnpClaims
from regalia.tees.snp.evidence import checks
from regalia.tees.snp.evidence.chain import verify_chain
from regalia.tees.snp.evidence.products import product_of_cpuid
from regalia.tees.snp.evidence.wire import (
    CHIP_ID_SIZE,
    CPUID_SINCE_VERSION,
    REPORT_SIZE,
    SIGNED_SIZE,
    decode_tcb,
    parse_report,
)
from regalia.wire.evidence import REPORT_DATA_SIZE

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.check_log import CheckLog
    from regalia.tees.snp.evidence.anchors import SnpAnchors, SnpCollateral
    from regalia.tees.snp.evidence.chain import TrustedLeaf
    from regalia.tees.snp.evidence.wire import SnpReport
    from regalia.wire.evidence import Evidence

_ECDSA_SHA384 = ec.ECDSA(hashes.SHA384())

NONCE = NonceField(checks.REPORT_DATA, range(REPORT_DATA_SIZE, REPORT_DATA_SIZE + 1))


def parse(evidence: Evidence, check_log: CheckLog = NO_LOG) -> Parsed[Evidence, SnpReport]:
    """Check 1. Raises ParseError.

    Args:
        evidence: raw, untrusted.
        check_log: records the checks.
    """
    check_log.begin(checks.REPORT, f"{len(evidence.report)} bytes", f"{REPORT_SIZE} bytes")
    return Parsed(evidence, parse_report(evidence.report))


def verify_genuine(
    parsed: Parsed[Evidence, SnpReport],
    *,
    anchors: SnpAnchors,
    collateral: SnpCollateral,
    at: AppraisalContext,
) -> Unbound[SnpClaims]:
    """Checks 2 to 7: claims of unknown age.

    Args:
        parsed: untrusted.
        anchors: the pinned roots.
        collateral: certificates and revocation lists of the verifier's operator.
        at: the context of the appraisal.

    Raises:
        ParseError: evidence or collateral is malformed.
        AttestationError: the evidence is not genuine.
    """
    check_log, report = at.check_log, parsed.report
    leaf = verify_chain(  # (2) (3) (4)
        parsed.raw, report, anchors=anchors, collateral=collateral.for_report(report), at=at
    )
    _check_leaf_binding(report, leaf, check_log)  # (5)
    check_log.begin(checks.SIGNATURE, "ECDSA P-384 over bytes 0x000 to 0x29F")
    _check_signature(parsed.raw.report, report, leaf)  # (6)
    check_log.begin(checks.TCB_LAYOUT, report.current_tcb, f"as on {leaf.product}")
    claims = _claims(parsed.raw, report, leaf)  # (7)
    return Unbound(claims, report.report_data, NONCE, MINT)


def _check_leaf_binding(report: SnpReport, leaf: TrustedLeaf, check_log: CheckLog) -> None:
    """(5) Product, TCB and chip of the report are those the leaf was issued for."""
    if report.version >= CPUID_SINCE_VERSION:
        check_log.begin(
            checks.PRODUCT,
            f"CPU family {report.cpuid_fam_id:#04x} model {report.cpuid_mod_id:#04x}",
            leaf.product,
        )
        product = product_of_cpuid(report.cpuid_fam_id, report.cpuid_mod_id)
        if product is not leaf.product:
            raise _mismatch(f"the report is from a {product} CPU, the chain is for {leaf.product}")
    check_log.begin(
        checks.CHIP_KEY, "masked" if report.mask_chip_key else "not masked", "not masked"
    )
    if report.mask_chip_key:
        raise _mismatch("MASK_CHIP_KEY is set: the host keeps the chip from vouching for reports")
    check_log.begin(checks.TCB, report.reported_tcb, leaf.facts.tcb)
    if report.reported_tcb != leaf.facts.tcb:
        raise _mismatch(
            f"REPORTED_TCB is {report.reported_tcb.hex()}, the leaf was issued for "
            f"{leaf.facts.tcb.hex()}"
        )
    if leaf.facts.hwid is None:  # a VLEK is for a cloud's fleet, not for a chip
        return
    check_log.begin(checks.CHIP, report.chip_id, leaf.facts.hwid)
    if report.chip_id != leaf.facts.hwid.ljust(CHIP_ID_SIZE, b"\x00"):
        seen = "masked (zero)" if not any(report.chip_id) else f"{report.chip_id[:8].hex()}..."
        raise _mismatch(
            f"CHIP_ID is {seen}, the leaf was issued for {leaf.facts.hwid[:8].hex()}..."
        )


def _check_signature(raw: bytes, report: SnpReport, leaf: TrustedLeaf) -> None:
    """(6) ECDSA P-384 with SHA-384 over the bytes as received, not as encoded again."""
    signature = encode_dss_signature(
        int.from_bytes(report.signature_r, "little"), int.from_bytes(report.signature_s, "little")
    )
    try:
        leaf.key.verify(signature, raw[:SIGNED_SIZE], _ECDSA_SHA384)
    except InvalidSignature as exc:
        raise AttestationError(
            SignCode.SIGNATURE_INVALID,
            f"the {leaf.signing_key.name}'s key did not sign this report",
        ) from exc


def _claims(evidence: Evidence, report: SnpReport, leaf: TrustedLeaf) -> SnpClaims:
    raw = (report.current_tcb, report.reported_tcb, report.committed_tcb, report.launch_tcb)
    tcbs = {each: decode_tcb(each, leaf.product) for each in set(raw)}  # mostly one and the same
    current, reported, committed, launch = (tcbs[each] for each in raw)
    return SnpClaims(
        hardware=leaf.hardware,
        product=leaf.product.value,
        revocation=leaf.revocation,
        evidence_digest=evidence.digest(),
        report_version=report.version,
        guest_svn=report.guest_svn,
        policy=report.policy,
        family_id=report.family_id,
        image_id=report.image_id,
        vmpl=report.vmpl,
        signing_key=leaf.signing_key.name.lower(),
        csp_id=leaf.facts.csp_id,
        platform_info=report.platform_info,
        report_data=report.report_data,
        measurement=report.measurement,
        host_data=report.host_data,
        id_key_digest=report.id_key_digest,
        author_key_digest=report.author_key_digest,
        report_id=report.report_id,
        chip_id=report.chip_id,
        current_tcb=current,
        reported_tcb=reported,
        committed_tcb=committed,
        launch_tcb=launch,
        current_firmware=Firmware(report.current_major, report.current_minor, report.current_build),
        committed_firmware=Firmware(
            report.committed_major, report.committed_minor, report.committed_build
        ),
        launch_mit_vector=report.launch_mit_vector,
        current_mit_vector=report.current_mit_vector,
        mint=MINT,
    )


def _mismatch(what: str) -> AttestationError:
    return AttestationError(AttestCode.LEAF_BINDING_MISMATCH, what)
