"""Appraisal of one NVIDIA device, *is it genuine?* Spec: docs/spec/nvidia-appraisal.md.

 (1) The report parses: one SPDM 1.1 exchange.
 (2) Leaf -> device -> provisioning authority -> ... -> pinned root: every signature, constraint
     and validity at ``now``.
 (3) Leaf, device and authority name one known model, of the kind that the evidence says; the
     opaque data has that model's layout.
 (4) No certificate is revoked and no key denied, as far as the rule demands to know.
 (5) The leaf was issued by this device for the firmware whose FWID the report names.
 (6) The leaf's key signed request and response, up to the signature.
 (7) Reference values that are at hand for the driver and VBIOS match, every one.
 (8) The request's nonce is what the caller expects: ``Unbound.fresh``.

Left to ``regalia.policy``, which gets the claims: models, versions, feature flag, debug mode,
identities, whether reference values must have been at hand. Left to ``verifier.composite``: that
the devices are those of this very machine's CPU, all of them, each once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from regalia.appraisal.check import UNKNOWN
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.claims import MINT, NonceField, Unbound
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.evidence_plugin import Parsed
from regalia.core.errors import AttestationError
from regalia.crypto.sign import SignCode
from regalia.tees.nvidia.claims import NvidiaClaims
from regalia.tees.nvidia.evidence import checks
from regalia.tees.nvidia.evidence.chain import read_model, require_kind, verify_chain
from regalia.tees.nvidia.evidence.collateral import Reading
from regalia.tees.nvidia.evidence.dice import read_dice
from regalia.tees.nvidia.evidence.reference import match_rims
from regalia.tees.nvidia.evidence.revocation import check_revocation
from regalia.tees.nvidia.evidence.spdm import SIGNATURE_SIZE, split_report
from regalia.tees.nvidia.evidence.wire import decode_opaque
from regalia.wire.evidence import DEVICE_NONCE_SIZE, DeviceKind

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.claims import Revocation
    from regalia.tees.nvidia.evidence.anchors import NvidiaAnchors
    from regalia.tees.nvidia.evidence.chain import Path, TrustedChain
    from regalia.tees.nvidia.evidence.collateral import PreparedNvidia
    from regalia.tees.nvidia.evidence.dice import Dice
    from regalia.tees.nvidia.evidence.models import Model
    from regalia.tees.nvidia.evidence.spdm import SpdmParts
    from regalia.tees.nvidia.evidence.wire import Opaque
    from regalia.wire.evidence import DeviceEvidence

_SCALAR_SIZE = SIGNATURE_SIZE // 2
_ECDSA = ec.ECDSA(hashes.SHA384())

# The nonce that NVIDIA's tools use when nobody gives them one: reports over it are public.
PUBLISHED_NONCE = bytes.fromhex("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb")
NONCE = NonceField(
    checks.NONCE, range(DEVICE_NONCE_SIZE, DEVICE_NONCE_SIZE + 1), (PUBLISHED_NONCE,)
)


def parse(
    evidence: DeviceEvidence, check_log: CheckLog = NO_LOG
) -> Parsed[DeviceEvidence, SpdmParts]:
    """Check 1. Raises ParseError.

    Args:
        evidence: raw, untrusted.
        check_log: records the checks.
    """
    check_log.begin(checks.REPORT)
    return Parsed(evidence, split_report(evidence.report))


def verify_genuine(
    parsed: Parsed[DeviceEvidence, SpdmParts],
    *,
    anchors: NvidiaAnchors,
    collateral: PreparedNvidia,
    at: AppraisalContext,
) -> Unbound[NvidiaClaims]:
    """Checks 2 to 7: claims of unknown age.

    Args:
        parsed: untrusted.
        anchors: the pinned root.
        collateral: reference values and revocation of the verifier's operator.
        at: the context of the appraisal.

    Raises:
        ParseError: the evidence is malformed.
        AttestationError: the evidence is not genuine.
    """
    cache, check_log = at.cache, at.check_log
    evidence, parts = parsed.raw, parsed.report
    known = collateral.reading(parts)
    columns = parts.read() if known is None else known.columns
    check_log.begin(checks.CHAIN)
    chain = verify_chain(evidence, anchors=anchors, at=at)  # (2)
    path = chain.path
    check_log.begin(checks.MODEL, path.device.common_name, evidence.kind)
    model = cache.derived(  # (3)
        "nvidia model", path.identity, path.ders, lambda: read_model(path)
    )
    require_kind(model, evidence.kind)
    if known is not None and (known.model is not model or known.hardware is not chain.hardware):
        known = None
    if known is None:
        opaque = decode_opaque(parts.report(columns), switch=_is_switch(model))
    else:
        opaque = known.opaque
    check_log.begin(checks.REVOCATION)
    revocation = check_revocation(path, collateral, at)  # (4)
    check_log.note(revocation, at.rule.revocation.value)
    check_log.begin(checks.FWID)
    dice = cache.derived(
        "nvidia dice", path.leaf.der, (path.leaf.der,), lambda: read_dice(path.leaf)
    )
    if opaque.fwid:
        check_log.note(opaque.fwid, dice.fwid)
    else:  # old drivers repeat none, so only the device's own key is compared
        check_log.leave_open("the report repeats no FWID", dice.fwid)
    _check_leaf_binding(opaque, path, dice)  # (5)
    check_log.begin(checks.SIGNATURE)
    _check_signature(parts, path)  # (6)
    check_log.begin(checks.RIM)
    if known is None:
        rims, missing = match_rims(  # (7)
            parts.report(columns),
            opaque,
            model,
            hardware=chain.hardware,
            collateral=collateral,
        )
        known = Reading(parts.record, columns, opaque, model, chain.hardware, rims, missing)
        collateral.remember(parts, known)
    if check_log is not NO_LOG:
        seen = ", ".join(rim.id for rim in known.rims) or UNKNOWN
        if known.missing:
            check_log.leave_open(seen, ", ".join(known.missing))
        else:
            check_log.note(seen, "a match")
    claims = _claims(parsed, chain, known, dice, revocation)
    return Unbound(claims, parts.nonce, NONCE, MINT)


def _is_switch(model: Model) -> bool:
    return model.kind is DeviceKind.NVIDIA_SWITCH


def _check_leaf_binding(opaque: Opaque, path: Path, dice: Dice) -> None:
    """(5) Firmware, device key and, for a switch, its identifier on the links."""
    if opaque.fwid and opaque.fwid != dice.fwid:
        raise _mismatch(
            f"the report names FWID {opaque.fwid[:8].hex()}..., the leaf was issued for "
            f"{dice.fwid[:8].hex()}..."
        )
    if dice.device_key and dice.device_key != path.device.spki:
        raise _mismatch(f"the leaf names another device key than that of {path.device}")
    if opaque.pdi and not path.identity.endswith(opaque.pdi):
        raise _mismatch(
            f"the switch calls itself {opaque.pdi.hex()}, its certificate {path.identity.hex()}"
        )


def _check_signature(parts: SpdmParts, path: Path) -> None:
    """(6) ECDSA P-384 with SHA-384 over the bytes as received (DSP0274 10.11.2)."""
    scalars = parts.signature
    signature = encode_dss_signature(
        int.from_bytes(scalars[:_SCALAR_SIZE], "big"),
        int.from_bytes(scalars[_SCALAR_SIZE:], "big"),
    )
    try:
        path.key.verify(signature, parts.signed, _ECDSA)
    except InvalidSignature as exc:
        raise AttestationError(
            SignCode.SIGNATURE_INVALID, f"the key of {path.leaf} did not sign this report"
        ) from exc


def _claims(
    parsed: Parsed[DeviceEvidence, SpdmParts],
    chain: TrustedChain,
    reading: Reading,
    dice: Dice,
    revocation: Revocation,
) -> NvidiaClaims:
    path, opaque = chain.path, reading.opaque
    return NvidiaClaims(
        kind=parsed.raw.kind,
        hardware=chain.hardware,
        revocation=revocation,
        evidence_digest=parsed.raw.digest(),
        identity=path.identity,
        nonce=parsed.report.nonce,
        model=reading.model.name,
        hwmodel=path.device.common_name,
        ueid=str(path.leaf.serial),
        driver_version=opaque.driver_version,
        vbios_version=opaque.vbios_version,
        feature=opaque.feature,
        protected_pcie=opaque.protected_pcie,
        nvdec0=opaque.nvdec0,
        fwid=dice.fwid,
        fwid_reported=bool(opaque.fwid),
        debug=dice.debug,
        rims=reading.rims,
        rims_missing=reading.missing,
        pdi=opaque.pdi,
        switch_pdis=opaque.switch_pdis,
        gpu_pdis=opaque.gpu_pdis,
        opaque_addition=opaque.additions,
        mint=MINT,
    )


def _mismatch(what: str) -> AttestationError:
    return AttestationError(AttestCode.LEAF_BINDING_MISMATCH, what)
