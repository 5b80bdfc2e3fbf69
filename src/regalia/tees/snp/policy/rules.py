"""Rules about an SEV-SNP platform: one function for each, in the order of appraisal.

Numbers in the docstrings are the checks of docs/spec/policy.md, section "Order of evaluation".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.claims import Revocation
from regalia.appraisal.finding import Finding, empty, finding, listing, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.core.bits import bit
from regalia.tees.snp.names import (
    ABI_MAJOR_SHIFT,
    ABI_MINOR_MASK,
    GUEST_POLICY_DEFINED,
    MILAN,
    GuestPolicyBit,
    PlatformInfoBit,
)

if TYPE_CHECKING:
    from regalia.tees.snp.claims import Firmware, SnpClaims
    from regalia.tees.snp.policy.section import IdBlock, Snp, TcbMinimum

VLEK = "vlek"
# Words of the policy, and bits by which the guest insists on a protection of its platform.
_DEMANDED_BITS = (
    ("mem_aes_256_xts", GuestPolicyBit.MEM_AES_256_XTS),
    ("rapl_dis", GuestPolicyBit.RAPL_DIS),
    ("ciphertext_hiding", GuestPolicyBit.CIPHERTEXT_HIDING_DRAM),
    ("page_swap_disable", GuestPolicyBit.PAGE_SWAP_DISABLE),
)


@dataclass(frozen=True, slots=True)
class SnpRuleInput:
    """What every rule here looks at."""

    rule: Snp
    claims: SnpClaims


SnpRule = Callable[[SnpRuleInput], Iterator[Finding]]


def snp_findings(rule: Snp, claims: SnpClaims) -> Iterator[Finding]:
    """All findings about the platform, in the order of the rules."""
    case = SnpRuleInput(rule, claims)
    for each in SNP_RULES:
        yield from each(case)


def guest_policy(case: SnpRuleInput) -> Iterator[Finding]:
    """(4) The other bits of the guest POLICY, and the ABI version that the guest insists on."""
    want = case.rule.guest_policy
    have = case.claims.policy
    abi = ((have >> ABI_MAJOR_SHIFT) & ABI_MINOR_MASK, have & ABI_MINOR_MASK)
    wrong: list[str] = []
    if not bit(have, GuestPolicyBit.RESERVED_ONE):
        wrong.append("bit 17, which must be one, is zero")
    if have & ~GUEST_POLICY_DEFINED:
        wrong.append("bits that must be zero are set")
    if abi < (want.abi_major_min, want.abi_minor_min):
        wrong.append(f"ABI {abi[0]}.{abi[1]} is below {want.abi_major_min}.{want.abi_minor_min}")
    if want.smt != "allow" and bit(have, GuestPolicyBit.SMT):
        wrong.append("SMT is allowed (bit 16)")
    if want.single_socket != "any" and not bit(have, GuestPolicyBit.SINGLE_SOCKET):
        wrong.append("a single socket is not required (bit 20)")
    if want.cxl != "allow" and bit(have, GuestPolicyBit.CXL_ALLOW):
        wrong.append("CXL is allowed (bit 21)")
    wrong += [
        f"{index.name} is not demanded (bit {index.value})"
        for name, index in _DEMANDED_BITS
        if getattr(want, name) != "any" and not bit(have, index)
    ]
    for each in wrong:
        yield finding(PolicyCode.POLICY_BIT, f"guest policy {have:#x}: {each}")


def product(case: SnpRuleInput) -> Iterator[Finding]:
    """(5) Product lines. Milan's signing seed can be extracted in software (arXiv 2605.12990),
    so there only a chip that the owner names by itself is accepted.
    """
    accepted = case.rule.products
    if not accepted:
        yield empty("platform.snp.products")
    elif case.claims.product not in accepted:
        yield finding(
            PolicyCode.PRODUCT_DENIED,
            f"product {case.claims.product}; accepted: {listing(accepted)}",
        )
    elif case.claims.product == MILAN and not _names_chip(case):
        yield finding(
            PolicyCode.PRODUCT_DENIED,
            "product Milan: reports can be forged for chips in an attacker's hands, and chip_ids"
            " does not name this chip",
            "List this chip's id in chip_ids if the machine is in your own custody; better, use"
            " Genoa or Turin.",
        )


def _names_chip(case: SnpRuleInput) -> bool:
    chips = case.rule.chip_ids
    return chips != "any" and any(case.claims.chip_id) and case.claims.chip_id.hex() in chips


def report_version(case: SnpRuleInput) -> Iterator[Finding]:
    """(6) The report's version."""
    want = case.rule.report_version_minimum
    if case.claims.report_version < want:
        yield finding(
            PolicyCode.REPORT_VERSION_TOO_OLD,
            f"report version {case.claims.report_version}; at least {want}",
        )


def signing_key(case: SnpRuleInput) -> Iterator[Finding]:
    """(7) VCEK or VLEK, and for a VLEK whose."""
    kinds: list[str] = list(case.rule.signing_keys)
    if not kinds:
        yield empty("platform.snp.signing_keys")
    elif case.claims.signing_key not in kinds:
        yield finding(
            PolicyCode.SIGNING_KEY_DENIED,
            f"signed with a {case.claims.signing_key.upper()}; accepted: {', '.join(kinds)}",
        )
    providers = case.rule.csp_ids
    if case.claims.signing_key != VLEK or providers == "any":
        return
    if not providers:
        yield empty("platform.snp.csp_ids")
    elif case.claims.csp_id not in providers:
        yield finding(
            PolicyCode.CSP_NOT_ALLOWED,
            f"VLEK of {shown(case.claims.csp_id or 'nobody')}; accepted: {listing(providers)}",
        )


def revocation(case: SnpRuleInput) -> Iterator[Finding]:
    """(8) Whether a CRL was checked."""
    if case.rule.revocation != "any" and case.claims.revocation is Revocation.UNKNOWN:
        yield finding(
            PolicyCode.REVOCATION_UNKNOWN, "the certificates were not checked against a CRL"
        )


def chip(case: SnpRuleInput) -> Iterator[Finding]:
    """(9) Enrolled chips. A masked or VLEK-signed report names none and never matches a list."""
    accepted = case.rule.chip_ids
    if accepted == "any":
        return
    if not accepted:
        yield empty("platform.snp.chip_ids")
    elif not _names_chip(case):
        yield finding(
            PolicyCode.INSTANCE_NOT_ALLOWED,
            f"chip {case.claims.chip_id.hex()[:16]}... is not among {len(accepted)} enrolled",
            f"Run on an enrolled machine, or add {case.claims.chip_id.hex()} to chip_ids after"
            " checking where it stands.",
        )


def tcb(case: SnpRuleInput) -> Iterator[Finding]:
    """(10) Component-wise minimum for the reported, committed and launch TCB."""
    minima = case.rule.tcb_minimum
    if minima == "any":
        return
    minimum = minima.get(case.claims.product)
    if minimum is None:
        yield finding(
            PolicyCode.TCB_NO_MINIMUM,
            f"tcb_minimum says nothing about product {case.claims.product}",
        )
        return
    for word, have in (
        ("reported", case.claims.reported_tcb),
        ("committed", case.claims.committed_tcb),
        ("launch", case.claims.launch_tcb),
    ):
        low = _below(have.components(), minimum)
        if low:
            yield finding(PolicyCode.TCB_BELOW_MINIMUM, f"{word} TCB: {low}", _tcb_fix(word))


def _below(have: dict[str, int], minimum: TcbMinimum) -> str:
    want = {name: int(getattr(minimum, name)) for name in have}
    return ", ".join(
        f"{name} {have[name]} is below {want[name]}" for name in have if have[name] < want[name]
    )


def _tcb_fix(word: str) -> str:
    if word == "launch":
        return "The host's firmware was older when the guest started: start the guest again."
    if word == "committed":
        return "Update the firmware on the host and commit it (SNP_COMMIT)."
    return "Update BIOS and SEV firmware on the host, and let it report the new TCB."


def firmware(case: SnpRuleInput) -> Iterator[Finding]:
    """(11) SEV firmware version: running and committed."""
    want = case.rule.firmware_minimum
    if want == "any":
        return
    floor = (want.major, want.minor, want.build)
    for word, have in (
        ("current", case.claims.current_firmware),
        ("committed", case.claims.committed_firmware),
    ):
        if _version(have) < floor:
            yield finding(
                PolicyCode.FIRMWARE_BELOW_MINIMUM,
                f"{word} SEV firmware {_dotted(_version(have))} is below {_dotted(floor)}",
            )


def _version(value: Firmware) -> tuple[int, int, int]:
    return (value.major, value.minor, value.build)


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(str(part) for part in version)


def provisional(case: SnpRuleInput) -> Iterator[Finding]:
    """(12) Current against committed: what is not committed can be rolled back."""
    if case.rule.provisional_firmware == "allow":
        return
    committed = case.claims.committed_tcb.components()
    differ = [
        f"{name} {have} (committed {committed[name]})"
        for name, have in case.claims.current_tcb.components().items()
        if have != committed[name]
    ]
    if case.claims.current_firmware != case.claims.committed_firmware:
        differ.append(
            f"SEV firmware {_dotted(_version(case.claims.current_firmware))}"
            f" (committed {_dotted(_version(case.claims.committed_firmware))})"
        )
    if differ:
        yield finding(
            PolicyCode.TCB_PROVISIONAL, f"current firmware is not committed: {', '.join(differ)}"
        )


def mitigations(case: SnpRuleInput) -> Iterator[Finding]:
    """(13) Mitigation vectors, at launch and now. Reports before version 5 carry none."""
    want = case.rule.mitigations_required
    if want == "any":
        return
    for word, have in (
        ("launch", case.claims.launch_mit_vector),
        ("current", case.claims.current_mit_vector),
    ):
        if have & want != want:
            yield finding(
                PolicyCode.MITIGATION_MISSING,
                f"{word} mitigation vector {have:#x} lacks bits {want & ~have:#x}",
            )


def platform_info(case: SnpRuleInput) -> Iterator[Finding]:
    """(14) PLATFORM_INFO bits that must be set. A name that is not known counts as missing."""
    for name in case.rule.platform_info_required:
        index = PlatformInfoBit.__members__.get(name)
        if index is None or not bit(case.claims.platform_info, index):
            yield finding(
                PolicyCode.PLATFORM_FLAG_MISSING,
                f"PLATFORM_INFO {case.claims.platform_info:#x} lacks {shown(name)}",
            )


def vmpl(case: SnpRuleInput) -> Iterator[Finding]:
    """(15) The privilege level that asked for the report."""
    accepted = case.rule.vmpl
    if not accepted:
        yield empty("platform.snp.vmpl")
    elif case.claims.vmpl not in accepted:
        names = ", ".join(str(level) for level in accepted)
        yield finding(PolicyCode.VMPL_MISMATCH, f"VMPL {case.claims.vmpl}; accepted: {names}")


def workload(case: SnpRuleInput) -> Iterator[Finding]:
    """(16) What runs: the measurement, the ID block, or both. Neither is no policy."""
    measurements, id_blocks = case.rule.measurements, case.rule.id_blocks
    has_id_block = any(case.claims.id_key_digest)
    if measurements == "any" and (id_blocks == "any" or not has_id_block):
        yield finding(
            PolicyCode.WORKLOAD_UNPINNED,
            "measurements is open, and no ID block signed by a listed key takes its place",
        )
    if measurements != "any":
        yield from _listed(
            measurements, case.claims.measurement, "measurements", PolicyCode.MEASUREMENT_UNKNOWN
        )
    if id_blocks != "any":
        yield from _id_block(id_blocks, case.claims)


def _id_block(accepted: list[IdBlock], claims: SnpClaims) -> Iterator[Finding]:
    """One entry must fit as a whole: the fields of different entries are not mixed."""
    if not accepted:
        yield empty("platform.snp.id_blocks")
        return
    key = claims.id_key_digest.hex()
    by_key = [block for block in accepted if block.id_key == key]
    if not by_key:
        yield finding(
            PolicyCode.ID_KEY_UNKNOWN,
            f"{key} is not among the keys of the {len(accepted)} accepted id_blocks",
        )
        return
    refusals = [list(_differences(block, claims)) for block in by_key]
    if all(refusals):
        nearest = min(refusals, key=len)
        yield finding(PolicyCode.ID_BLOCK_DENIED, f"the ID block's {'; '.join(nearest)}")


def _differences(block: IdBlock, claims: SnpClaims) -> Iterator[str]:
    for name, have, want in (
        ("AUTHOR_KEY_DIGEST", claims.author_key_digest, block.author_key),
        ("FAMILY_ID", claims.family_id, block.family_id),
        ("IMAGE_ID", claims.image_id, block.image_id),
    ):
        if want not in {"any", have.hex()}:
            yield f"{name} is {have.hex()}, accepted is {shown(want)}"
    if claims.guest_svn < block.guest_svn_minimum:
        yield f"GUEST_SVN is {claims.guest_svn}, at least {block.guest_svn_minimum} is accepted"


def host_data(case: SnpRuleInput) -> Iterator[Finding]:
    """(17) HOST_DATA, the digest of the runtime configuration."""
    accepted = case.rule.host_data
    if accepted != "any":
        yield from _listed(
            accepted, case.claims.host_data, "host_data", PolicyCode.HOST_DATA_UNKNOWN
        )


def _listed(accepted: list[str], have: bytes, field: str, code: PolicyCode) -> Iterator[Finding]:
    if not accepted:
        yield empty(f"platform.snp.{field}")
    elif have.hex() not in accepted:
        yield finding(code, f"{have.hex()} is not among the {len(accepted)} accepted {field}")


SNP_RULES: tuple[SnpRule, ...] = (
    guest_policy,
    product,
    report_version,
    signing_key,
    revocation,
    chip,
    tcb,
    firmware,
    provisional,
    mitigations,
    platform_info,
    vmpl,
    workload,
    host_data,
)
