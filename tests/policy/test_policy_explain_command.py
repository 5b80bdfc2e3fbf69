"""``regalia policy explain``: what a policy demands, and what it says of evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia_testing.tees.snp.defects import SnpDefects
from tests.policy.commands import REPORT_DATA

if TYPE_CHECKING:
    from tests.policy.commands import PolicyTestbed


def test_explain_says_what_is_demanded_and_open(testbed: PolicyTestbed) -> None:
    policy = testbed.pinned()
    status, out, _ = testbed.run("explain", policy)
    assert status == 0
    assert "Only SIMULATED evidence is accepted." in out
    assert "OPEN platform.snp.chip_ids" in out
    body = testbed.json("explain", policy)
    assert body["ok"] is True
    assert body["verdicts"] == []
    risky = [each["path"] for each in body["statements"] if each["risk"]]
    assert "platform.snp.chip_ids" in risky


def test_explain_allows_the_evidence_that_was_pinned(testbed: PolicyTestbed) -> None:
    policy = testbed.pinned()
    evidence = ("--evidence", testbed.path("evidence.json"), *testbed.verify_with())
    body = testbed.json("explain", policy, *evidence, "--report-data", REPORT_DATA.hex())
    assert body["verdicts"][0]["decision"] == "allow"
    _, out, err = testbed.run("explain", policy, *evidence)
    assert "ALLOW" in out
    assert "protects nothing" in out
    assert "may be a replay" in err


@pytest.mark.parametrize(
    ("defects", "codes"),
    [
        (SnpDefects(debug=True), ["DEBUG_ENABLED"]),
        (SnpDefects(migrate=True), ["MIGRATION_ALLOWED"]),
        (SnpDefects(wrong_measurement=True), ["MEASUREMENT_UNKNOWN"]),
        (SnpDefects(wrong_host_data=True), ["HOST_DATA_UNKNOWN", "CONFIG_MISMATCH"]),
        (SnpDefects(vmpl=1), ["VMPL_MISMATCH"]),
        (SnpDefects(old_launch_tcb=True), ["TCB_BELOW_MINIMUM"]),
        (SnpDefects(old_tcb=True), ["TCB_BELOW_MINIMUM"] * 3),
        (SnpDefects(provisional_firmware=True), ["TCB_PROVISIONAL"]),
        (SnpDefects(missing_alias_check=True), ["PLATFORM_FLAG_MISSING"]),
        (SnpDefects(missing_ecc=True), ["PLATFORM_FLAG_MISSING"]),
        (SnpDefects(signing_key="vlek"), ["SIGNING_KEY_DENIED", "EMPTY_RULE"]),
        (SnpDefects(debug=True, vmpl=2, missing_ecc=True), None),
    ],
)
def test_explain_says_why_evidence_is_denied(
    testbed: PolicyTestbed, defects: SnpDefects, codes: list[str] | None
) -> None:
    """The whole way: format-true report, the real verifier, a signed policy, every reason."""
    policy = testbed.pinned()
    file = testbed.write("defect.json", testbed.evidence(defects).encode())
    args = ("explain", policy, "--evidence", file, *testbed.verify_with())
    body = testbed.json(*args, status=6)
    assert body["ok"] is False
    (verdict,) = body["verdicts"]
    assert verdict["decision"] == "deny"
    assert verdict["hardware"] == "simulated"
    wanted = codes or ["DEBUG_ENABLED", "PLATFORM_FLAG_MISSING", "VMPL_MISMATCH"]
    assert [each["code"] for each in verdict["reasons"]] == wanted
    status, out, _ = testbed.run(*args)
    assert status == 6
    assert "DENY" in out
    assert "What would fix it" in out


def test_explain_supposes_facts(testbed: PolicyTestbed) -> None:
    args = ("--approver", testbed.path("second.pub"), "--approvals", "1", "--sign")
    testbed.json(*testbed.pin(*args, testbed.path("owner.key")))
    policy = testbed.path("policy.json")
    base = ("explain", policy, "--evidence", testbed.path("evidence.json"), *testbed.verify_with())

    def codes(*more: str, status: int = 6) -> list[str]:
        (verdict,) = testbed.json(*base, *more, status=status)["verdicts"]
        return [each["code"] for each in verdict["reasons"]]

    approved = ("--approval", testbed.path("second.pub"))
    assert codes() == ["APPROVALS_MISSING"]
    assert codes(*approved, status=0) == []
    assert codes(*approved, "--holders", "1") == ["HOLDERS_EXHAUSTED"]
    assert codes(*approved, "--model-version", "2") == ["MODEL_VERSION_TOO_OLD"]
    assert codes(*approved, "--custody", "hsm") == ["CUSTODY_DENIED"]


def test_explain_several_pieces_of_evidence_and_a_client_policy(testbed: PolicyTestbed) -> None:
    testbed.json(*testbed.pin("--client-out", testbed.path("client.json")))
    bad = testbed.write("bad.json", testbed.evidence(SnpDefects(vmpl=3)).encode())
    body = testbed.json(
        *("explain", testbed.path("client.json"), "--evidence", testbed.path("evidence.json")),
        *("--evidence", bad, *testbed.verify_with()),
        status=6,
    )
    assert [each["decision"] for each in body["verdicts"]] == ["allow", "deny"]


def test_explain_of_evidence_that_is_not_genuine_is_a_refusal(testbed: PolicyTestbed) -> None:
    policy = testbed.pinned()
    forged = testbed.write("bad.json", testbed.evidence(SnpDefects(bad_signature=True)).encode())
    args = ("explain", policy, "--evidence", forged, *testbed.verify_with())
    assert testbed.refused(*args, status=5) == "SIGNATURE_INVALID"
