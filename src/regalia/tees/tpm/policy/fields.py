"""The fields of the TPM section, in the order of its struct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.appraisal.field_kinds import one_of, required_or_any, revocation_known
from regalia.appraisal.finding import finding, listing, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import Field, fields_within
from regalia.appraisal.policy_words import WORDS, hex_bytes, hex_entry, literals, word
from regalia.tees.boot.policy.fields import FIELDS as BOOT_FIELDS
from regalia.tees.boot.policy.fields import pcrs_field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_doc import Unrestricted
    from regalia.tees.tpm.claims import TpmClaims

FIRMWARE_SIZE = 8  # bytes of firmwareVersion


def _firmware_words(minima: dict[str, str]) -> str:
    if not minima:
        return "No TPM maker has a firmware minimum: this policy denies everything."
    parts = [f"{maker} at least {version}" for maker, version in sorted(minima.items())]
    return f"TPM firmware: {'; '.join(parts)}."


def _check_firmware(minima: dict[str, str] | Unrestricted, path: str) -> None:
    if minima == "any":
        return
    for maker, version in minima.items():
        word(maker, path)
        hex_bytes(FIRMWARE_SIZE)(version, f"{path}.{maker}")


def _version(claims: TpmClaims) -> str:
    return f"{claims.firmware_version:016x}"


def _firmware(
    minima: dict[str, str] | Unrestricted, claims: TpmClaims, _: str
) -> Iterator[Finding]:
    """The TPM's firmware, whose numbers only mean something within one make."""
    if minima == "any":
        return
    minimum = minima.get(claims.manufacturer)
    if minimum is None:
        yield finding(
            PolicyCode.TCB_NO_MINIMUM,
            f"firmware_minimum says nothing about TPMs of {shown(claims.manufacturer)}",
            "Add the manufacturer to firmware_minimum.",
        )
    elif _version(claims) < minimum:
        yield finding(
            PolicyCode.FIRMWARE_BELOW_MINIMUM,
            f"TPM firmware {_version(claims)} is below {minimum}",
            "Update the TPM's firmware, and enrol its AK again if it changed.",
        )


FIRMWARE_MINIMUM: Field[TpmClaims, dict[str, str] | Unrestricted] = Field(
    name="firmware_minimum",
    type="object, or any",
    content="by manufacturer: lowest firmwareVersion, 8 bytes in hex. Numbers of different makers"
    " do not compare",
    required=_firmware_words,
    unrestricted="Any TPM firmware is accepted.",
    risk="firmware with published attacks on its keys is accepted.",
    check=_check_firmware,
    pin=lambda claims, _: {claims.manufacturer: _version(claims)} if claims.manufacturer else "any",
    baseline=lambda _: "any",
    compare=_firmware,
)


def _rebooted(claims: TpmClaims) -> str:
    enrolled = claims.enrolled_reset_count
    since = "is not known" if enrolled is None else f"was {enrolled}"
    return f"resetCount is {claims.reset_count}; when the AK was enrolled it {since}"


PCRS: tuple[Field[TpmClaims, Any], ...] = fields_within(
    "",
    lambda claims: claims.pcrs,
    [pcrs_field("The TPM", "other software than yours may have booted, as far as boot lets it.")],
)
BOOT: tuple[Field[TpmClaims, Any], ...] = fields_within(
    "boot", lambda claims: claims.boot, BOOT_FIELDS
)

FIELDS: tuple[Field[TpmClaims, Any], ...] = (
    one_of(
        "bindings",
        entry=literals("enrolment", "ak-certificate"),
        have=lambda claims: claims.binding.value,
        code=PolicyCode.AK_BINDING_DENIED,
        what=lambda have, kinds, _: (
            f"the attestation key is bound by {have}; accepted: {listing(kinds)}"
        ),
        content="who may vouch for the attestation key",
        noun="ways to bind an attestation key",
        baseline=lambda _: ["enrolment", "ak-certificate"],
    ),
    one_of(
        "eks",
        entry=hex_entry(32),
        have=lambda claims: claims.ek.hex(),
        code=PolicyCode.INSTANCE_NOT_ALLOWED,
        what=lambda have, values, _: f"TPM {have[:16]}... is not among {len(values)} listed",
        fix=lambda have: (
            f"Run on a listed machine, or add {have} to eks after checking where it stands."
        ),
        content="machines: SHA-256 of the EK's SubjectPublicKeyInfo",
        noun="TPMs (digest of the EK)",
        unrestricted="Any enrolled TPM is accepted.",
        risk="whoever may enrol machines decides alone which ones get the key.",
        pinned="machine",
    ),
    one_of(
        "manufacturers",
        entry=WORDS,
        have=lambda claims: claims.manufacturer,
        code=PolicyCode.PRODUCT_DENIED,
        what=lambda have, values, _: (
            f"a TPM of {shown(have) or 'nobody'}; accepted: {listing(values)}"
        ),
        fix=lambda _: "Use a machine whose TPM is of an accepted make.",
        content="of the certificate, such as `id:49465800`",
        noun="TPM makers",
        unrestricted="A TPM of any maker is accepted.",
        risk="a make with a known weakness passes, as far as the roots for EKs let it.",
        pin=lambda claims, _: [claims.manufacturer] if claims.manufacturer else "any",
    ),
    FIRMWARE_MINIMUM,
    *PCRS,
    *BOOT,
    required_or_any(
        "same_boot",
        met=lambda claims: claims.same_boot,
        code=PolicyCode.REBOOTED_SINCE_ENROLMENT,
        what=_rebooted,
        required="The machine must not have rebooted since it was enrolled.",
        unrestricted="The machine may have rebooted since it was enrolled.",
        risk="whoever has it may have started it again; what booted is still held to the other"
        " rules.",
        content="not rebooted since it was enrolled",
        # A reboot is no defect; an owner who thinks otherwise writes it.
        pin=lambda _claims, _choices: "any",
    ),
    revocation_known(
        what="the TPM's certificates were not checked against CRLs",
        risk="a TPM whose maker revoked it still passes, until it is taken from the enrolments.",
    ),
)
