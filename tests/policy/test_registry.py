"""Every TEE and every device has a whole policy half, and each hole of one is found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import make_policy_table as script
import msgspec
import pytest

from regalia.appraisal.condition_types import because, derived
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import BaselineWords, PinChoices
from regalia.appraisal.policy_plugin import Part, Rule, RuleInput
from regalia.policy.baseline import baseline
from regalia.policy.documents import Platform, parse_platform
from regalia.policy.registry import (
    DEVICE_PLUGINS,
    POLICY_PLUGINS,
    device_plugin_for,
    plugin_for,
    plugin_of,
)
from regalia.tees.azure.policy.fields import BOOT as BOOT_PART
from regalia.tees.azure.policy.plugin import AZURE_SNP, VM
from regalia.tees.boot.policy.plugin import BOOT
from regalia.tees.nitro.policy.plugin import NITRO
from regalia.tees.nvidia.policy.plugin import NVIDIA
from regalia.tees.snp.policy.plugin import SNP
from regalia.wire.evidence import DeviceKind, Tee
from regalia_testing.policy_holes import device_holes, plugin_holes, section_holes
from regalia_testing.policy_scenarios import POLICY_SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from regalia_testing.policy_scenario import PolicyScenario

WORDS = BaselineWords(hardware="genuine", revocation="required", machines=(), grace_days=0)


@pytest.mark.parametrize("tee", Tee)
def test_every_tee_has_a_whole_policy_half(tee: Tee) -> None:
    plugin = plugin_for(tee)
    assert list(plugin_holes(plugin, Platform)) == []
    claims = POLICY_SCENARIOS[tee]().claims
    assert plugin_of(claims) is plugin
    for machine in (True, False):
        pinned = plugin.pin(claims, PinChoices(machine=machine, config=machine))
        section = Platform(hardware="genuine", devices=[], **{plugin.name: pinned})
        assert parse_platform(section.encode()) == section
        assert list(plugin.rules(RuleInput(pinned, claims, plugin.path))) == []
    for each in plugin.explanations(plugin.path):
        assert each.path.startswith(f"{plugin.path}.")


def _put(section: Any, name: str, value: object) -> Any:  # noqa: ANN401 - any section
    """A section with another value of one field, whose name is dotted in a nested struct."""
    first, _, rest = name.partition(".")
    value = _put(getattr(section, first), rest, value) if rest else value
    return msgspec.structs.replace(section, **{first: value})


def _unpinned_holes(plugin: Any, scenario: PolicyScenario) -> Iterator[str]:  # noqa: ANN401
    """Whether a section is taken that lists machines, and says nothing of what runs on them."""
    closed = {plugin.machines, plugin.revocation}
    # In a section that has nothing but parts, each part says what runs in a place of its own.
    parts = [f"{each.name}." for each in plugin.order if isinstance(each, Part)]
    for part in parts if len(parts) == len(plugin.order) else [""]:
        section = getattr(scenario.policy.platform, plugin.name)
        for field in plugin.fields:
            if field.unrestricted and field.name.startswith(part) and field.name not in closed:
                value = "any" if field.open_value is None else field.open_value
                section = _put(section, field.name, value)
        found = list(plugin.rules(RuleInput(section, scenario.claims, plugin.path)))
        if PolicyCode.WORKLOAD_UNPINNED not in [each.code for each in found]:
            yield (
                f"{plugin.path}.{part}* accepts every program: with its fields left open, no rule "
                f"in `order` finds WORKLOAD_UNPINNED; write one, such as `workload` of "
                f"tees/nitro/policy/plugin.py"
            )


def _config_holes(plugin: Any, claims: Any) -> Iterator[str]:  # noqa: ANN401 - any TEE
    """Whether a field of the section judges the configuration, and pinning fills it."""
    recorded, other = claims.config_binding.hex(), "99" * len(claims.config_binding)
    pinned, left = (
        msgspec.json.encode(plugin.pin(claims, PinChoices(machine=True, config=config))).decode()
        for config in (True, False)
    )
    what = (
        f"{plugin.path} has no field that judges config_binding, so `policy pin` pins nothing of "
        f"the configuration. Add one with `pinned` (OneOf) or `pin` by `choices.config`, which "
        f"`--any-host-data` leaves open, as host_data (snp), mr_config_id (tdx), config_ids (sgx), "
        f"pcr16 (nitro) and register 15 of pcrs (tpm, azure) are: "
    )
    if recorded not in pinned:
        yield f"{what}a pinned section does not hold {recorded}"
    elif recorded in left:
        yield f"{what}{recorded} is pinned although the owner left it open"
    else:
        changed = msgspec.json.decode(pinned.replace(recorded, other), type=plugin.section)
        if not list(plugin.rules(RuleInput(changed, claims, plugin.path))):
            yield f"{what}a section that demands {other} accepts {recorded}"


@pytest.mark.parametrize("tee", Tee)
def test_every_tee_refuses_a_policy_that_pins_no_workload(tee: Tee) -> None:
    assert list(_unpinned_holes(plugin_for(tee), POLICY_SCENARIOS[tee]())) == []


@pytest.mark.parametrize("tee", Tee)
def test_every_tee_has_a_field_for_the_configuration(tee: Tee) -> None:
    assert list(_config_holes(plugin_for(tee), POLICY_SCENARIOS[tee]().claims)) == []


def test_a_tee_that_forgets_workload_or_configuration_is_found() -> None:
    scenario = POLICY_SCENARIOS[Tee.NITRO]()
    rules = [each for each in NITRO.order if isinstance(each, str)]
    (said,) = _unpinned_holes(replace(NITRO, order=tuple(rules)), scenario)
    assert "platform.nitro.* accepts every program" in said
    vm = replace(VM, section=replace(VM.section, order=("pcrs", BOOT_PART)))
    paravisor = AZURE_SNP.order[0]
    (said,) = _unpinned_holes(
        replace(AZURE_SNP, order=(paravisor, vm)), POLICY_SCENARIOS[Tee.AZURE_SNP]()
    )
    assert "platform.azure_snp.vm.* accepts every program" in said
    silent = replace(NITRO, order=tuple(each for each in NITRO.order if each != "pcr16"))
    never = tuple(
        replace(each, pin=lambda *_: "any") if each.name == "pcr16" else each
        for each in NITRO.fields
    )
    always = tuple(
        replace(each, pin=lambda claims, _: [claims.config_binding.hex()])
        if each.name == "pcr16"
        else each
        for each in NITRO.fields
    )
    for plugin, words in (
        (replace(NITRO, fields=never), "a pinned section does not hold"),
        (replace(NITRO, fields=always), "although the owner left it open"),
        (silent, "a section that demands 9999"),
    ):
        (said,) = _config_holes(plugin, scenario.claims)
        assert "platform.nitro has no field that judges config_binding" in said
        assert words in said


@pytest.mark.parametrize("kind", DeviceKind)
def test_every_device_has_a_whole_policy_half(kind: DeviceKind) -> None:
    assert list(device_holes(device_plugin_for(kind))) == []


def test_the_shared_part_is_whole() -> None:
    assert list(section_holes(BOOT)) == []


def test_platform_and_registry_name_the_same() -> None:
    optional = [each.name for each in msgspec.structs.fields(Platform) if each.default is None]
    assert sorted(optional) == sorted(plugin.name for plugin in POLICY_PLUGINS)
    tees = [plugin.tee for plugin in POLICY_PLUGINS]
    assert sorted(tees) == sorted(Tee)
    kinds = [kind for plugin in DEVICE_PLUGINS for kind in plugin.kinds]
    assert sorted(kinds) == sorted(DeviceKind)


def test_the_baseline_has_every_section_and_is_well_formed() -> None:
    platform = baseline(WORDS)
    assert parse_platform(platform.encode()) == platform
    assert [plugin.name for plugin in POLICY_PLUGINS if not getattr(platform, plugin.name)] == []


@dataclass(frozen=True)
class _Strange:
    tee: str = "strange"
    kind: str = "strange"


@pytest.mark.parametrize("find", [plugin_for, device_plugin_for])
def test_what_has_no_plugin_fails_loudly(find: Callable[[Any], object]) -> None:
    with pytest.raises(LookupError, match="strange"):
        find("strange")


def test_claims_of_another_class_fail_loudly() -> None:
    strange: Any = _Strange(tee=Tee.SEV_SNP)
    with pytest.raises(TypeError, match="_Strange"):
        plugin_of(strange)


def _field(name: str, **changes: Any) -> tuple[Any, ...]:  # noqa: ANN401 - any attribute
    """SNP's fields with one of them changed."""
    return tuple(replace(field, **changes) if field.name == name else field for field in SNP.fields)


NO_FINDING: Rule[Any, Any] = Rule(("no_such_field",), lambda _: iter(()))
HOLES: Mapping[str, tuple[Callable[[], Any], str]] = {
    "no_member": (lambda: replace(SNP, name="snap"), "no optional member snap"),
    "no_field": (lambda: replace(SNP, fields=SNP.fields[1:]), "the struct has"),
    "order_of_fields": (lambda: replace(SNP, fields=SNP.fields[::-1]), "the struct has"),
    "no_words_for_any": (
        lambda: replace(SNP, fields=_field("chip_ids", unrestricted="")),
        "chip_ids may be left open",
    ),
    "no_risk": (lambda: replace(SNP, fields=_field("chip_ids", risk="")), "chip_ids may be left"),
    "words_for_nothing": (
        lambda: replace(SNP, fields=_field("vmpl", unrestricted="Any.", risk="much.")),
        "vmpl cannot be left open",
    ),
    "no_row": (lambda: replace(SNP, fields=_field("vmpl", content="")), "vmpl has no content"),
    "no_entry_words": (
        lambda: replace(SNP, fields=_field("id_blocks", entries=())),
        "entries of id_blocks may leave open ['author_key', 'family_id', 'image_id']",
    ),
    "no_rule": (
        lambda: replace(SNP, order=tuple(each for each in SNP.order if each != "vmpl")),
        "no rule judges vmpl",
    ),
    "comparison_forgotten": (  # another rule judges the field too, so that is not enough
        lambda: replace(SNP, order=tuple(each for each in SNP.order if each != "measurements")),
        "the comparison of measurements never runs",
    ),
    "rule_of_nothing": (
        lambda: replace(SNP, order=(*SNP.order, NO_FINDING)),
        "a rule judges no_such_field",
    ),
    "no_machines": (lambda: replace(SNP, machines="chips"), "chips is no field"),
    "no_revocation": (lambda: replace(SNP, revocation="crl"), "crl is no field"),
    "unseen_claim": (
        lambda: replace(SNP, conditions={k: v for k, v in SNP.conditions.items() if k != "vmpl"}),
        "conditions do not see the claim vmpl",
    ),
    "no_reason": (
        lambda: replace(SNP, left_out={**SNP.left_out, "report_id": ""}),
        "conditions do not see the claim report_id",
    ),
}


@pytest.mark.parametrize("name", HOLES)
def test_each_hole_of_a_tee_is_found(name: str) -> None:
    make, words = HOLES[name]
    found = list(plugin_holes(make(), Platform))
    assert found, name
    assert words in found[0]


def test_each_hole_of_a_device_is_found() -> None:
    for plugin, words in (
        (replace(NVIDIA, kinds=()), "of no kind"),
        (replace(NVIDIA, order=NVIDIA.order[:-1]), "no rule judges revocation"),
        (replace(NVIDIA, conditions={}), "do not see the claim model"),
        (replace(NVIDIA, fields=NVIDIA.fields[:-1], order=NVIDIA.order[:-1]), "the struct has"),
    ):
        assert words in "\n".join(device_holes(plugin))


@pytest.mark.parametrize("name", ["no_such_field", "guest_policy.abi_major_min"])
def test_an_order_that_names_no_comparison_is_no_section(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        replace(SNP, order=(*SNP.order, name))


def test_a_struct_without_a_value_for_a_member_is_not_built() -> None:
    with pytest.raises(TypeError, match="chip_ids"):
        replace(
            SNP, fields=tuple(field for field in SNP.fields if field.name != "chip_ids"), order=()
        ).baseline(WORDS)


@dataclass(frozen=True)
class _Claims:
    number: int
    secret: bytes
    strange: complex


def test_a_claim_that_conditions_cannot_read_is_no_claim_that_is_left_out() -> None:
    with pytest.raises(TypeError, match="strange"):
        derived(_Claims)
    left_out = because("nobody knows what it means", "strange")
    assert list(derived(_Claims, left_out=left_out)) == ["number", "secret"]
    with pytest.raises(TypeError, match="stranger"):
        derived(_Claims, left_out=left_out | because("it is none", "stranger"))


def test_the_pages_have_every_table_as_the_fields_have_it() -> None:
    texts = [page.read_text(encoding="utf-8") for page in script.pages()]
    for text in texts:
        assert script.page(text) == text, "run: python scripts/make_policy_table.py"
    named = [name for text in texts for name in script.named(text)]
    assert sorted(named) == sorted(script.tables())
    shown = {row[0] for rows in script.tables().values() for row in rows}
    for plugin in POLICY_PLUGINS:
        for field in plugin.fields:
            name = field.name.removeprefix("paravisor.").removeprefix("vm.").removeprefix("boot.")
            assert name in shown, field.name
