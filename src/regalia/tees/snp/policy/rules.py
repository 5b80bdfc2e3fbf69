"""Rules about an SEV-SNP platform that are more than one claim against one field.

Numbers in the docstrings are the checks of docs/spec/policy.md, section "Order of evaluation".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.finding import empty, finding, listing, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_plugin import RuleInput, judges
from regalia.core.bits import bit
from regalia.tees.snp.claims import SnpClaims
from regalia.tees.snp.names import GUEST_POLICY_DEFINED, MILAN, GuestPolicyBit, PlatformInfoBit
from regalia.tees.snp.policy.fields import UNNAMED_CHIP, abi, dotted, version
from regalia.tees.snp.policy.section import Snp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.finding import Finding
    from regalia.tees.snp.policy.section import IdBlock, TcbMinimum

VLEK = "vlek"
SnpRuleInput = RuleInput[Snp, SnpClaims]


@judges("guest_policy.abi_major_min", "guest_policy.abi_minor_min")
def guest_policy_shape(case: SnpRuleInput) -> Iterator[Finding]:
    """(4) Reserved bits of the guest POLICY, and the ABI version that the guest insists on."""
    want, have, seen = case.section.guest_policy, case.claims.policy, abi(case.claims)
    wrong: list[str] = []
    if not bit(have, GuestPolicyBit.RESERVED_ONE):
        wrong.append("bit 17, which must be one, is zero")
    if have & ~GUEST_POLICY_DEFINED:
        wrong.append("bits that must be zero are set")
    if seen < (want.abi_major_min, want.abi_minor_min):
        wrong.append(f"ABI {dotted(seen)} is below {want.abi_major_min}.{want.abi_minor_min}")
    for each in wrong:
        yield finding(PolicyCode.POLICY_BIT, f"guest policy {have:#x}: {each}")


_NAME_CHIP = "List this chip's id in chip_ids if the machine is in your own custody."


@judges("products", "chip_ids")
def product(case: SnpRuleInput) -> Iterator[Finding]:
    """(5) Product lines. Milan's signing seed can be extracted in software (arXiv 2605.12990),
    so there only a chip that the owner names by itself is accepted.
    """
    accepted = case.section.products
    if not accepted:
        yield empty(f"{case.path}.products")
    elif case.claims.product not in accepted:
        yield finding(
            PolicyCode.PRODUCT_DENIED,
            f"product {case.claims.product}; accepted: {listing(accepted)}",
        )
    elif case.claims.product == MILAN and not _names_chip(case):
        names_one = any(case.claims.chip_id)
        yield finding(
            PolicyCode.PRODUCT_DENIED,
            "product Milan: reports can be forged for chips in an attacker's hands, and "
            + ("chip_ids does not name this chip" if names_one else "this report names no chip"),
            f"{_NAME_CHIP if names_one else UNNAMED_CHIP} Better, use Genoa or Turin.",
        )


def _names_chip(case: SnpRuleInput) -> bool:
    chips = case.section.chip_ids
    return chips != "any" and any(case.claims.chip_id) and case.claims.chip_id.hex() in chips


@judges("csp_ids")
def csp_id(case: SnpRuleInput) -> Iterator[Finding]:
    """(7) For a VLEK, whose."""
    providers = case.section.csp_ids
    if case.claims.signing_key != VLEK or providers == "any":
        return
    if not providers:
        yield empty(f"{case.path}.csp_ids")
    elif case.claims.csp_id not in providers:
        yield finding(
            PolicyCode.CSP_NOT_ALLOWED,
            f"VLEK of {shown(case.claims.csp_id or 'nobody')}; accepted: {listing(providers)}",
        )


@judges("tcb_minimum")
def tcb(case: SnpRuleInput) -> Iterator[Finding]:
    """(10) Component-wise minimum for the reported, committed and launch TCB."""
    minima = case.section.tcb_minimum
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


@judges("firmware_minimum")
def firmware(case: SnpRuleInput) -> Iterator[Finding]:
    """(11) SEV firmware version: running and committed."""
    want = case.section.firmware_minimum
    if want == "any":
        return
    floor = (want.major, want.minor, want.build)
    for word, have in (
        ("current", version(case.claims.current_firmware)),
        ("committed", version(case.claims.committed_firmware)),
    ):
        if have < floor:
            yield finding(
                PolicyCode.FIRMWARE_BELOW_MINIMUM,
                f"{word} SEV firmware {dotted(have)} is below {dotted(floor)}",
            )


@judges("mitigations_required")
def mitigations(case: SnpRuleInput) -> Iterator[Finding]:
    """(13) Mitigation vectors, at launch and now. Reports before version 5 carry none."""
    want = case.section.mitigations_required
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


@judges("platform_info_required")
def platform_info(case: SnpRuleInput) -> Iterator[Finding]:
    """(14) PLATFORM_INFO bits that must be set. A name that is not known counts as missing."""
    for name in case.section.platform_info_required:
        index = PlatformInfoBit.__members__.get(name)
        if index is None or not bit(case.claims.platform_info, index):
            yield finding(
                PolicyCode.PLATFORM_FLAG_MISSING,
                f"PLATFORM_INFO {case.claims.platform_info:#x} lacks {shown(name)}",
            )


@judges("measurements", "id_blocks")
def workload(case: SnpRuleInput) -> Iterator[Finding]:
    """(16) What runs: the measurement, the ID block, or both. Neither is no policy."""
    has_id_block = any(case.claims.id_key_digest)
    if case.section.measurements == "any" and (case.section.id_blocks == "any" or not has_id_block):
        yield finding(
            PolicyCode.WORKLOAD_UNPINNED,
            "measurements is open, and no ID block signed by a listed key takes its place",
        )


@judges("id_blocks")
def id_block(case: SnpRuleInput) -> Iterator[Finding]:
    """(16) One entry must fit as a whole: the fields of different entries are not mixed."""
    accepted = case.section.id_blocks
    if accepted == "any":
        return
    if not accepted:
        yield empty(f"{case.path}.id_blocks")
        return
    key = case.claims.id_key_digest.hex()
    by_key = [block for block in accepted if block.id_key == key]
    if not by_key:
        yield finding(
            PolicyCode.ID_KEY_UNKNOWN,
            f"{key} is not among the keys of the {len(accepted)} accepted id_blocks",
        )
        return
    refusals = [list(_differences(block, case.claims)) for block in by_key]
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
