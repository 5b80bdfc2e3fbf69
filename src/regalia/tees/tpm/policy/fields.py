"""The fields of the TPM section, in the order of its struct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.appraisal.field_kinds import Demand, OneOf, revocation_known, seen
from regalia.appraisal.finding import finding, listing, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import Field, left_open
from regalia.appraisal.policy_plugin import Part
from regalia.appraisal.policy_words import WORDS, hex_bytes, hex_entry, literals, word
from regalia.tees.boot.policy.fields import pcrs_field
from regalia.tees.boot.policy.plugin import BOOT as BOOT_SECTION
from regalia.tees.tpm.claims import TpmClaims

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_doc import Unrestricted

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
    compare=_firmware,
)


def _rebooted(claims: TpmClaims) -> str:
    enrolled = claims.enrolled_reset_count
    since = "is not known" if enrolled is None else f"was {enrolled}"
    return f"resetCount is {claims.reset_count}; when the AK was enrolled it {since}"


BOOT: Part[TpmClaims] = Part("boot", BOOT_SECTION, lambda claims: claims.boot)
_one_of = OneOf[TpmClaims]

FIELDS: tuple[Field[TpmClaims, Any], ...] = (
    _one_of(
        "bindings",
        literals("enrolment", "ak-certificate"),
        lambda claims: claims.binding.value,
        PolicyCode.AK_BINDING_DENIED,
        seen("the attestation key is bound by {}"),
        every=("enrolment", "ak-certificate"),
    ).words("who may vouch for the attestation key", "ways to bind an attestation key"),
    _one_of.machines(
        "eks",
        hex_entry(32),
        lambda claims: claims.ek.hex(),
        lambda have, values, _: f"TPM {have[:16]}... is not among {len(values)} listed",
        run="on a listed machine",
    ).words(
        "machines: SHA-256 of the EK's SubjectPublicKeyInfo",
        "TPMs (digest of the EK)",
        "Any enrolled TPM is accepted.",
        "whoever may enrol machines decides alone which ones get the key.",
    ),
    _one_of(
        "manufacturers",
        WORDS,
        lambda claims: claims.manufacturer,
        PolicyCode.PRODUCT_DENIED,
        lambda have, values, _: f"a TPM of {shown(have) or 'nobody'}; accepted: {listing(values)}",
        lambda _: "Use a machine whose TPM is of an accepted make.",
        pin=lambda claims, _: [claims.manufacturer] if claims.manufacturer else "any",
    ).words(
        "of the certificate, such as `id:49465800`",
        "TPM makers",
        "A TPM of any maker is accepted.",
        "a make with a known weakness passes, as far as the roots for EKs let it.",
    ),
    FIRMWARE_MINIMUM,
    pcrs_field(
        "The TPM",
        "other software than yours may have booted, as far as boot lets it.",
        lambda claims: claims.pcrs,
    ),
    *BOOT.fields,
    Demand[TpmClaims](
        "same_boot",
        lambda claims: claims.same_boot,
        PolicyCode.REBOOTED_SINCE_ENROLMENT,
        pin=left_open,  # a reboot is no defect; an owner who thinks otherwise writes it
    ).words(
        "not rebooted since it was enrolled",
        _rebooted,
        "The machine must not have rebooted since it was enrolled.",
        "The machine may have rebooted since it was enrolled.",
        "whoever has it may have started it again; what booted is still held to the other rules.",
    ),
    revocation_known(
        "the TPM's certificates were not checked against CRLs",
        "a TPM whose maker revoked it still passes, until it is taken from the enrolments.",
    ),
)
