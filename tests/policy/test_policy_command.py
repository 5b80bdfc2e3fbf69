"""``regalia policy``, from evidence to a signed policy, and every kind of bad input."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from regalia.cli.main import run
from regalia.cli.sealing import read_manifest_file
from regalia.core.types import ModelId
from regalia.crypto.sign import SigningKey
from regalia.policy.documents import parse_client_policy
from regalia.policy.signed import load_release_policy, read_draft
from regalia.seal.manifest import peek_manifest
from regalia.wire.runtime_config import FORMAT, Placement, RuntimeConfig
from regalia.wire.serving import ServingEvidence
from regalia_testing.sealed import seal_testbed, write_model
from regalia_testing.tees.snp.authority import SnpKeys
from regalia_testing.tees.snp.defects import HEALTHY, SnpDefects
from regalia_testing.tees.snp.simulator import SnpSimulator

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.wire.evidence import Evidence

MODEL = ModelId(b"\x07" * 32)
REPORT_DATA = bytes(range(64))
MEASUREMENT = b"\x5a" * 48
OWNER = SigningKey.generate_ed25519()
SECOND = SigningKey.generate_ed25519()
Json = dict[str, Any]


@dataclass
class PolicyTestbed:
    """A simulated platform, an owner's keys and a folder; ``run`` is the command line."""

    folder: Path
    platform: SnpSimulator
    capsys: pytest.CaptureFixture[str]

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def config(self, **changes: Any) -> RuntimeConfig:  # noqa: ANN401 - any field
        fields: Json = {
            "format": FORMAT,
            "model_id": str(MODEL),
            "owner_key": str(OWNER.verify_key.fingerprint),
            "log_key": "log.example+0badc0de+AQID",
            "placement": Placement(region="eu", site="hall-1", tier="own"),
            "egress": [],
        }
        return RuntimeConfig(**{**fields, **changes})

    def evidence(
        self,
        defects: SnpDefects = HEALTHY,
        report_data: bytes = REPORT_DATA,
        **config: Any,  # noqa: ANN401
    ) -> Evidence:
        measurement = bytes(48) if defects.wrong_measurement else MEASUREMENT
        return self.platform.evidence(
            report_data,
            measurement=measurement,
            runtime_config=self.config(**config).encode(),
            defects=defects,
        )

    def write(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return self.path(name)

    def run(self, *args: str) -> tuple[int, str, str]:
        status = run(["policy", *args])
        out, err = self.capsys.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    def json(self, *args: str, status: int = 0) -> Json:
        got, out, err = self.run(*args, "--json")
        assert got == status, out + err
        body = json.loads(out)
        assert isinstance(body, dict)
        return body

    def refused(self, *args: str, status: int) -> str:
        """The code of a refusal, which people and programs must see alike."""
        code = str(self.json(*args, status=status)["error"]["code"])
        got, _, err = self.run(*args)
        assert got == status
        assert code in err or code == "BAD_USAGE"
        return code

    def verify_with(self) -> list[str]:
        collateral = self.platform.collateral_directory
        anchor = collateral / "ark.der"
        return ["--collateral", str(collateral), "--dangerous-simulated-anchor", str(anchor)]

    def pin(self, *more: str, source: str | None = None, out: str = "policy.json") -> list[str]:
        if source is None:
            source = self.write("evidence.json", self.evidence().encode())
        model = [] if "--model" in more else ["--model", str(MODEL), "--minimum-version", "3"]
        freshness = [] if "--challenge" in more else ["--report-data", REPORT_DATA.hex()]
        return [
            *("pin", "--from", source, "--signer", self.path("owner.pub"), *model, *freshness),
            *("--out", self.path(out), *self.verify_with(), *more),
        ]

    def pinned(self) -> str:
        """A signed policy, pinned from healthy evidence."""
        self.json(*self.pin("--sign", self.path("owner.key")))
        return self.path("policy.json")


@pytest.fixture(scope="session")
def policy_platform(tmp_path_factory: pytest.TempPathFactory) -> SnpSimulator:
    folder = tmp_path_factory.mktemp("platform") / "snp"
    return SnpSimulator.create(folder, "Genoa", keys=SnpKeys.generate())


@pytest.fixture
def testbed(
    tmp_path: Path, policy_platform: SnpSimulator, capsys: pytest.CaptureFixture[str]
) -> PolicyTestbed:
    made = PolicyTestbed(tmp_path, policy_platform, capsys)
    for name, key in (("owner", OWNER), ("second", SECOND)):
        made.write(f"{name}.key", key.to_pem(None))
        (tmp_path / f"{name}.key").chmod(0o600)
        made.write(f"{name}.pub", key.verify_key.to_pem())
    return made


def test_pin_sign_and_load(testbed: PolicyTestbed) -> None:
    body = testbed.json(
        *testbed.pin(
            *("--sign", testbed.path("owner.key"), "--client-out", testbed.path("client.json")),
            *("--lease", "60", "--holders", "2", "--custody", "hsm", "--name", "demo"),
        )
    )
    assert body["hardware"] == "simulated"
    assert body["measurement"] == MEASUREMENT.hex()
    data = (testbed.folder / "policy.json").read_bytes()
    policy = load_release_policy(data, (OWNER.verify_key,), 1)
    assert body["policy_id"] == str(policy.policy_id())
    assert body["signed_by"] == [str(OWNER.verify_key.fingerprint)]
    assert policy.platform.snp.measurements == [MEASUREMENT.hex()]
    assert (policy.lease_s, policy.holders_max, policy.custody) == (60, 2, ["hsm"])
    assert (policy.model.id, policy.model.version_minimum) == (str(MODEL), 3)
    assert "platform.hardware=dangerous_simulated" in body["wildcards"]
    client = parse_client_policy((testbed.folder / "client.json").read_bytes())
    assert client.platform == policy.platform


def test_pin_says_loudly_what_is_open(testbed: PolicyTestbed) -> None:
    status, out, err = testbed.run(*testbed.pin())
    assert status == 0
    assert "a draft" in out
    assert "DANGEROUS" in err
    assert "OPEN platform.hardware" in err
    assert "OPEN platform.snp.chip_ids" in err
    draft = read_draft((testbed.folder / "policy.json").read_bytes())
    assert draft.platform.snp.chip_ids == "any"


def test_pin_chip_and_host_data(testbed: PolicyTestbed) -> None:
    body = testbed.json(*testbed.pin("--pin-chip", "--any-host-data"))
    assert "platform.snp.chip_ids" not in body["wildcards"]
    assert "platform.snp.host_data" in body["wildcards"]


def test_pin_from_a_runtimes_answer(testbed: PolicyTestbed) -> None:
    challenge = b"\x01" * 32
    serving = ServingEvidence(
        evidence=testbed.evidence(),
        hpke_public_key=b"\x02" * 1216,
        wrap_public_key=b"\x03" * 422,
        model_id=MODEL,
        model_version=3,
        release=None,
    )
    bound = testbed.evidence(report_data=serving.binding(challenge).report_data())
    serving = replace(serving, evidence=bound)
    source = testbed.write("serving.json", serving.encode())
    testbed.json(*testbed.pin("--challenge", challenge.hex(), source=source))
    again = testbed.pin("--challenge", "00" * 32, source=source, out="b.json")
    assert testbed.refused(*again, status=5) == "NONCE_MISMATCH"
    bare = testbed.pin("--challenge", "00" * 32, out="c.json")
    assert testbed.refused(*bare, status=2) == "BAD_USAGE"


def test_pin_with_any_report_data_warns_of_a_replay(testbed: PolicyTestbed) -> None:
    args = ["any" if each == REPORT_DATA.hex() else each for each in testbed.pin()]
    status, _, err = testbed.run(*args)
    assert status == 0
    assert "may be a replay" in err


@pytest.mark.parametrize(
    ("defects", "code"),
    [
        (SnpDefects(debug=True), "DEBUG_ENABLED"),
        (SnpDefects(migrate=True), "MIGRATION_ALLOWED"),
        (SnpDefects(wrong_host_data=True), "CONFIG_MISMATCH"),
    ],
)
def test_evidence_that_no_policy_can_accept_is_not_pinned(
    testbed: PolicyTestbed, defects: SnpDefects, code: str
) -> None:
    source = testbed.write("bad.json", testbed.evidence(defects).encode())
    assert testbed.refused(*testbed.pin(source=source), status=6) == code
    assert not (testbed.folder / "policy.json").exists()


def test_pin_refuses_what_is_not_genuine(testbed: PolicyTestbed) -> None:
    forged = testbed.write("bad.json", testbed.evidence(SnpDefects(bad_signature=True)).encode())
    assert testbed.refused(*testbed.pin(source=forged), status=5) == "SIGNATURE_INVALID"
    real_roots = [each for each in testbed.pin() if "anchor" not in each and "ark.der" not in each]
    assert testbed.refused(*real_roots, status=5) == "ROOT_UNTRUSTED"
    other = testbed.write("other.json", testbed.evidence(report_data=b"\x09" * 64).encode())
    assert testbed.refused(*testbed.pin(source=other), status=5) == "NONCE_MISMATCH"


def test_pin_refuses_another_owner_and_model(testbed: PolicyTestbed) -> None:
    args = testbed.pin()
    args[args.index(testbed.path("owner.pub"))] = testbed.path("second.pub")
    assert testbed.refused(*args, status=6) == "OWNER_KEY_MISMATCH"
    args = testbed.pin("--model", f"model:{'00' * 32}", "--minimum-version", "1")
    assert testbed.refused(*args, status=6) == "MODEL_MISMATCH"


def test_pin_takes_model_and_version_from_a_manifest(
    testbed: PolicyTestbed, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model", {"config.json": b"{}"})
    sealed = seal_testbed(model, tmp_path / "sealed", OWNER)
    manifest = peek_manifest(read_manifest_file(sealed.folder))
    config = testbed.evidence(model_id=str(manifest.model_id))
    source = testbed.write("evidence.json", config.encode())
    for number, path in enumerate((sealed.folder, sealed.manifest_path)):
        args = testbed.pin("--model", str(path), source=source, out=f"{number}.json")
        body = testbed.json(*args)
        assert body["model_id"] == str(manifest.model_id)
        assert body["model_version_minimum"] == manifest.version
    by_another = testbed.pin("--model", str(sealed.folder), source=source, out="x.json")
    by_another[by_another.index(testbed.path("owner.pub"))] = testbed.path("second.pub")
    assert testbed.refused(*by_another, status=4) == "SIGNER_UNKNOWN"


def test_pin_without_a_version_or_freshness_is_bad_usage(testbed: PolicyTestbed) -> None:
    assert testbed.refused(*testbed.pin("--model", str(MODEL)), status=2) == "BAD_USAGE"
    args = testbed.pin()
    cut = args.index("--report-data")
    assert testbed.refused(*args[:cut], *args[cut + 2 :], status=2) == "BAD_USAGE"


def test_pin_with_missing_or_malformed_input(testbed: PolicyTestbed) -> None:
    assert testbed.refused(*testbed.pin(source=testbed.path("none")), status=9) == "FILE_MISSING"
    folder = testbed.pin(source=str(testbed.folder))
    assert testbed.json(*folder, status=9)["error"]["code"] in {"IO_FAILED", "NO_PERMISSION"}
    bad = testbed.write("bad.json", b"{}")
    assert testbed.refused(*testbed.pin(source=bad), status=3) == "MALFORMED"
    short = ["00" * 63 if each == REPORT_DATA.hex() else each for each in testbed.pin()]
    assert testbed.refused(*short, status=3) == "MALFORMED"
    broken = testbed.write("broken.pub", b"no key")
    args = testbed.pin()
    args[args.index(testbed.path("owner.pub"))] = broken
    assert testbed.refused(*args, status=3) == "PUBLIC_KEY_MALFORMED"
    missing = testbed.pin("--model", testbed.path("no-such-model"))
    assert testbed.refused(*missing, status=9) == "FILE_MISSING"
    assert testbed.refused(*testbed.pin("--lease", "0"), status=3) == "MALFORMED"
    anchor = testbed.pin()
    anchor[anchor.index("--dangerous-simulated-anchor") + 1] = bad
    assert testbed.refused(*anchor, status=3) == "MALFORMED"
    collateral = testbed.pin()
    collateral[collateral.index("--collateral") + 1] = testbed.path("none")
    assert testbed.refused(*collateral, status=9) == "FILE_MISSING"
    assert not (testbed.folder / "policy.json").exists()


def test_nothing_is_overwritten(testbed: PolicyTestbed) -> None:
    testbed.write("policy.json", b"mine")
    assert testbed.refused(*testbed.pin(), status=9) == "FILE_EXISTS"
    assert (testbed.folder / "policy.json").read_bytes() == b"mine"


def test_a_private_key_that_others_may_read_is_refused(testbed: PolicyTestbed) -> None:
    (testbed.folder / "owner.key").chmod(0o644)
    args = testbed.pin("--sign", testbed.path("owner.key"))
    assert testbed.refused(*args, status=9) == "INSECURE_MODE"


def test_show_and_check_tell_how_far_a_signature_was_checked(testbed: PolicyTestbed) -> None:
    policy = testbed.pinned()
    fingerprint = str(OWNER.verify_key.fingerprint)
    for command in ("show", "check"):
        _, out, _ = testbed.run(command, policy)
        assert "NOT CHECKED" in out
        _, out, _ = testbed.run(command, policy, "--signer", testbed.path("owner.pub"))
        assert f"verified: {fingerprint}" in out
        body = testbed.json(command, policy, "--signer", testbed.path("owner.pub"))
        assert body["signature_checked"] is True
        assert body["signed_by"] == [fingerprint]
        assert testbed.json(command, policy)["signature_checked"] is False
        wrong = (command, policy, "--signer", testbed.path("second.pub"))
        assert testbed.refused(*wrong, status=4) == "SIGNER_UNKNOWN"
    _, out, _ = testbed.run("show", policy)
    assert MEASUREMENT.hex() in out
    assert "OPEN" in out


def test_an_unsigned_policy_is_called_so(testbed: PolicyTestbed) -> None:
    testbed.json(*testbed.pin())
    draft = testbed.path("policy.json")
    _, out, _ = testbed.run("show", draft)
    assert "unsigned" in out
    refused = ("show", draft, "--signer", testbed.path("owner.pub"))
    assert testbed.refused(*refused, status=4) == "UNSIGNED"


def test_an_edited_draft_is_signed_by_two(testbed: PolicyTestbed) -> None:
    testbed.json(*testbed.pin())
    draft = json.loads((testbed.folder / "policy.json").read_bytes())
    draft["holders_max"] = 5
    draft["conditions"] = ["claims.product == 'Genoa'"]
    edited = testbed.write("edited.json", json.dumps(draft, indent=4).encode())
    one, two = testbed.path("one.json"), testbed.path("two.json")
    first = testbed.json("sign", edited, "--sign", testbed.path("owner.key"), "--out", one)
    second = testbed.json("sign", one, "--sign", testbed.path("second.key"), "--out", two)
    assert first["policy_id"] == second["policy_id"]
    assert len(second["signed_by"]) == 2
    policy = load_release_policy(
        (testbed.folder / "two.json").read_bytes(), (OWNER.verify_key, SECOND.verify_key), 2
    )
    assert policy.holders_max == 5
    signers = ("--signer", testbed.path("owner.pub"), "--signer", testbed.path("second.pub"))
    testbed.json("show", two, *signers, "--threshold", "2")
    alone = ("show", one, *signers, "--threshold", "2")
    assert testbed.refused(*alone, status=4) == "SIGNER_UNKNOWN"
    again = ("sign", two, "--sign", testbed.path("owner.key"), "--out", testbed.path("three.json"))
    assert testbed.refused(*again, status=3) == "MALFORMED"


def test_signing_shows_what_is_open(testbed: PolicyTestbed) -> None:
    testbed.json(*testbed.pin())
    args = ("--sign", testbed.path("owner.key"), "--out", testbed.path("s.json"))
    _, _, err = testbed.run("sign", testbed.path("policy.json"), *args)
    assert "OPEN platform.hardware" in err


def test_sign_with_bad_input(testbed: PolicyTestbed) -> None:
    testbed.json(*testbed.pin("--client-out", testbed.path("client.json")))
    draft, out = testbed.path("policy.json"), testbed.path("s.json")
    key = ("--sign", testbed.path("owner.key"))
    assert testbed.refused("sign", draft, "--out", out, status=2) == "BAD_USAGE"
    client = ("sign", testbed.path("client.json"), *key, "--out", out)
    assert testbed.refused(*client, status=2) == "BAD_USAGE"
    missing = ("sign", draft, "--sign", testbed.path("none.key"), "--out", out)
    assert testbed.refused(*missing, status=9) == "FILE_MISSING"
    secret = testbed.write(
        "bad.key", b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----"
    )
    (testbed.folder / "bad.key").chmod(0o600)
    unusable = ("sign", draft, "--sign", secret, "--out", out)
    assert testbed.refused(*unusable, status=7) == "SIGNING_KEY_UNUSABLE"
    assert testbed.refused("sign", draft, *key, "--out", draft, status=9) == "FILE_EXISTS"
    nowhere = ("sign", draft, *key, "--out", testbed.path("no/such/folder.json"))
    assert testbed.refused(*nowhere, status=9) == "FILE_MISSING"
    assert not (testbed.folder / "s.json").exists()


@pytest.mark.parametrize("command", ["show", "check", "explain"])
def test_malformed_policies_are_refused_with_the_place(
    testbed: PolicyTestbed, command: str
) -> None:
    assert testbed.refused(command, testbed.path("none.json"), status=9) == "FILE_MISSING"
    assert testbed.refused(command, testbed.write("e.json", b""), status=3) == "MALFORMED"
    assert (
        testbed.refused(command, testbed.write("e.json", b'{"payload":1}'), status=3) == "MALFORMED"
    )
    testbed.json(*testbed.pin())
    draft = json.loads((testbed.folder / "policy.json").read_bytes())
    for path, value, named in (
        ("measurements", ["zz"], "platform.snp.measurements[0]"),
        ("vmpl", [7], "platform.snp.vmpl"),
        ("vmpll", [0], "vmpll"),
    ):
        bad = json.loads(json.dumps(draft))
        bad["platform"]["snp"][path] = value
        file = testbed.write("bad.json", json.dumps(bad).encode())
        assert testbed.refused(command, file, status=3) == "MALFORMED"
        assert named in testbed.json(command, file, status=3)["error"]["what"]
    draft["conditions"] = ["claims.nothing || true"]
    file = testbed.write("bad.json", json.dumps(draft).encode())
    assert testbed.refused(command, file, status=3) == "CONDITION_ERROR"


def test_check_writes_the_canonical_form(testbed: PolicyTestbed) -> None:
    testbed.json(*testbed.pin("--client-out", testbed.path("client.json")))
    client = (testbed.folder / "client.json").read_bytes()
    edited = testbed.write("edited.json", json.dumps(json.loads(client), indent=2).encode())
    testbed.json("check", edited, "--out", testbed.path("canonical.json"))
    assert (testbed.folder / "canonical.json").read_bytes() == client


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


def test_every_command_has_help(testbed: PolicyTestbed) -> None:
    for command in ("pin", "show", "check", "sign", "explain"):
        status, out, _ = testbed.run(command, "--help")
        assert status == 0
        assert "--json" in out
    assert testbed.run("pin")[0] == 2
    assert testbed.run("nothing")[0] == 2
