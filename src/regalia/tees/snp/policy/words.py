"""One sentence for every field of the SEV-SNP section, closed and open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.explanation import Sentence, accepted
from regalia.appraisal.finding import in_full

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.tees.snp.policy.section import FirmwareMinimum, IdBlock, TcbMinimum

_SNP = "platform.snp"
_GUEST = "platform.snp.guest_policy"

# Values other than "any" by which a rule demands nothing.
OPEN_VALUES: tuple[tuple[str, object], ...] = (
    ("platform.snp.platform_info_required", []),
    ("platform.snp.mitigations_required", 0),
)


def _csp_ids(values: list[str]) -> str:
    if not values:
        return "No cloud provider's VLEK is accepted."
    return f"A VLEK must belong to: {in_full(values)}."


def _tcb(minima: dict[str, TcbMinimum]) -> str:
    if not minima:
        return "No product has a TCB minimum: this policy denies everything."
    parts = [
        f"{product} at least fmc {low.fmc}, bootloader {low.bootloader}, tee {low.tee},"
        f" snp {low.snp}, microcode {low.microcode}"
        for product, low in sorted(minima.items())
    ]
    return f"Reported, committed and launch TCB: {'; '.join(parts)}."


def _firmware(low: FirmwareMinimum) -> str:
    return f"SEV firmware, current and committed: at least {low.major}.{low.minor}.{low.build}."


def _provisional(value: str) -> str:
    if value == "allow":
        return "Firmware that is not committed is accepted; the host can roll it back."
    return "Current firmware must be committed, so that it cannot be rolled back."


def _smt(value: str) -> str:
    if value == "allow":
        return "The guest may run with SMT; another guest's thread may share a core."
    return "The guest must refuse to run with SMT."


def _cxl(value: str) -> str:
    if value == "allow":
        return "CXL memory may be attached."
    return "CXL memory must not be attached."


def _id_blocks(blocks: list[IdBlock]) -> str:
    if not blocks:
        return "No ID block is accepted: this policy denies everything."
    return f"Accepted ID blocks: {in_full([_id_block(block) for block in blocks])}."


def _id_block(block: IdBlock) -> str:
    """One entry, with what it leaves open in so many words."""
    if not int(block.id_key, 16):
        return "none at all, if the guest was launched without one"
    return (
        f"key {block.id_key} (author key {block.author_key}, family {block.family_id},"
        f" image {block.image_id}, guest SVN at least {block.guest_svn_minimum})"
    )


def _demanded(protection: str, risk: str) -> tuple[Callable[[str], str], str, str]:
    """For a bit by which the guest refuses to run without a protection."""
    return (
        f"The guest must refuse to run without {protection}.".format,
        f"The guest may run without {protection}.",
        risk,
    )


# What an entry of ``id_blocks`` may leave open.
ENTRY_SENTENCES: tuple[Sentence, ...] = (
    Sentence(
        f"{_SNP}.id_blocks[].author_key",
        str,
        "Any author key, or none, may stand behind this ID key.",
        "who certified the ID key is not checked; the ID key alone decides.",
    ),
    Sentence(
        f"{_SNP}.id_blocks[].family_id",
        str,
        "Any family of images is accepted from this ID key.",
        "an image that this key signed for another purpose passes.",
    ),
    Sentence(
        f"{_SNP}.id_blocks[].image_id",
        str,
        "Any image is accepted from this ID key.",
        "every image that this key ever signed passes, as far as guest_svn_minimum lets it.",
    ),
)

SENTENCES: tuple[Sentence, ...] = (
    Sentence(f"{_SNP}.products", accepted("processor lines")),
    Sentence(
        f"{_SNP}.measurements",
        accepted("launch measurements"),
        "Any launch measurement is accepted.",
        "other software than yours may get the key, as far as id_blocks lets it.",
    ),
    Sentence(
        f"{_SNP}.host_data",
        accepted("runtime configurations (SHA-256)"),
        "Any runtime configuration is accepted that meets the rules below.",
        "the operator may change placement and egress as far as the other rules let them.",
    ),
    Sentence(
        f"{_SNP}.id_blocks",
        _id_blocks,
        "Any ID block, or none, is accepted.",
        "who signed the launch is not checked; the measurement alone says what runs.",
    ),
    Sentence(f"{_SNP}.vmpl", accepted("privilege levels (VMPL)")),
    Sentence(
        f"{_GUEST}.abi_major_min", "The guest must insist on SEV ABI major {} or more.".format
    ),
    Sentence(f"{_GUEST}.abi_minor_min", "With it, on ABI minor {} or more.".format),
    Sentence(f"{_GUEST}.smt", _smt),
    Sentence(
        f"{_GUEST}.single_socket",
        "The guest must run on a single socket.".format,
        "The guest may span sockets.",
        "memory traffic crosses the link between sockets, which can be tapped.",
    ),
    Sentence(f"{_GUEST}.cxl", _cxl),
    Sentence(
        f"{_GUEST}.mem_aes_256_xts",
        *_demanded(
            "AES-256-XTS for memory", "memory is encrypted with 128-bit keys on some platforms."
        ),
    ),
    Sentence(
        f"{_GUEST}.rapl_dis",
        *_demanded("RAPL switched off", "the host can read secrets off the power meter."),
    ),
    Sentence(
        f"{_GUEST}.ciphertext_hiding",
        *_demanded(
            "ciphertext hiding",
            "the host sees when encrypted memory changes, and learns from it.",
        ),
    ),
    Sentence(
        f"{_GUEST}.page_swap_disable",
        *_demanded(
            "page swapping switched off", "the host can move pages and watch which are used."
        ),
    ),
    Sentence(
        f"{_SNP}.platform_info_required",
        lambda values: f"The platform must report: {in_full(values)}.",
        "No platform protection is demanded.",
        "without ALIAS_CHECK_COMPLETE memory aliasing (BadRAM) can defeat the guest's integrity.",
    ),
    Sentence(
        f"{_SNP}.tcb_minimum",
        _tcb,
        "Any TCB is accepted.",
        "firmware with published attacks is accepted.",
    ),
    Sentence(
        f"{_SNP}.firmware_minimum",
        _firmware,
        "Any SEV firmware version is accepted.",
        "firmware with published attacks is accepted as far as the TCB minimum lets it.",
    ),
    Sentence(f"{_SNP}.provisional_firmware", _provisional),
    Sentence(
        f"{_SNP}.mitigations_required",
        lambda bits: f"Mitigation vectors at launch and now must have the bits {bits:#x}.",
        "No firmware mitigation is demanded.",
        "fixes that no TCB number shows may be missing.",
    ),
    Sentence(f"{_SNP}.report_version_minimum", "Reports must be of version {} or later.".format),
    Sentence(f"{_SNP}.signing_keys", accepted("kinds of signing key")),
    Sentence(
        f"{_SNP}.csp_ids",
        _csp_ids,
        "A VLEK of any cloud provider is accepted.",
        "a provider that you have no contract with may vouch for its machines.",
    ),
    Sentence(
        f"{_SNP}.chip_ids",
        accepted("chips"),
        "Any chip of the accepted lines is accepted.",
        "a genuine chip in an attacker's hands, with an interposer on its memory bus, passes.",
    ),
    Sentence(
        f"{_SNP}.revocation",
        "It must be known that no certificate is revoked.".format,
        "Certificates need not be checked for revocation.",
        "a key that AMD has revoked after a leak still passes.",
    ),
)
