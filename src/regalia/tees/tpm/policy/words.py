"""One sentence for every field of the TPM section, closed and open."""

from __future__ import annotations

from regalia.appraisal.explanation import Sentence, accepted
from regalia.appraisal.finding import in_full
from regalia.tees.boot.policy.words import boot_sentences
from regalia.tees.tpm.policy.section import PATH


def _pcrs(values: dict[str, list[str]]) -> str:
    if not values:
        return "No register is listed: this policy denies everything."
    parts = [f"PCR{register} one of {in_full(accepts)}" for register, accepts in values.items()]
    return f"The TPM must have quoted {'; '.join(parts)}. Other registers are not looked at."


def _firmware(minima: dict[str, str]) -> str:
    if not minima:
        return "No TPM maker has a firmware minimum: this policy denies everything."
    parts = [f"{maker} at least {version}" for maker, version in sorted(minima.items())]
    return f"TPM firmware: {'; '.join(parts)}."


SENTENCES: tuple[Sentence, ...] = (
    Sentence(f"{PATH}.bindings", accepted("ways to bind an attestation key")),
    Sentence(
        f"{PATH}.eks",
        accepted("TPMs (digest of the EK)"),
        "Any enrolled TPM is accepted.",
        "whoever may enrol machines decides alone which ones get the key.",
    ),
    Sentence(
        f"{PATH}.manufacturers",
        accepted("TPM makers"),
        "A TPM of any maker is accepted.",
        "a make with a known weakness passes, as far as the roots for EKs let it.",
    ),
    Sentence(
        f"{PATH}.firmware_minimum",
        _firmware,
        "Any TPM firmware is accepted.",
        "firmware with published attacks on its keys is accepted.",
    ),
    Sentence(
        f"{PATH}.pcrs",
        _pcrs,
        "Any register values are accepted.",
        "other software than yours may have booted, as far as boot lets it.",
    ),
    *boot_sentences(f"{PATH}.boot"),
    Sentence(
        f"{PATH}.same_boot",
        "The machine must not have rebooted since it was enrolled.".format,
        "The machine may have rebooted since it was enrolled.",
        "whoever has it may have started it again; what booted is still held to the other rules.",
    ),
    Sentence(
        f"{PATH}.revocation",
        "It must be known that no certificate is revoked.".format,
        "Certificates need not be checked for revocation.",
        "a TPM whose maker revoked it still passes, until it is taken from the enrolments.",
    ),
)
