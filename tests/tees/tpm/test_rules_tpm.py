"""The TPM section: what pins the workload, pinning, sentences, conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.appraisal.policy_field import PinChoices
from regalia.core.errors import ParseError
from regalia.policy.baseline import BaselineWords, baseline
from regalia.policy.documents import parse_release_policy
from regalia.policy.explain import explain_policy
from regalia.policy.platform import PlatformRules
from regalia.tees.tpm.claims import AkBinding
from regalia.tees.tpm.policy.plugin import TPM as TPM_POLICY
from regalia.tees.tpm.policy.section import Tpm
from regalia_testing.tees.tpm.policy import (
    COMMAND_LINE,
    TPM,
    boot,
    tpm_claims,
    tpm_scenario,
)

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import PolicyScenario

OPEN = (
    "eks",
    "manufacturers",
    "firmware_minimum",
    "pcrs",
    "boot.event_log",
    "boot.secure_boot",
    "boot.boot_images",
    "boot.loader_texts",
    "boot.loader_digests",
    "same_boot",
    "revocation",
)


@pytest.fixture
def tpm(scenario: PolicyScenario) -> PolicyScenario:
    return tpm_scenario(scenario)


def test_the_workload_is_pinned_by_a_register_or_by_what_was_started(tpm: PolicyScenario) -> None:
    by_images = tpm.demand(f"{TPM}.pcrs", "any")
    assert by_images.codes() == []
    by_register = tpm.demand(f"{TPM}.boot.boot_images", "any")
    assert by_register.codes() == []
    for register in ("4", "8", "9", "11"):
        value = tpm_claims(b"").pcrs[int(register)].hex()
        assert by_register.demand(f"{TPM}.pcrs", {register: [value]}).codes() == []
    neither = by_images.demand(f"{TPM}.boot.boot_images", "any")
    assert neither.codes() == ["WORKLOAD_UNPINNED"]


def test_a_log_is_asked_for_where_a_rule_needs_one(tpm: PolicyScenario) -> None:
    without = tpm.attest(boot=None)
    for path in ("event_log", "secure_boot", "boot_images", "loader_texts", "loader_digests"):
        without = without.demand(f"{TPM}.boot.{path}", "any")
    assert without.codes() == []
    for path, value in (
        ("event_log", "required"),
        ("secure_boot", "required"),
        ("boot_images", ["04" * 32]),
        ("loader_texts", [COMMAND_LINE]),
    ):
        assert without.demand(f"{TPM}.boot.{path}", value).codes() == ["EVENT_LOG_INSUFFICIENT"]


def test_a_firmware_debugger_has_no_word(tpm: PolicyScenario) -> None:
    for path in OPEN:
        tpm = tpm.demand(f"{TPM}.{path}", "any")
    tpm = tpm.demand(f"{TPM}.pcrs", {"4": ["04" * 32]})
    assert boot(firmware_debugger=True)(tpm).codes() == ["BOOT_DENIED"]


def test_many_strangers_are_not_all_told(tpm: PolicyScenario) -> None:
    texts = tuple(f"text {n}" for n in range(100))
    codes = boot(loader_texts=texts)(tpm).codes()
    assert set(codes) == {"BOOT_STEP_UNKNOWN"}
    assert len(codes) < 10


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("eks", ["44" * 31]),
        ("eks", ["44" * 32, "44" * 32]),
        ("manufacturers", ["any"]),
        ("firmware_minimum", {"id:1": "07"}),
        ("firmware_minimum", {"any": "00" * 8}),
        ("pcrs", {"24": ["00" * 32]}),
        ("pcrs", {"04": ["00" * 32]}),
        ("pcrs", {"4": ["00" * 48]}),
        ("boot.boot_images", ["00" * 20]),
        ("boot.loader_texts", [""]),
        ("boot.loader_texts", ["x" * 4097]),
        ("boot.loader_texts", "any"),  # without loader_digests
        ("boot.loader_digests", "any"),
    ],
)
def test_documents_that_are_not_well_formed(tpm: PolicyScenario, path: str, value: Any) -> None:  # noqa: ANN401 - any field
    policy = tpm.demand(f"{TPM}.{path}", value).policy
    with pytest.raises(ParseError) as refusal:
        parse_release_policy(policy.encode())
    assert "platform.tpm" in refusal.value.what


def test_every_field_has_a_sentence(tpm: PolicyScenario) -> None:
    text = "\n".join(explain_policy(tpm.policy))
    for value in ("44" * 32, "id:58595A00 at least", "PCR4 one of", COMMAND_LINE, "rebooted"):
        assert value in text


@pytest.mark.parametrize("pin_machine", [False, True])
@pytest.mark.parametrize("pin_config", [False, True])
def test_what_is_pinned_is_met(tpm: PolicyScenario, *, pin_machine: bool, pin_config: bool) -> None:
    section = TPM_POLICY.pin(_claims(tpm), PinChoices(machine=pin_machine, config=pin_config))
    pinned = tpm.demand(TPM, section)
    assert pinned.codes() == []
    assert parse_release_policy(pinned.policy.encode()) == pinned.policy
    assert pinned.attest(ek=b"\x45" * 32).codes() == (
        ["INSTANCE_NOT_ALLOWED"] if pin_machine else []
    )
    assert ("15" in section.pcrs) is pin_config
    for change in (
        {"pcrs": {**_claims(tpm).pcrs, 9: bytes(32)}},
        {"binding": AkBinding.AK_CERTIFICATE},
        {"firmware_version": 0},
    ):
        assert pinned.attest(**change).codes()


def test_what_is_pinned_without_a_log_and_without_a_maker(tpm: PolicyScenario) -> None:
    bare = tpm.attest(boot=None, manufacturer="", binding=AkBinding.AK_CERTIFICATE)
    section = TPM_POLICY.pin(_claims(bare), PinChoices(machine=False, config=False))
    assert bare.demand(TPM, section).codes() == []
    assert (section.manufacturers, section.boot.event_log) == ("any", "any")


def _claims(scenario: PolicyScenario) -> Any:  # noqa: ANN401 - a TPM's
    return scenario.claims


def test_conditions_speak_of_every_field(tpm: PolicyScenario) -> None:
    reading: Any = TPM_POLICY.conditions["tpm"]
    values, nothing = reading.read(_claims(tpm)), reading.read(_claims(tpm.attest(boot=None)))
    assert set(values) == set(nothing) == set(reading.kind)
    assert set(nothing["boot"]) == set(values["boot"])
    for condition, code in (
        ('claims.tpm.pcrs.pcr4.startsWith("0404")', None),
        ("claims.tpm.boot.secure_boot && claims.tpm.same_boot", None),
        ('claims.tpm.boot.loader_texts.all(t, !t.contains("init="))', None),
        ("claims.tpm.restart_count > 0", "CONDITION_FALSE"),
    ):
        codes = tpm.demand("conditions", [condition]).codes()
        assert len(codes) == (0 if code is None else 1), (condition, codes)


def test_the_baseline_judges_no_workload(tpm: PolicyScenario) -> None:
    words = BaselineWords(hardware="genuine", revocation="required", machines=[], grace_days=0)
    assert PlatformRules(baseline(words), built_in=True).judge(tpm.claims).findings == ()
    here = msgspec.structs.replace(
        baseline(words), tpm=msgspec.structs.replace(_tpm(baseline(words)), eks=["00" * 32])
    )
    findings = PlatformRules(here, built_in=True).judge(tpm.claims).findings
    assert [each.code.name for each in findings] == ["INSTANCE_NOT_ALLOWED"]


def _tpm(platform: Any) -> Tpm:  # noqa: ANN401 - of a policy
    section = platform.tpm
    assert isinstance(section, Tpm)
    return section
