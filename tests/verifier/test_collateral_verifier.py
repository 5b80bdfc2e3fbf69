"""One verifier for all evidence: a late bundle lowers every kind of claims, a deny-list stops
every kind of machine.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from regalia.appraisal.check_log import CheckLog
from regalia.appraisal.claims import Revocation
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import parse_certificate
from regalia.core.errors import AttestationError
from regalia.core.types import KeyFingerprint
from regalia.crypto.sign import SigningKey
from regalia.tees.intel.claims import SgxClaims, TdxClaims
from regalia.tees.nitro.claims import NitroClaims
from regalia.tees.nvidia.claims import NvidiaClaims
from regalia.tees.snp.claims import SnpClaims
from regalia.tees.tpm.claims import TpmClaims
from regalia.verifier.collateral import (
    NO_FLOOR,
    checks,
    make_bundle,
    mark_grace,
    parse_collateral,
    sort_files,
    verify_bundle,
)
from regalia.verifier.collateral.deny import require_not_denied
from regalia.verifier.verifier import Verifier
from regalia.wire.deny_list import FORMAT, DeniedIdentity, DeniedKey, DenyList
from regalia.wire.evidence import Tee
from regalia_testing.anchors import simulated_anchors
from regalia_testing.collateral import SITE
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.tees.azure.testbed import AzureTestbed
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.testbed import REPORT_DATA

if TYPE_CHECKING:
    from regalia.verifier.collateral import CollateralSet
    from regalia.wire.evidence import Evidence
    from regalia_testing.tees.snp.authority import SnpKeys
    from regalia_testing.tees.snp.testbed import SnpTestbed

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEY = SigningKey.generate_ed25519()
DAY = timedelta(days=1)
LATE = CollateralRule(RevocationRule.REQUIRED, 3 * DAY)
STRICT = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)


def bundled(files: dict[str, bytes]) -> CollateralSet:
    """Files in a bundle that ended yesterday."""
    data = make_bundle(
        sort_files(files),
        name=SITE,
        serial=1,
        issued=NOW - 9 * DAY,
        next_update=NOW - DAY,
        tcb_evaluation_data_number=0,
        keys=(KEY,),
    )
    return verify_bundle(
        data,
        name=SITE,
        signers=(KEY.verify_key,),
        threshold=1,
        floor=NO_FLOOR,
        now=NOW,
        grace=3 * DAY,
    ).collateral


@dataclass(frozen=True)
class CollateralTestbed:
    evidence: Evidence
    files: dict[str, bytes]
    root: bytes
    report_data: bytes
    processor: str  # what a deny-list calls it

    def verify(self, rule: CollateralRule, collateral: CollateralSet) -> Any:  # noqa: ANN401
        verifier = Verifier(simulated_anchors((self.root,)), collateral)
        return verifier.verify_cpu(self.evidence, report_data=self.report_data, rule=rule, now=NOW)


@pytest.fixture(scope="module")
def scenarios(
    testbed: SnpTestbed, authority_keys: SnpKeys, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, CollateralTestbed]:
    intel = IntelSimulator.make(now=NOW)
    tdx = intel.tdx_evidence(REPORT_DATA, measurement=b"m" * 48, runtime_config=b"c")
    snp_files = {
        "ark": testbed.platform.ark,
        "ask": testbed.platform.ask,
        "crl": testbed.platform.crl,
    }
    folder = tmp_path_factory.mktemp("azure")
    azure_snp = AzureTestbed(AzureSimulator.create(folder / "s", now=NOW, keys=authority_keys), NOW)
    azure_tdx = AzureTestbed(AzureSimulator.create(folder / "t", Tee.AZURE_TDX, now=NOW), NOW)
    assert azure_snp.platform.snp is not None
    assert azure_tdx.platform.intel is not None
    under, over = azure_snp.platform.snp, azure_tdx.platform.intel
    azure_files = {"ark": under.ark, "ask": under.ask, "crl": under.crl}
    root = intel.authority.root()
    return {
        "snp": CollateralTestbed(
            testbed.evidence(), snp_files, testbed.platform.ark, REPORT_DATA, "sev-snp"
        ),
        "tdx": CollateralTestbed(tdx, intel.files(), root, REPORT_DATA, "tdx"),
        "azure snp": CollateralTestbed(
            azure_snp.evidence(), azure_files, under.ark, REPORT_DATA, "sev-snp"
        ),
        "azure tdx": CollateralTestbed(
            azure_tdx.evidence(), over.files(), over.authority.root(), REPORT_DATA, "tdx"
        ),
    }


@pytest.mark.parametrize(
    "claims", [SnpClaims, TdxClaims, SgxClaims, NitroClaims, TpmClaims, NvidiaClaims]
)
def test_claims_of_every_kind_can_be_lowered(claims: type) -> None:
    assert "revocation" in {field.name for field in fields(claims)}


NAMES = ["snp", "tdx", "azure snp", "azure tdx"]


@pytest.mark.parametrize("name", NAMES)
def test_a_late_bundle_lowers_the_claims(
    scenarios: dict[str, CollateralTestbed], name: str
) -> None:
    testbed = scenarios[name]
    loose = testbed.verify(STRICT, parse_collateral(testbed.files))
    assert loose.revocation is Revocation.CHECKED
    late = testbed.verify(LATE, bundled(testbed.files))
    assert late.revocation is Revocation.GRACE
    assert late == mark_grace(loose)
    assert (late.instance, late.measurement) == (loose.instance, loose.measurement)


@pytest.mark.parametrize("name", NAMES)
def test_a_late_bundle_is_refused_without_the_word(
    scenarios: dict[str, CollateralTestbed], name: str
) -> None:
    testbed = scenarios[name]
    collateral = bundled(testbed.files)
    refused("COLLATERAL_STALE", testbed.verify, rule=STRICT, collateral=collateral)
    short = replace(LATE, grace=DAY - timedelta(seconds=1))
    refused("COLLATERAL_STALE", testbed.verify, rule=short, collateral=collateral)


def test_the_trail_tells_of_bundle_and_deny_lists(scenarios: dict[str, CollateralTestbed]) -> None:
    testbed = scenarios["snp"]
    names = {check.name for check in (checks.BUNDLE, checks.CERTIFICATES, checks.DEVICES)}

    def steps(rule: CollateralRule, collateral: CollateralSet) -> dict[str, str]:
        verifier = Verifier(simulated_anchors((testbed.root,)), collateral)
        check_log = CheckLog()
        expected = {
            "report_data": testbed.report_data,
            "rule": rule,
            "now": NOW,
            "check_log": check_log,
        }
        try:
            verifier.verify_cpu(testbed.evidence, **expected)
        except AttestationError as refusal:
            return {step.check.name: step.code for step in check_log.failed(refusal)}
        return {step.check.name: step.code for step in check_log.steps()}

    assert not names & steps(STRICT, parse_collateral(testbed.files)).keys()
    late = bundled(testbed.files)
    assert steps(LATE, late)[checks.BUNDLE.name] == ""
    assert steps(STRICT, late) == {checks.BUNDLE.name: "COLLATERAL_STALE"}
    chip = testbed.verify(STRICT, parse_collateral(testbed.files)).instance.hex()
    entry = DeniedIdentity(identity=chip, of="sev-snp", reason="stolen")
    listed = DenyList(entries=[entry], format=FORMAT, name="list").encode()
    told = steps(LATE, bundled({**testbed.files, "deny.json": listed}))
    assert names <= told.keys()
    assert told[checks.DEVICES.name] == "DEVICE_DENIED"
    assert told[checks.CERTIFICATES.name] == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_denied_processor_is_refused_whatever_stands_above_it(
    scenarios: dict[str, CollateralTestbed], name: str
) -> None:
    testbed = scenarios[name]
    claims = testbed.verify(STRICT, parse_collateral(testbed.files))
    for of in {testbed.processor, claims.tee.value}:
        entry = DeniedIdentity(identity=claims.instance.hex(), of=of, reason="stolen")
        listed = DenyList(entries=[entry], format=FORMAT, name="list").encode()
        collateral = parse_collateral({**testbed.files, "deny.json": listed})
        refused("DEVICE_DENIED", testbed.verify, rule=STRICT, collateral=collateral)
        refused("DEVICE_DENIED", require_not_denied, claims=claims, denied=collateral.denied)
    other = DeniedIdentity(identity=claims.instance.hex(), of="aws-nitro", reason="stolen")
    listed = DenyList(entries=[other], format=FORMAT, name="list").encode()
    testbed.verify(STRICT, parse_collateral({**testbed.files, "deny.json": listed}))


def test_a_denied_certificate_beside_the_evidence_is_refused(
    scenarios: dict[str, CollateralTestbed],
) -> None:
    testbed = scenarios["snp"]
    for der in testbed.evidence.endorsements[:2]:
        key = str(KeyFingerprint.of(parse_certificate(der, what="x").spki))
        entries = [DeniedKey(key=key, reason="leaked")]
        listed = DenyList(entries=entries, format=FORMAT, name="list").encode()
        collateral = parse_collateral({**testbed.files, "deny.json": listed})
        refused("DEVICE_DENIED", testbed.verify, rule=STRICT, collateral=collateral)
