"""Property: tightening a policy never turns a denial into consent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from regalia.appraisal.claims import MINT, Hardware, Revocation
from regalia.policy.verdict import Deny
from regalia.tees.snp.claims import Firmware
from regalia.tees.snp.policy.section import FirmwareMinimum, TcbMinimum
from regalia_testing.policy_defects import NO_ID_BLOCK
from regalia_testing.policy_scenario import ID_BLOCK, changed
from regalia_testing.tees.nvidia.policy import gpu_entry

if TYPE_CHECKING:
    from regalia.policy.documents import ReleasePolicy
    from regalia_testing.policy_scenario import PolicyScenario

SNP = "platform.snp"
GUEST = f"{SNP}.guest_policy"

OTHER_IMAGE = msgspec.structs.replace(ID_BLOCK, image_id="79" * 16, guest_svn_minimum=0)

# Field, values that mean something to the scenario. "any" is accepted by all of them.
LISTS: dict[str, tuple[Any, ...]] = {
    f"{SNP}.measurements": ("11" * 48, "12" * 48),
    f"{SNP}.host_data": ("00" * 32,),
    f"{SNP}.id_blocks": (ID_BLOCK, NO_ID_BLOCK, OTHER_IMAGE),
    f"{SNP}.csp_ids": ("cloud-1", "cloud-2"),
    f"{SNP}.chip_ids": ("44" * 64, "45" * 64),
    "placement.regions": ("eu-west", "us-east"),
    "placement.sites": ("hall-1", "hall-2"),
    "placement.tiers": ("own", "reseller"),
    "runtime.egress": ("store.example:443", "evil.example:443"),
    "runtime.opens": ("logprobs", "tokenize"),
    "runtime.adapters": (f"model:{'ad' * 32}", f"model:{'ae' * 32}"),
}
CLOSED_LISTS: dict[str, tuple[Any, ...]] = {
    f"{SNP}.products": ("Genoa", "Turin", "Milan"),
    f"{SNP}.vmpl": (0, 1),
    f"{SNP}.signing_keys": ("vcek", "vlek"),
    "custody": ("broker", "hsm"),
}
FLOORS = (
    "model.version_minimum",
    f"{SNP}.report_version_minimum",
    f"{GUEST}.abi_major_min",
    f"{GUEST}.abi_minor_min",
    "approvals.threshold",
)
CEILINGS = ("freshness.challenge_max_age_s", "holders_max")
SWITCHES = {  # field: (open, closed)
    f"{GUEST}.smt": ("allow", "deny"),
    f"{GUEST}.cxl": ("allow", "deny"),
    f"{GUEST}.single_socket": ("any", "required"),
    f"{GUEST}.mem_aes_256_xts": ("any", "required"),
    f"{GUEST}.rapl_dis": ("any", "required"),
    f"{GUEST}.ciphertext_hiding": ("any", "required"),
    f"{GUEST}.page_swap_disable": ("any", "required"),
    f"{SNP}.provisional_firmware": ("allow", "deny"),
    f"{SNP}.revocation": ("any", "required"),
}
BITS = ("ALIAS_CHECK_COMPLETE", "ECC_EN", "SMT_EN", "TSME_EN")
CONDITIONS = ("true", "false", "claims.vmpl == 0", "nonsense", "claims.guest_svn > 5")


def _get(document: msgspec.Struct, path: str) -> Any:  # noqa: ANN401 - any field
    for name in path.split("."):
        document = getattr(document, name)
    return document


def _tcb_minimum(data: st.DataObject) -> dict[str, TcbMinimum]:
    products = data.draw(st.lists(st.sampled_from(["Genoa", "Milan"]), unique=True))
    low, high = data.draw(st.integers(0, 22)), data.draw(st.integers(70, 74))
    return {
        product: TcbMinimum(fmc=0, bootloader=0, tee=0, snp=low, microcode=high)
        for product in products
    }


@st.composite
def policies(draw: st.DrawFn, scenario: PolicyScenario) -> ReleasePolicy:
    """Some policy around the scenario's: a few fields are drawn anew, mostly more open."""
    policy = scenario.policy
    data = draw(st.data())
    for path in data.draw(st.lists(st.sampled_from([*LISTS, *CLOSED_LISTS]), max_size=4)):
        if path in LISTS and data.draw(st.booleans()):
            policy = changed(policy, path, "any")
        else:
            values = LISTS.get(path) or CLOSED_LISTS[path]
            chosen = data.draw(st.lists(st.sampled_from(values), unique=True))
            policy = changed(policy, path, chosen)
    for path in data.draw(st.lists(st.sampled_from(list(SWITCHES)), max_size=2)):
        policy = changed(policy, path, data.draw(st.sampled_from(SWITCHES[path])))
    if data.draw(st.booleans()):
        policy = changed(policy, f"{SNP}.tcb_minimum", "any")
    elif data.draw(st.booleans()):
        policy = changed(policy, f"{SNP}.tcb_minimum", _tcb_minimum(data))
    if data.draw(st.booleans()):
        policy = changed(policy, f"{SNP}.firmware_minimum", "any")
    if data.draw(st.booleans()):
        policy = changed(policy, "runtime.owner_key", "any")
    return policy


@st.composite
def cases(draw: st.DrawFn, scenario: PolicyScenario) -> PolicyScenario:
    """Some claims and context around the scenario's, with up to two defects."""
    claims = scenario.claims
    tcb = replace(claims.reported_tcb, snp=20)
    one = st.sampled_from(
        [
            {"hardware": Hardware.SIMULATED},
            {"policy": claims.policy ^ 1 << draw(st.sampled_from([0, 8, 16, *range(18, 26)]))},
            {"product": "Milan"},
            {"product": "Turin"},
            {"report_version": 2},
            {"signing_key": "vlek", "csp_id": draw(st.sampled_from(["cloud-1", "cloud-2"]))},
            {"revocation": Revocation.UNKNOWN},
            {"chip_id": bytes(64)},
            {"reported_tcb": tcb},
            {"launch_tcb": tcb},
            {"current_tcb": tcb},
            {"committed_firmware": Firmware(1, 54, 1)},
            {"current_mit_vector": 1},
            {"platform_info": 1},
            {"vmpl": 1},
            {"measurement": b"\x12" * 48},
            {"measurement": b"\x13" * 48},
            {"id_key_digest": bytes(48)},
            {"image_id": b"\x79" * 16},
            {"guest_svn": 9},
        ]
    )
    for fields in draw(st.lists(one, max_size=2)):
        claims = replace(claims, mint=MINT, **fields)
    context = st.sampled_from(
        [{}, {}, {"age_s": 61.0}, {"holders": 3}, {"custody": "hsm"}, {"approvals": frozenset()}]
    )
    return replace(scenario, claims=claims, **draw(context))


def _tighten_list(data: st.DataObject, policy: ReleasePolicy) -> ReleasePolicy:
    path = data.draw(st.sampled_from([*LISTS, *CLOSED_LISTS]))
    value = _get(policy, path)
    if value == "any":
        chosen = data.draw(st.lists(st.sampled_from(LISTS[path]), unique=True))
        return changed(policy, path, chosen)
    return changed(
        policy,
        path,
        data.draw(st.lists(st.sampled_from(value), unique=True) if value else st.just([])),
    )


def _tighten_number(data: st.DataObject, policy: ReleasePolicy) -> ReleasePolicy:
    step = data.draw(st.integers(1, 60))
    path = data.draw(st.sampled_from([*FLOORS, *CEILINGS]))
    value = _get(policy, path)
    return changed(policy, path, value + step if path in FLOORS else value - step)


def _tighten_tcb(data: st.DataObject, policy: ReleasePolicy) -> ReleasePolicy:
    path = f"{SNP}.tcb_minimum"
    minima = _get(policy, path)
    if minima == "any":
        return changed(policy, path, _tcb_minimum(data))
    if not minima:
        return policy
    product = data.draw(st.sampled_from(sorted(minima)))
    if data.draw(st.booleans()):
        return changed(policy, path, {key: low for key, low in minima.items() if key != product})
    field = data.draw(st.sampled_from(["fmc", "bootloader", "tee", "snp", "microcode"]))
    raised = msgspec.structs.replace(
        minima[product], **{field: getattr(minima[product], field) + 1}
    )
    return changed(policy, path, {**minima, product: raised})


def _tighten_firmware(data: st.DataObject, policy: ReleasePolicy) -> ReleasePolicy:
    path = f"{SNP}.firmware_minimum"
    low = _get(policy, path)
    minor, build = data.draw(st.sampled_from([(54, 0), (55, 40), (55, 41), (58, 1)]))
    floor = (1, minor, build)
    if low != "any":
        floor = max(floor, (low.major, low.minor, low.build))
    new = FirmwareMinimum(major=floor[0], minor=floor[1], build=floor[2])
    return changed(policy, path, new)


def _tighten_word(data: st.DataObject, policy: ReleasePolicy) -> ReleasePolicy:
    path = data.draw(st.sampled_from(list(SWITCHES)))
    return changed(policy, path, SWITCHES[path][1])


def _tighten_lists(data: st.DataObject, policy: ReleasePolicy) -> ReleasePolicy:
    """Demand a platform flag, a device or a condition more, or accept one approver less."""
    path, more = data.draw(
        st.sampled_from(
            [
                (f"{SNP}.platform_info_required", data.draw(st.sampled_from(BITS))),
                ("platform.devices", gpu_entry()),
                ("conditions", data.draw(st.sampled_from(CONDITIONS))),
                ("approvals.approvers", None),
            ]
        )
    )
    have = _get(policy, path)
    return changed(policy, path, have[1:] if more is None else [*have, more])


def _tighten_any(data: st.DataObject, policy: ReleasePolicy) -> ReleasePolicy:
    """Close what is open: a key, or the mitigations."""
    field = data.draw(st.sampled_from(["owner_key", "log_key", "mitigations"]))
    more = data.draw(st.integers(0, 15))
    if field == "mitigations":
        have = policy.platform.snp.mitigations_required
        bits = more | (0 if have == "any" else have)
        return changed(policy, f"{SNP}.mitigations_required", bits)
    if getattr(policy.runtime, field) != "any":
        return policy
    return changed(policy, f"runtime.{field}", "somebody else's")


TIGHTENINGS = (
    _tighten_list,
    _tighten_number,
    _tighten_tcb,
    _tighten_firmware,
    _tighten_word,
    _tighten_lists,
    _tighten_any,
)


def _wants_a_name(scenario: PolicyScenario) -> set[str]:
    """Denials whose reason is that something was left open: naming it may cure them."""
    snp = scenario.policy.platform.snp
    codes = {"WORKLOAD_UNPINNED"}
    if scenario.claims.product == "Milan" and "Milan" in snp.products and snp.chip_ids == "any":
        codes.add("PRODUCT_DENIED")
    return codes


@given(data=st.data())
@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_tightening_never_allows_more(scenario: PolicyScenario, data: st.DataObject) -> None:
    policy = data.draw(policies(scenario))
    before = replace(data.draw(cases(scenario)), policy=policy)
    tighter = policy
    for _ in range(data.draw(st.integers(1, 3))):
        tighter = data.draw(st.sampled_from(TIGHTENINGS))(data, tighter)
    verdict = before.verdict()
    after = replace(before, policy=tighter).verdict()
    event(f"{type(verdict).__name__} -> {type(after).__name__}")
    assume(set(before.codes()) - _wants_a_name(before))
    assert isinstance(after, Deny), (before.codes(), after)


@given(data=st.data())
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_same_facts_get_the_same_verdict(scenario: PolicyScenario, data: st.DataObject) -> None:
    case = data.draw(cases(scenario))
    assert case.verdict() == case.verdict()
