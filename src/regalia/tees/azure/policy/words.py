"""One sentence for every field of Azure's sections, closed and open.

The paravisor's platform is spoken of in the words of its TEE's own section.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from regalia.appraisal.explanation import Sentence, accepted
from regalia.appraisal.finding import in_full
from regalia.tees.azure.policy.section import SNP_PATH, TDX_PATH
from regalia.tees.boot.policy.words import boot_sentences
from regalia.tees.intel.policy import words as sentences_intel
from regalia.tees.intel.policy.section import TDX_PATH as TDX_ALONE
from regalia.tees.snp.policy import words as sentences_snp
from regalia.tees.snp.policy.section import PATH as SNP_ALONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def _pcrs(values: dict[str, list[str]]) -> str:
    if not values:
        return "No register is listed: this policy denies everything."
    parts = [f"PCR{register} one of {in_full(accepts)}" for register, accepts in values.items()]
    return f"The vTPM must have quoted {'; '.join(parts)}. Other registers are not looked at."


def _vm(path: str) -> tuple[Sentence, ...]:
    return (
        Sentence(
            f"{path}.secure_boot",
            "Secure Boot must be on.".format,
            "Secure Boot may be off.",
            "anybody who can write the VM's disk chooses what boots, as far as pcrs lets it.",
        ),
        Sentence(
            f"{path}.tpm",
            "The vTPM must be on.".format,
            "The vTPM may be off.",
            "the paravisor says itself that what it quotes is not measured.",
        ),
        Sentence(
            f"{path}.console",
            "The host's serial console must be off.".format,
            "The host's serial console may be on.",
            "whoever runs the host reads what the VM prints, and types where it asks.",
        ),
        Sentence(
            f"{path}.vm_ids",
            accepted("VMs"),
            "Any VM is accepted.",
            "the VM may run in anybody's Azure subscription.",
        ),
        Sentence(
            f"{path}.pcrs",
            _pcrs,
            "Any register values are accepted.",
            "the paravisor may boot other software than yours, as far as boot lets it.",
        ),
        *boot_sentences(f"{path}.boot"),
    )


def _moved(sentences: Iterable[Sentence], old: str, new: str) -> Iterator[Sentence]:
    """The same sentences about the same struct, where it stands in another section."""
    for each in sentences:
        yield replace(each, path=each.path.replace(old, new, 1))


SENTENCES: tuple[Sentence, ...] = (
    *_moved(sentences_snp.SENTENCES, SNP_ALONE, f"{SNP_PATH}.paravisor"),
    *_vm(f"{SNP_PATH}.vm"),
    *_moved(
        (each for each in sentences_intel.SENTENCES if each.path.startswith(f"{TDX_ALONE}.")),
        TDX_ALONE,
        f"{TDX_PATH}.paravisor",
    ),
    *_vm(f"{TDX_PATH}.vm"),
)
ENTRY_SENTENCES: tuple[Sentence, ...] = tuple(
    _moved(sentences_snp.ENTRY_SENTENCES, SNP_ALONE, f"{SNP_PATH}.paravisor")
)
# Values other than "any" by which a rule demands nothing.
OPEN_VALUES: tuple[tuple[str, object], ...] = (
    *(
        (path.replace(SNP_ALONE, f"{SNP_PATH}.paravisor", 1), value)
        for path, value in sentences_snp.OPEN_VALUES
    ),
    *(
        (path.replace(TDX_ALONE, f"{TDX_PATH}.paravisor", 1), value)
        for path, value in sentences_intel.OPEN_VALUES
        if path.startswith(f"{TDX_ALONE}.")
    ),
    (f"{SNP_PATH}.vm.console", "allow"),
    (f"{TDX_PATH}.vm.console", "allow"),
)
