"""TPM appraisal, *is it genuine?* Spec: docs/spec/tpm-appraisal.md.

 (1) The document, its TPMS_ATTEST and its TPMT_SIGNATURE parse.
 (2) The AK is a restricted signing key of its TPM, with SHA-256 or longer.
 (3) The AK signed the quote, in its own scheme.
 (4) Somebody trusted says that the AK lives in a TPM: an enrolment, or an AK root.
 (5) resetCount is not below the enrolled one.
 (6) The quote covers all 24 registers of one SHA-256 or SHA-384 bank.
 (7) pcrDigest is the hash of the register values that came along.
 (8) The event log, if one came along, leads to the registers that a boot extends.
 (9) extraData is SHA-256 of the report data that the caller expects: ``Unbound.fresh``.

Left to ``regalia.policy``, which gets the claims: register values, TPM maker, model, firmware and
identity, whether the machine rebooted since it was enrolled, PCR 15 against the configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.claims import MINT, Hardware, NonceField, Unbound
from regalia.appraisal.evidence_plugin import Parsed
from regalia.core.errors import AttestationError
from regalia.tees.tpm.claims import AkBinding, TpmClaims
from regalia.tees.tpm.evidence import checks
from regalia.tees.tpm.evidence.binding import Ak, bind_ak
from regalia.tees.tpm.evidence.boot import verify_boot
from regalia.tees.tpm.evidence.codes import TpmCode
from regalia.tees.tpm.evidence.document import parse_tpm_quote, qualifying_data
from regalia.tees.tpm.evidence.keys import require_attestation_key
from regalia.tees.tpm.evidence.path import Authorities
from regalia.tees.tpm.evidence.public import parse_public
from regalia.tees.tpm.evidence.quote import verify_quote_signature, verify_quoted_pcrs
from regalia.tees.tpm.evidence.wire import ALL_PCRS, DATA_MAX
from regalia.wire.evidence import REPORT_DATA_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.pki import Cache
    from regalia.tees.boot.claims import BootFacts
    from regalia.tees.tpm.evidence.anchors import PreparedCollateral, TpmAnchors
    from regalia.tees.tpm.evidence.binding import BoundAk
    from regalia.tees.tpm.evidence.document import TpmQuote
    from regalia.tees.tpm.evidence.keys import AttestationPublicKey
    from regalia.tees.tpm.evidence.layout import HashAlg
    from regalia.tees.tpm.evidence.quote import VerifiedQuote
    from regalia.tees.tpm.evidence.wire import Quote
    from regalia.wire.evidence import Evidence

# Report data of zeros is nobody's choice, and its hash is as well known as itself.
NOBODYS_CHOICE = qualifying_data(bytes(REPORT_DATA_SIZE))
NONCE = NonceField(checks.NONCE, range(1, DATA_MAX + 1), (NOBODYS_CHOICE,))


def parse(
    evidence: Evidence,
    check_log: CheckLog = NO_LOG,  # noqa: ARG001 - parsing the document is none of its named checks
) -> Parsed[Evidence, TpmQuote]:
    """Check 1, of the document. Raises ParseError.

    Args:
        evidence: raw, untrusted.
        check_log: unused; parsing the document is none of the named checks.
    """
    return Parsed(evidence, parse_tpm_quote(evidence.report))


def verify_genuine(
    parsed: Parsed[Evidence, TpmQuote],
    *,
    anchors: TpmAnchors,
    collateral: PreparedCollateral,
    at: AppraisalContext,
) -> Unbound[TpmClaims]:
    """Checks 1 to 8: claims of unknown age.

    Args:
        parsed: untrusted.
        anchors: whose roots are trusted.
        collateral: the operator's roots, lists and enrolments.
        at: the context of the appraisal.

    Raises:
        ParseError: evidence or collateral is malformed.
        AttestationError: the evidence is not genuine.
    """
    check_log, evidence, document = at.check_log, parsed.raw, parsed.report
    memory = collateral.memory
    check_log.begin(checks.AK, wanted="restricted, sign, fixedTPM, fixedParent, not decrypt")
    known = memory.keys.get(document.ak_public) or _attestation_key(document.ak_public)
    key, name, attributes = known
    check_log.note(f"objectAttributes {attributes:#010x}")
    quote = verify_quote_signature(  # (1) (3)
        document.quoted, document.signature, key=key, check_log=check_log
    )
    ak = bind_ak(  # (4)
        Ak(name, key.key),
        evidence.endorsements,
        collateral=collateral,
        authorities_for=_authorities(anchors, collateral, at),
        check_log=check_log,
    )
    if document.ak_public not in memory.keys:
        memory.keep(memory.keys, document.ak_public, known)
    _check_reset_count(quote, ak, check_log)  # (5)
    bank = _bank(document.pcrs)
    verified = verify_quoted_pcrs(  # (6) (7)
        quote, document.pcrs, key=key, selection={bank: ALL_PCRS}, check_log=check_log
    )
    if evidence.event_log:
        check_log.begin(checks.EVENT_LOG, f"{len(evidence.event_log)} bytes")
    boot = _boot(evidence.event_log, verified, bank, at.cache)  # (8)
    claims = TpmClaims(
        hardware=_hardware(anchors, ak),
        revocation=ak.revocation,
        evidence_digest=evidence.digest(),
        binding=ak.binding,
        ak_name=name,
        ek=ak.identity,
        manufacturer=ak.model.manufacturer,
        model=ak.model.model,
        version=ak.model.version,
        extra_data=quote.extra_data,
        firmware_version=quote.firmware_version,
        clock=quote.clock,
        reset_count=quote.reset_count,
        restart_count=quote.restart_count,
        safe=quote.safe,
        enrolled_reset_count=ak.enrolled_reset_count,
        bank=bank.label,
        pcrs=verified.pcrs[bank],
        boot=boot,
        mint=MINT,
    )
    return Unbound(claims, quote.extra_data, NONCE, MINT)


def _attestation_key(ak_public: bytes) -> tuple[AttestationPublicKey, bytes, int]:
    """(1) (2) The key that is said to have signed, its name and its attributes."""
    public = parse_public(ak_public)
    return require_attestation_key(public), public.name, public.attributes


def _boot(log: bytes, verified: VerifiedQuote, bank: HashAlg, cache: Cache) -> BootFacts | None:
    """(8) Replayed once for each log and state of the registers."""
    registers = (verified.quote.pcr_digest, bank.label.encode())
    return cache.replayed(
        "tpm boot", registers, log, lambda: verify_boot(log, verified.pcrs[bank], bank)
    )


def _authorities(
    anchors: TpmAnchors, prepared: PreparedCollateral, at: AppraisalContext
) -> Callable[[AkBinding], Authorities]:
    collateral = prepared.collateral
    roots = {AkBinding.ENROLMENT: anchors.ek_roots, AkBinding.AK_CERTIFICATE: anchors.ak_roots}
    return lambda binding: Authorities(
        roots=roots[binding](collateral),
        intermediates=collateral.intermediates,
        crls=collateral.crls,
        at=at,
    )


def _check_reset_count(quote: Quote, ak: BoundAk, check_log: CheckLog) -> None:
    """(5) Part 1, 36.3: it only grows, until somebody with authority clears the TPM."""
    enrolled = ak.enrolled_reset_count
    check_log.begin(checks.RESET_COUNT, str(quote.reset_count), f"at least {enrolled or 0}")
    if enrolled is not None and quote.reset_count < enrolled:
        raise AttestationError(
            TpmCode.TPM_RESET_COUNT,
            f"resetCount is {quote.reset_count}, it was {enrolled} when the AK was enrolled",
        )


def _bank(pcrs: Mapping[HashAlg, Mapping[int, bytes]]) -> HashAlg:
    """The one bank that values came along for; ``verify_quoted_pcrs`` judges it."""
    if len(pcrs) != 1:
        raise AttestationError(
            TpmCode.QUOTE_SELECTION, f"values of {len(pcrs)} PCR banks came along, want one"
        )
    return next(iter(pcrs))


def _hardware(anchors: TpmAnchors, ak: BoundAk) -> Hardware:
    if Hardware.SIMULATED in {anchors.hardware, ak.hardware}:
        return Hardware.SIMULATED
    return Hardware.GENUINE
