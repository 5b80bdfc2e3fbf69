"""``regalia policy explain``: what a policy demands, and what it says of evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.cli.main import run
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
    body = testbed.json("explain", policy, *evidence, "--challenge", REPORT_DATA.hex())
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


def test_explain_at_another_time_and_with_loose_endorsements(testbed: PolicyTestbed) -> None:
    policy = testbed.pinned()
    evidence = testbed.evidence()
    bare = testbed.write("bare.json", replace(evidence, endorsements=()).encode())
    anchor = testbed.verify_with()[2:]
    lists = testbed.platform.collateral_directory / "crl.der"
    args = ["explain", policy, "--evidence", bare, *anchor, "--endorsement", str(lists)]
    assert testbed.refused(*args, status=5) == "COLLATERAL_MISSING"
    for number, der in enumerate(evidence.endorsements):
        args += ["--endorsement", testbed.write(f"{number}.der", der)]
    assert testbed.json(*args)["verdicts"][0]["decision"] == "allow"
    late = ("--now", "2099-01-01T00:00:00Z")
    assert testbed.refused(*args, *late, status=5) in {"CERT_EXPIRED", "CRL_STALE"}
    assert testbed.refused(*args, "--now", "then", status=2) == "BAD_USAGE"


def test_a_platform_section_is_a_policy(testbed: PolicyTestbed) -> None:
    """What `policy pin --platform-only` writes can be looked at, and held against evidence."""
    testbed.json(*testbed.pin("--platform-only", out="platform.json"))
    section = testbed.path("platform.json")
    checked = testbed.json("check", section)
    assert (checked["kind"], checked["format"]) == ("platform section", None)
    assert "platform.snp.chip_ids" in checked["wildcards"]
    _, shown, _ = testbed.run("show", section)
    assert "platform.snp.measurements" in shown
    assert "lease_s" not in shown
    _, said, _ = testbed.run("explain", section)
    assert said.count("A platform section by itself.") == 1
    good = testbed.path("evidence.json")
    bad = testbed.write("vmpl.json", testbed.evidence(SnpDefects(vmpl=1)).encode())
    body = testbed.json(
        *("explain", section, "--evidence", good, "--evidence", bad, *testbed.verify_with()),
        status=6,
    )
    assert [each["decision"] for each in body["verdicts"]] == ["allow", "deny"]
    assert [each["code"] for each in body["verdicts"][1]["reasons"]] == ["VMPL_MISMATCH"]
    for path, status in ((good, 11), (bad, 5)):
        command = ["attest", "verify", path, "--policy", section, "--challenge", "any"]
        assert run([*command, "--now", "now", *testbed.verify_with()]) == status
    testbed.capsys.readouterr()
    sign = ("sign", section, "--sign", testbed.path("owner.key"), "--out", testbed.path("s.json"))
    assert testbed.refused(*sign, status=2) == "BAD_USAGE"


def test_conditions_that_cannot_fail_are_open(testbed: PolicyTestbed) -> None:
    testbed.json(*testbed.pin())
    draft = json.loads((testbed.folder / "policy.json").read_bytes())
    draft["conditions"] = ["claims.product == 'Genoa'", "claims.tee == claims.tee"]
    policy = testbed.write("open.json", json.dumps(draft).encode())
    wildcards = testbed.json("check", policy)["wildcards"]
    assert "conditions[1]" in wildcards
    assert "conditions[0]" not in wildcards
    _, _, said = testbed.run("check", policy)
    assert "OPEN conditions[1] = claims.tee == claims.tee" in said
    _, said, _ = testbed.run("explain", policy)
    assert "OPEN conditions[1] = " in said
    assert "OPEN conditions[0] = " not in said


def test_explain_of_evidence_that_is_not_genuine_is_a_refusal(testbed: PolicyTestbed) -> None:
    policy = testbed.pinned()
    forged = testbed.write("bad.json", testbed.evidence(SnpDefects(bad_signature=True)).encode())
    args = ("explain", policy, "--evidence", forged, *testbed.verify_with())
    assert testbed.refused(*args, status=5) == "SIGNATURE_INVALID"
