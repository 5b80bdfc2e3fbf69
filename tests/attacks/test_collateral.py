"""Old collateral: from before a weakness was published, everything looks healthy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.crypto.sign import SigningKey
from regalia.verifier.collateral import NO_FLOOR, Floor, make_bundle, sort_files, verify_bundle
from regalia_testing.collateral import SITE, tcb_info_body
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from regalia.verifier.collateral import VerifiedBundle
    from regalia_testing.relying_party import RelyingParty

ISSUED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
KEYS = (SigningKey.generate_ed25519(), SigningKey.generate_p384())
FOREVER = timedelta(days=4000)


def bundle(**changes: Any) -> bytes:  # noqa: ANN401 - fields of a bundle
    fields: dict[str, Any] = {
        "name": SITE,
        "serial": 7,
        "issued": ISSUED,
        "next_update": ISSUED + 30 * DAY,
        "tcb_evaluation_data_number": 17,
        "keys": KEYS,
    }
    return make_bundle(sort_files({"sgx.json": tcb_info_body(number=18)}), **(fields | changes))


def verify(data: bytes, **changes: Any) -> VerifiedBundle:  # noqa: ANN401 - its expectations
    fields: dict[str, Any] = {
        "name": SITE,
        "signers": tuple(key.verify_key for key in KEYS),
        "threshold": 2,
        "floor": NO_FLOOR,
        "now": ISSUED + DAY,
        "grace": NO_GRACE,
    }
    return verify_bundle(data, **(fields | changes))


def test_rollback_below_the_bundles_serial_number() -> None:
    seen = verify(bundle(serial=8))
    refused("COLLATERAL_ROLLBACK", verify, data=bundle(serial=7), floor=seen.floor)
    verify(bundle(serial=9), floor=seen.floor)


def test_rollback_below_the_evaluation_number_of_an_earlier_bundle() -> None:
    """A newer serial number with older contents."""
    older = bundle(serial=9, tcb_evaluation_data_number=16)
    verify(older)
    refused("COLLATERAL_ROLLBACK", verify, data=older, floor=Floor(8, "", 17))


@pytest.mark.parametrize("tee", ["tdx", "sgx"])
def test_rollback_below_the_evaluation_number_of_the_policy(
    request: pytest.FixtureRequest, tee: str
) -> None:
    """tcbEvaluationDataNumber: Intel counts up with each round of advisories."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    path = f"platform.{tee}.tcb_evaluation_data_number_minimum"
    number = getattr(relying_party.policy.platform, tee).tcb_evaluation_data_number_minimum
    assert number > 0  # pinning has set the floor
    assert relying_party.against() == []
    assert relying_party.but(path, number + 1).against() == ["TCB_EVALUATION_TOO_OLD"]


def test_bundle_beyond_its_age() -> None:
    verify(bundle())
    refused("COLLATERAL_STALE", verify, data=bundle(), now=ISSUED + 31 * DAY)
    refused("COLLATERAL_STALE", verify, data=bundle(), now=ISSUED - DAY)


@pytest.mark.parametrize(
    ("tee", "code"),
    [("snp", "CRL_STALE"), ("tdx", "COLLATERAL_STALE"), ("sgx", "COLLATERAL_STALE")],
)
def test_collateral_beyond_its_age(request: pytest.FixtureRequest, tee: str, code: str) -> None:
    """Held back by whoever controls the way to the verifier, until nothing in it is current."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    late = replace(relying_party, now=relying_party.now + 400 * DAY)
    assert relying_party.against() == []
    assert late.against() == [code]


@pytest.mark.parametrize("tee", ["snp", "tdx", "sgx"])
def test_grace_is_a_word_of_the_policy_and_shows(request: pytest.FixtureRequest, tee: str) -> None:
    """Late collateral counts under dangerous_collateral_grace_days, and under nothing else."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    lenient = CollateralRule(RevocationRule.REQUIRED, FOREVER)
    late = replace(relying_party, now=relying_party.now + 400 * DAY, rule=lenient)
    assert "COLLATERAL_LATE" in late.against()
    assert (
        "COLLATERAL_LATE" not in late.but("platform.dangerous_collateral_grace_days", 9).against()
    )


@pytest.mark.parametrize("tee", ["snp", "tdx", "sgx", "tpm", "azure_snp_vm", "azure_tdx_vm"])
def test_revocation_lists_held_back(request: pytest.FixtureRequest, tee: str) -> None:
    """Without lists a revoked key passes: their absence refuses, and only the word any opens it."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    given = relying_party.verifier.collateral
    collateral = replace(given, crls=())
    bare = replace(relying_party, verifier=replace(relying_party.verifier, collateral=collateral))
    assert relying_party.against() == []
    assert bare.against() == ["CRL_MISSING"]
    anything = replace(bare, rule=CollateralRule(RevocationRule.ANY, NO_GRACE))
    assert "REVOCATION_UNKNOWN" in anything.against()
