"""Genuine, and not acceptable: what the verifier passes on, the policy refuses.

Claims come from evidence through the verifier, nothing is minted here.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.collateral_rule import CollateralRule
from regalia.appraisal.pki import Cache
from regalia.policy.baseline import BaselineWords, baseline
from regalia.policy.context import ClientContext
from regalia.policy.evaluate import evaluate_client
from regalia.policy.pin import pin_client
from regalia.policy.platform import PlatformRules
from regalia.policy.verdict import Allow, Deny
from regalia.tees.intel.evidence import (
    IntelAnchors,
    parse,
    prepare,
    verify_sgx,
    verify_tdx,
)
from regalia.tees.intel.evidence.vendor import collateral_of
from regalia.verifier.collateral import parse_collateral
from regalia.wire.evidence import Evidence, Tee
from regalia_testing import relying_party
from regalia_testing.policy_scenario import MODEL, NOW, PolicyScenario
from regalia_testing.testbed import MEASUREMENT, REPORT_DATA

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.appraisal.claims import Unbound
    from regalia.tees.intel.claims import SgxClaims, TdxClaims
    from regalia_testing.tees.intel.testbed import IntelTestbed

CONFIG = PolicyScenario().config
CONTEXT = ClientContext(
    now=NOW, challenge_age_s=1.0, runtime_config=CONFIG, model_id=MODEL, model_version=7
)
CHOICES = replace(relying_party.CHOICES, pin_chip=True, pin_host_data=True)
REQUIRED = CollateralRule.of_words("required", 0)


def claims_of(testbed: IntelTestbed, tee: Tee, **defects: object) -> TdxClaims | SgxClaims:
    make = testbed.platform.tdx_evidence if tee is Tee.TDX else testbed.platform.sgx_evidence
    evidence = make(
        REPORT_DATA,
        measurement=MEASUREMENT,
        runtime_config=CONFIG.encode(),
        defects=testbed.defects(tee, **defects),
    )
    return testbed.verify(evidence)


@pytest.mark.parametrize("tee", [Tee.TDX, Tee.SGX])
def test_a_pinned_policy_allows_the_platform_again(testbed: IntelTestbed, tee: Tee) -> None:
    policy = pin_client(claims_of(testbed, tee), CONFIG, CHOICES, now=NOW)
    verdict = evaluate_client(policy, claims_of(testbed, tee), CONTEXT)
    assert isinstance(verdict, Allow), verdict


COMMON: list[tuple[dict[str, object], set[str]]] = [
    ({"debug": True}, {"DEBUG_ENABLED"}),
    ({"wrong_measurement": True}, {"MEASUREMENT_UNKNOWN"}),
    ({"wrong_config": True}, {"HOST_DATA_UNKNOWN", "CONFIG_MISMATCH"}),
    ({"level": "SWHardeningNeeded"}, {"TCB_STATUS_DENIED"}),
    ({"level": "ConfigurationNeeded"}, {"TCB_STATUS_DENIED"}),
    ({"level": "OutOfDate"}, {"TCB_OUT_OF_DATE"}),
    ({"qe": "OutOfDate"}, {"TCB_OUT_OF_DATE"}),
    ({"processor_ca": True}, {"PLATFORM_FLAG_MISSING"}),
]
TDX_ONLY: list[tuple[dict[str, object], set[str]]] = [
    ({"profiling": True}, {"DEBUG_ENABLED"}),
    ({"migratable": True}, {"MIGRATION_ALLOWED"}),
    ({"sept_ve_disable": False}, {"POLICY_BIT"}),
    ({"perfmon": True}, {"POLICY_BIT"}),
    ({"pks": True}, {"POLICY_BIT"}),
    ({"kl": True}, {"POLICY_BIT"}),
    ({"lass": True}, {"POLICY_BIT"}),
    ({"xfam": 0x3}, {"POLICY_BIT"}),
    ({"service_td": True}, {"SERVICE_TD_DENIED"}),
    ({"module": "OutOfDate"}, {"TCB_OUT_OF_DATE"}),
    ({"module": "OutOfDate", "module_updated": True}, {"TCB_OUT_OF_DATE"}),
    ({"version": 4}, {"REPORT_VERSION_TOO_OLD"}),
]


@pytest.mark.parametrize(
    ("tee", "defects", "codes"),
    [
        *((Tee.TDX, *case) for case in (*COMMON, *TDX_ONLY)),
        *((Tee.SGX, *case) for case in COMMON),
    ],
)
def test_and_refuses_every_weakness(
    testbed: IntelTestbed, tee: Tee, defects: dict[str, object], codes: set[str]
) -> None:
    policy = pin_client(claims_of(testbed, tee), CONFIG, CHOICES, now=NOW)
    verdict = evaluate_client(policy, claims_of(testbed, tee, **defects), CONTEXT)
    assert isinstance(verdict, Deny)
    assert {each.code.name for each in verdict.reasons} == codes


def test_another_machine_of_the_same_kind(testbed: IntelTestbed) -> None:
    policy = pin_client(claims_of(testbed, Tee.TDX), CONFIG, CHOICES, now=NOW)
    other = replace(testbed, platform=replace(testbed.platform, ppid=b"\x09" * 16))
    verdict = evaluate_client(policy, claims_of(other, Tee.TDX), CONTEXT)
    assert isinstance(verdict, Deny)
    assert {each.code.name for each in verdict.reasons} == {"INSTANCE_NOT_ALLOWED"}


def test_collateral_from_before(testbed: IntelTestbed) -> None:
    policy = pin_client(claims_of(testbed, Tee.TDX), CONFIG, CHOICES, now=NOW)
    info = testbed.platform.documents.tcb_info("TDX", tcbEvaluationDataNumber=17)
    older = testbed.with_file("tcb-info-tdx.json", info)
    verdict = evaluate_client(policy, claims_of(older, Tee.TDX), CONTEXT)
    assert isinstance(verdict, Deny)
    assert {each.code.name for each in verdict.reasons} == {"TCB_EVALUATION_TOO_OLD"}


REAL: list[tuple[str, str, int, set[str]]] = [
    ("dcapqvl-tdx_quote.bin", "dcapqvl-tdx_quote_collateral.json", 1750415547, set()),
    ("dcapqvl-sgx_quote.bin", "dcapqvl-sgx_quote_collateral.json", 1750416971, set()),
    (
        "coco-quote_4.bin",
        "assembled-2026-03-50806f_collateral.json",
        1773703290,
        {"DEBUG_ENABLED", "TCB_OUT_OF_DATE"},
    ),
]


@pytest.mark.parametrize(("quote", "collateral", "now", "codes"), REAL)
def test_real_evidence_under_the_baseline(
    tdx_vectors: Path, quote: str, collateral: str, now: int, codes: set[str]
) -> None:
    tee = Tee.SGX if "sgx" in quote else Tee.TDX
    evidence = Evidence(tee, (tdx_vectors / quote).read_bytes(), (), b"")
    files = {collateral: (tdx_vectors / collateral).read_bytes()}
    cache, anchors = Cache(), IntelAnchors.production()
    arguments: dict[str, Any] = {
        "anchors": anchors,
        "collateral": prepare(collateral_of(parse_collateral(files)), anchors=anchors, cache=cache),
    }

    def judge(rule: CollateralRule, moment: datetime, words: BaselineWords) -> set[str]:
        at = AppraisalContext(now=moment, rule=rule, cache=cache)
        verify: Callable[..., Unbound[Any]] = verify_sgx if tee is Tee.SGX else verify_tdx
        claims = verify(parse(evidence), at=at, **arguments).dangerous_without_freshness()
        found = PlatformRules(baseline(words), built_in=True).judge(claims)
        return {each.code.name for each in found.findings}

    words = BaselineWords(hardware="genuine", revocation="required", machines=(), grace_days=0)
    moment = datetime.fromtimestamp(now, UTC)
    assert judge(REQUIRED, moment, words) == codes
    late = CollateralRule.of_words("required", 40)
    assert "COLLATERAL_LATE" in judge(late, moment + timedelta(days=40), words)
