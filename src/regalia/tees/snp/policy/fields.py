"""The fields of the SEV-SNP section, in the order of its struct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.appraisal.field_kinds import (
    CONFIG_RISK,
    NUMBERS,
    Demand,
    Minimum,
    OneOf,
    Switch,
    any_config,
    revocation_known,
    seen,
)
from regalia.appraisal.finding import in_full
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import Explanation, Field, accepted
from regalia.appraisal.policy_words import (
    WORD_MAX,
    Entry,
    bad,
    each,
    hex_bytes,
    literals,
    numbers,
    word,
)
from regalia.core.bits import bit
from regalia.core.codec import unhex
from regalia.tees.snp.claims import SnpClaims
from regalia.tees.snp.names import (
    ABI_MAJOR_SHIFT,
    ABI_MINOR_MASK,
    PRODUCTS,
    TURIN,
    GuestPolicyBit,
    PlatformInfoBit,
)
from regalia.tees.snp.policy.section import FirmwareMinimum, IdBlock, TcbMinimum

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.appraisal.policy_doc import Unrestricted
    from regalia.tees.snp.claims import Firmware

# Bits of PLATFORM_INFO that protect the guest; those that the known-good platform sets are pinned.
_PROTECTIVE = (
    PlatformInfoBit.TSME_EN,
    PlatformInfoBit.ECC_EN,
    PlatformInfoBit.RAPL_DIS,
    PlatformInfoBit.CIPHERTEXT_HIDING_EN,
    PlatformInfoBit.ALIAS_CHECK_COMPLETE,
)

UNNAMED_CHIP = (
    "Such a report fits no list of chips: have it signed by the chip's own key (VCEK), with chip"
    " masking off."
)
_one_of = OneOf[SnpClaims]
_digests = _one_of.digests


def abi(claims: SnpClaims) -> tuple[int, int]:
    """The ABI version that the guest insists on, major and minor."""
    return (claims.policy >> ABI_MAJOR_SHIFT) & ABI_MINOR_MASK, claims.policy & ABI_MINOR_MASK


def version(firmware: Firmware) -> tuple[int, int, int]:
    """In an order in which versions compare."""
    return firmware.major, firmware.minor, firmware.build


def dotted(numbers: tuple[int, ...]) -> str:
    """A version for messages."""
    return ".".join(str(number) for number in numbers)


def _product(value: str, path: str) -> None:
    if value not in PRODUCTS:
        raise bad(path, f"{value[:WORD_MAX]!r} is no product; known are {', '.join(PRODUCTS)}")


def _platform_bit(value: str, path: str) -> None:
    if value not in PlatformInfoBit.__members__:
        known = ", ".join(PlatformInfoBit.__members__)
        raise bad(path, f"{value[:WORD_MAX]!r} is no PLATFORM_INFO bit; known are {known}")


def _chip_id(value: str, path: str) -> None:
    if not any(unhex(value, what=f"policy, {path}", size=64)):
        raise bad(path, "all zero is what every VLEK-signed report says, so it names no chip")


def _id_blocks(blocks: list[IdBlock]) -> str:
    if not blocks:
        return "No ID block is accepted: this policy denies everything."
    return f"Accepted ID blocks: {in_full([_id_block_words(block) for block in blocks])}."


def _id_block_words(block: IdBlock) -> str:
    """One entry, with what it leaves open in so many words."""
    if not int(block.id_key, 16):
        return "none at all, if the guest was launched without one"
    return (
        f"key {block.id_key} (author key {block.author_key}, family {block.family_id},"
        f" image {block.image_id}, guest SVN at least {block.guest_svn_minimum})"
    )


def _check_id_block(block: IdBlock, path: str) -> None:
    hex_bytes(48)(block.id_key, f"{path}.id_key")
    for name, size in (("author_key", 48), ("family_id", 16), ("image_id", 16)):
        value = getattr(block, name)
        if value != "any":
            hex_bytes(size)(value, f"{path}.{name}")


def _pin_id_block(claims: SnpClaims) -> IdBlock:
    """The one that was shown, and later ones of the same image."""
    return IdBlock(
        id_key=claims.id_key_digest.hex(),
        author_key=claims.author_key_digest.hex(),
        family_id=claims.family_id.hex(),
        image_id=claims.image_id.hex(),
        guest_svn_minimum=claims.guest_svn,
    )


ID_BLOCKS: Field[SnpClaims, list[IdBlock] | Unrestricted] = Field(
    name="id_blocks",
    type="list of objects, or any",
    content="accepted ID blocks, each: `id_key` hex48, ID_KEY_DIGEST, 48 zeros: launched without"
    " an ID block; `author_key` hex48, or any: AUTHOR_KEY_DIGEST, 48 zeros: no author key;"
    f" `family_id`, `image_id` hex16, or any; `guest_svn_minimum` {NUMBERS}",
    required=_id_blocks,
    unrestricted="Any ID block, or none, is accepted.",
    risk="who signed the launch is not checked; the measurement alone says what runs.",
    entries=(
        Explanation(
            "author_key",
            str,
            "Any author key, or none, may stand behind this ID key.",
            "who certified the ID key is not checked; the ID key alone decides.",
        ),
        Explanation(
            "family_id",
            str,
            "Any family of images is accepted from this ID key.",
            "an image that this key signed for another purpose passes.",
        ),
        Explanation(
            "image_id",
            str,
            "Any image is accepted from this ID key.",
            "every image that this key ever signed passes, as far as guest_svn_minimum lets it.",
        ),
    ),
    check=lambda blocks, path: each(blocks, path, _check_id_block),
    pin=lambda claims, _: [_pin_id_block(claims)],
)


def _abi_minimum(name: str, index: int, content: str, required: str) -> Field[SnpClaims, int]:
    """One half of a version; a rule compares both as a pair."""
    return Field(
        name=f"guest_policy.{name}",
        type="0 … 255",
        content=content,
        required=required.format,
        pin=lambda claims, _: abi(claims)[index],
        baseline=lambda _: 0,
    )


def _guest_policy(wrong: str) -> Callable[[SnpClaims], str]:
    return lambda claims: f"guest policy {claims.policy:#x}: {wrong}"


def _denied_bit(
    index: GuestPolicyBit, what: str, denied: str, allowed: str
) -> Field[SnpClaims, Any]:
    """A bit by which the guest allows its platform something."""
    return Switch[SnpClaims](
        f"guest_policy.{what.lower()}",
        lambda claims: not bit(claims.policy, index),
        PolicyCode.POLICY_BIT,
    ).words(
        f"bit {index.value}, {index.name}",
        _guest_policy(f"{what} is allowed (bit {index.value})"),
        denied,
        allowed,
    )


def _demanded_bit(name: str, index: GuestPolicyBit) -> Demand[SnpClaims]:
    """A bit by which the guest refuses to run without a protection."""
    return Demand(name, lambda claims: bit(claims.policy, index), PolicyCode.POLICY_BIT)


def _protected(name: str, index: GuestPolicyBit, what: str, risk: str) -> Field[SnpClaims, Any]:
    return _demanded_bit(f"guest_policy.{name}", index).words(
        f"bit {index.value}, {index.name}",
        _guest_policy(f"{index.name} is not demanded (bit {index.value})"),
        f"The guest must refuse to run without {what}.",
        f"The guest may run without {what}.",
        risk,
    )


GUEST_POLICY: tuple[Field[SnpClaims, Any], ...] = (
    _abi_minimum(
        "abi_major_min",
        0,
        "bits 15 to 8, compared with the minor version as a pair",
        "The guest must insist on SEV ABI major {} or more.",
    ),
    _abi_minimum("abi_minor_min", 1, "bits 7 to 0", "With it, on ABI minor {} or more."),
    _denied_bit(
        GuestPolicyBit.SMT,
        "SMT",
        "The guest must refuse to run with SMT.",
        "The guest may run with SMT; another guest's thread may share a core.",
    ),
    _demanded_bit("guest_policy.single_socket", GuestPolicyBit.SINGLE_SOCKET).words(
        "bit 20, SINGLE_SOCKET",
        _guest_policy("a single socket is not required (bit 20)"),
        "The guest must run on a single socket.",
        "The guest may span sockets.",
        "memory traffic crosses the link between sockets, which can be tapped.",
    ),
    _denied_bit(
        GuestPolicyBit.CXL_ALLOW,
        "CXL",
        "CXL memory must not be attached.",
        "CXL memory may be attached.",
    ),
    _protected(
        "mem_aes_256_xts",
        GuestPolicyBit.MEM_AES_256_XTS,
        "AES-256-XTS for memory",
        "memory is encrypted with 128-bit keys on some platforms.",
    ),
    _protected(
        "rapl_dis",
        GuestPolicyBit.RAPL_DIS,
        "RAPL switched off",
        "the host can read secrets off the power meter.",
    ),
    _protected(
        "ciphertext_hiding",
        GuestPolicyBit.CIPHERTEXT_HIDING_DRAM,
        "ciphertext hiding",
        "the host sees when encrypted memory changes, and learns from it.",
    ),
    _protected(
        "page_swap_disable",
        GuestPolicyBit.PAGE_SWAP_DISABLE,
        "page swapping switched off",
        "the host can move pages and watch which are used.",
    ),
)


def _tcb_words(minima: dict[str, TcbMinimum]) -> str:
    if not minima:
        return "No product has a TCB minimum: this policy denies everything."
    parts = [
        f"{product} at least fmc {low.fmc}, bootloader {low.bootloader}, tee {low.tee},"
        f" snp {low.snp}, microcode {low.microcode}"
        for product, low in sorted(minima.items())
    ]
    return f"Reported, committed and launch TCB: {'; '.join(parts)}."


def _check_tcb(minima: dict[str, TcbMinimum] | Unrestricted, path: str) -> None:
    if minima == "any":
        return
    each(tuple(minima), path, _product)
    for product, low in minima.items():
        if low.fmc and product != TURIN:
            raise bad(
                f"{path}.{product}.fmc",
                f"{product} has no FMC: a minimum above 0 is met by nothing",
            )


def _pin_tcb(claims: SnpClaims) -> dict[str, TcbMinimum]:
    """The lowest of reported, committed and launch, by component, so that the evidence meets it."""
    seen = [
        tcb.components() for tcb in (claims.reported_tcb, claims.committed_tcb, claims.launch_tcb)
    ]
    lowest = {name: min(tcb[name] for tcb in seen) for name in seen[0]}
    return {claims.product: TcbMinimum(**lowest)}


TCB_MINIMUM: Field[SnpClaims, dict[str, TcbMinimum] | Unrestricted] = Field(
    name="tcb_minimum",
    type="object by product, or any",
    content="of each: `fmc`, `bootloader`, `tee`, `snp`, `microcode`, 0 … 255; `fmc` is 0 but for"
    " Turin",
    required=_tcb_words,
    unrestricted="Any TCB is accepted.",
    risk="firmware with published attacks is accepted.",
    check=_check_tcb,
    pin=lambda claims, _: _pin_tcb(claims),
)


def _pin_firmware(claims: SnpClaims) -> FirmwareMinimum:
    major, minor, build = min(version(claims.current_firmware), version(claims.committed_firmware))
    return FirmwareMinimum(major=major, minor=minor, build=build)


FIRMWARE_MINIMUM: Field[SnpClaims, FirmwareMinimum | Unrestricted] = Field(
    name="firmware_minimum",
    type="object, or any",
    content="`major`, `minor`, `build`, 0 … 255",
    required=lambda low: (
        f"SEV firmware, current and committed: at least {low.major}.{low.minor}.{low.build}."
    ),
    unrestricted="Any SEV firmware version is accepted.",
    risk="firmware with published attacks is accepted as far as the TCB minimum lets it.",
    pin=lambda claims, _: _pin_firmware(claims),
)


def uncommitted(claims: SnpClaims) -> list[str]:
    """What of the running firmware can be rolled back, in words; empty if nothing can."""
    committed = claims.committed_tcb.components()
    differ = [
        f"{name} {have} (committed {committed[name]})"
        for name, have in claims.current_tcb.components().items()
        if have != committed[name]
    ]
    if claims.current_firmware != claims.committed_firmware:
        differ.append(
            f"SEV firmware {dotted(version(claims.current_firmware))}"
            f" (committed {dotted(version(claims.committed_firmware))})"
        )
    return differ


FIELDS: tuple[Field[SnpClaims, Any], ...] = (
    Field(
        name="products",
        type="list of `Milan`, `Genoa`, `Turin`",
        content="product lines; Milan see check 5",
        required=accepted("processor lines"),
        check=lambda values, path: each(values, path, _product),
        pin=lambda claims, _: [claims.product],
        baseline=lambda _: list(PRODUCTS),
    ),
    _digests("measurements", lambda snp: snp.measurement, PolicyCode.MEASUREMENT_UNKNOWN, 48).words(
        "MEASUREMENT",
        "launch measurements",
        "Any launch measurement is accepted.",
        "other software than yours may get the key, as far as id_blocks lets it.",
    ),
    _digests(
        "host_data", lambda snp: snp.host_data, PolicyCode.HOST_DATA_UNKNOWN, 32, pinned="config"
    ).words(
        "HOST_DATA: SHA-256 of accepted runtime configurations",
        "runtime configurations (SHA-256)",
        any_config(),
        CONFIG_RISK,
    ),
    ID_BLOCKS,
    _one_of(
        "vmpl",
        numbers("0 … 3"),
        lambda snp: snp.vmpl,
        PolicyCode.VMPL_MISMATCH,
        seen("VMPL {}"),
        every=(0, 1, 2, 3),
    ).words("VMPL that asked for the report", "privilege levels (VMPL)"),
    *GUEST_POLICY,
    Field(
        name="platform_info_required",
        type="list of names",
        content="bits of PLATFORM_INFO that must be set:"
        f" {', '.join(PlatformInfoBit.__members__)}. `[]` demands nothing, and counts as left open",
        required=lambda values: f"The platform must report: {in_full(values)}.",
        unrestricted="No platform protection is demanded.",
        risk="without ALIAS_CHECK_COMPLETE memory aliasing (BadRAM) can defeat the guest's"
        " integrity.",
        open_value=[],
        check=lambda values, path: each(values, path, _platform_bit),
        pin=lambda claims, _: [
            index.name for index in _PROTECTIVE if bit(claims.platform_info, index)
        ],
        baseline=lambda _: [],
    ),
    TCB_MINIMUM,
    FIRMWARE_MINIMUM,
    Switch[SnpClaims](
        "provisional_firmware",
        lambda snp: not uncommitted(snp),
        PolicyCode.TCB_PROVISIONAL,
        baseline=lambda _: "deny",
    ).words(
        "whether current firmware may differ from the committed one",
        lambda snp: f"current firmware is not committed: {', '.join(uncommitted(snp))}",
        "Current firmware must be committed, so that it cannot be rolled back.",
        "Firmware that is not committed is accepted; the host can roll it back.",
    ),
    Field(
        name="mitigations_required",
        type=f"{NUMBERS}, or any",
        content="bits of both mitigation vectors. 0 demands nothing, and counts as left open",
        required=lambda bits: f"Mitigation vectors at launch and now must have the bits {bits:#x}.",
        unrestricted="No firmware mitigation is demanded.",
        risk="fixes that no TCB number shows may be missing.",
        open_value=0,
        pin=lambda claims, _: (claims.launch_mit_vector & claims.current_mit_vector) or "any",
    ),
    Minimum[SnpClaims](
        "report_version_minimum",
        lambda snp: snp.report_version,
        PolicyCode.REPORT_VERSION_TOO_OLD,
    ).words(
        "of the attestation report",
        "Reports must be of version {} or later.",
        "report version {}; at least {}",
    ),
    _one_of(
        "signing_keys",
        literals("vcek", "vlek"),
        lambda snp: snp.signing_key,
        PolicyCode.SIGNING_KEY_DENIED,
        lambda have, kinds, _: f"signed with a {have.upper()}; accepted: {', '.join(kinds)}",
        every=("vcek", "vlek"),
    ).words("a VCEK belongs to one chip, a VLEK to a cloud provider", "kinds of signing key"),
    Field(
        name="csp_ids",
        type="list of words, or any",
        content="CSP_ID of a VLEK; not looked at for a VCEK",
        required=lambda values: (
            f"A VLEK must belong to: {in_full(values)}."
            if values
            else "No cloud provider's VLEK is accepted."
        ),
        unrestricted="A VLEK of any cloud provider is accepted.",
        risk="a provider that you have no contract with may vouch for its machines.",
        check=lambda values, path: each(values, path, word),
        pin=lambda claims, _: [] if claims.csp_id is None else [claims.csp_id],
    ),
    _one_of.machines(
        "chip_ids",
        Entry("hex64", _chip_id),
        lambda snp: snp.chip_id.hex(),
        lambda have, values, _: f"chip {have[:16]}... is not among {len(values)} enrolled",
        # A masked or VLEK-signed report names no chip and never matches a list.
        can_match=lambda have: bool(have.strip("0")),
        unnamed=UNNAMED_CHIP,
    ).words(
        "CHIP_ID; 64 zeros are refused, since every VLEK report says so",
        "chips",
        "Any chip of the accepted lines is accepted.",
        "a genuine chip in an attacker's hands, with an interposer on its memory bus, passes.",
    ),
    revocation_known(
        "the certificates were not checked against a CRL",
        "a key that AMD has revoked after a leak still passes.",
    ),
)
