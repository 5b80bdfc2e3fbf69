"""``regalia policy explain``: what a policy demands, and what it says of evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia_testing.tees.snp.defects import SnpDefects
from tests.policy.commands import REPORT_DATA

if TYPE_CHECKING:
    from tests.policy.commands import Bench


def test_explain_says_what_is_demanded_and_open(bench: Bench) -> None:
    policy = bench.pinned()
    status, out, _ = bench.run("explain", policy)
    assert status == 0
    assert "Only SIMULATED evidence is accepted." in out
    assert "OPEN platform.snp.chip_ids" in out
    body = bench.json("explain", policy)
    assert body["ok"] is True
    assert body["verdicts"] == []
    risky = [each["path"] for each in body["statements"] if each["risk"]]
    assert "platform.snp.chip_ids" in risky


def test_explain_allows_the_evidence_that_was_pinned(bench: Bench) -> None:
    policy = bench.pinned()
    evidence = ("--evidence", bench.path("evidence.json"), *bench.verify_with())
    body = bench.json("explain", policy, *evidence, "--report-data", REPORT_DATA.hex())
    assert body["verdicts"][0]["decision"] == "allow"
    _, out, err = bench.run("explain", policy, *evidence)
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
    bench: Bench, defects: SnpDefects, codes: list[str] | None
) -> None:
    """The whole way: format-true report, the real verifier, a signed policy, every reason."""
    policy = bench.pinned()
    file = bench.write("defect.json", bench.evidence(defects).encode())
    args = ("explain", policy, "--evidence", file, *bench.verify_with())
    body = bench.json(*args, status=6)
    assert body["ok"] is False
    (verdict,) = body["verdicts"]
    assert verdict["decision"] == "deny"
    assert verdict["hardware"] == "simulated"
    wanted = codes or ["DEBUG_ENABLED", "PLATFORM_FLAG_MISSING", "VMPL_MISMATCH"]
    assert [each["code"] for each in verdict["reasons"]] == wanted
    status, out, _ = bench.run(*args)
    assert status == 6
    assert "DENY" in out
    assert "What would fix it" in out


def test_explain_supposes_facts(bench: Bench) -> None:
    args = ("--approver", bench.path("second.pub"), "--approvals", "1", "--sign")
    bench.json(*bench.pin(*args, bench.path("owner.key")))
    policy = bench.path("policy.json")
    base = ("explain", policy, "--evidence", bench.path("evidence.json"), *bench.verify_with())

    def codes(*more: str, status: int = 6) -> list[str]:
        (verdict,) = bench.json(*base, *more, status=status)["verdicts"]
        return [each["code"] for each in verdict["reasons"]]

    approved = ("--approval", bench.path("second.pub"))
    assert codes() == ["APPROVALS_MISSING"]
    assert codes(*approved, status=0) == []
    assert codes(*approved, "--holders", "1") == ["HOLDERS_EXHAUSTED"]
    assert codes(*approved, "--model-version", "2") == ["MODEL_VERSION_TOO_OLD"]
    assert codes(*approved, "--custody", "hsm") == ["CUSTODY_DENIED"]


def test_explain_several_pieces_of_evidence_and_a_client_policy(bench: Bench) -> None:
    bench.json(*bench.pin("--client-out", bench.path("client.json")))
    bad = bench.write("bad.json", bench.evidence(SnpDefects(vmpl=3)).encode())
    body = bench.json(
        *("explain", bench.path("client.json"), "--evidence", bench.path("evidence.json")),
        *("--evidence", bad, *bench.verify_with()),
        status=6,
    )
    assert [each["decision"] for each in body["verdicts"]] == ["allow", "deny"]


def test_explain_of_evidence_that_is_not_genuine_is_a_refusal(bench: Bench) -> None:
    policy = bench.pinned()
    forged = bench.write("bad.json", bench.evidence(SnpDefects(bad_signature=True)).encode())
    args = ("explain", policy, "--evidence", forged, *bench.verify_with())
    assert bench.refused(*args, status=5) == "SIGNATURE_INVALID"
