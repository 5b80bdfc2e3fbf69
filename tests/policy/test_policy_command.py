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
from regalia_testing.sealed import seal_bench, write_model
from regalia_testing.tees.snp.authority import AuthorityKeys
from regalia_testing.tees.snp.defects import HEALTHY, SnpDefects
from regalia_testing.tees.snp.simulator import SimulatedPlatform

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
class Bench:
    """A simulated platform, an owner's keys and a folder; ``run`` is the command line."""

    folder: Path
    platform: SimulatedPlatform
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
def policy_platform(tmp_path_factory: pytest.TempPathFactory) -> SimulatedPlatform:
    folder = tmp_path_factory.mktemp("platform") / "snp"
    return SimulatedPlatform.create(folder, "Genoa", keys=AuthorityKeys.generate())


@pytest.fixture
def bench(
    tmp_path: Path, policy_platform: SimulatedPlatform, capsys: pytest.CaptureFixture[str]
) -> Bench:
    made = Bench(tmp_path, policy_platform, capsys)
    for name, key in (("owner", OWNER), ("second", SECOND)):
        made.write(f"{name}.key", key.to_pem(None))
        (tmp_path / f"{name}.key").chmod(0o600)
        made.write(f"{name}.pub", key.verify_key.to_pem())
    return made


def test_pin_sign_and_load(bench: Bench) -> None:
    body = bench.json(
        *bench.pin(
            *("--sign", bench.path("owner.key"), "--client-out", bench.path("client.json")),
            *("--lease", "60", "--holders", "2", "--custody", "hsm", "--name", "demo"),
        )
    )
    assert body["hardware"] == "simulated"
    assert body["measurement"] == MEASUREMENT.hex()
    data = (bench.folder / "policy.json").read_bytes()
    policy = load_release_policy(data, (OWNER.verify_key,), 1)
    assert body["policy_id"] == str(policy.policy_id())
    assert body["signed_by"] == [str(OWNER.verify_key.fingerprint)]
    assert policy.platform.snp.measurements == [MEASUREMENT.hex()]
    assert (policy.lease_s, policy.holders_max, policy.custody) == (60, 2, ["hsm"])
    assert (policy.model.id, policy.model.version_minimum) == (str(MODEL), 3)
    assert "platform.hardware=dangerous_simulated" in body["wildcards"]
    client = parse_client_policy((bench.folder / "client.json").read_bytes())
    assert client.platform == policy.platform


def test_pin_says_loudly_what_is_open(bench: Bench) -> None:
    status, out, err = bench.run(*bench.pin())
    assert status == 0
    assert "a draft" in out
    assert "DANGEROUS" in err
    assert "OPEN platform.hardware" in err
    assert "OPEN platform.snp.chip_ids" in err
    draft = read_draft((bench.folder / "policy.json").read_bytes())
    assert draft.platform.snp.chip_ids == "any"


def test_pin_chip_and_host_data(bench: Bench) -> None:
    body = bench.json(*bench.pin("--pin-chip", "--any-host-data"))
    assert "platform.snp.chip_ids" not in body["wildcards"]
    assert "platform.snp.host_data" in body["wildcards"]


def test_pin_from_a_runtimes_answer(bench: Bench) -> None:
    challenge = b"\x01" * 32
    serving = ServingEvidence(
        evidence=bench.evidence(),
        hpke_public_key=b"\x02" * 1216,
        wrap_public_key=b"\x03" * 422,
        model_id=MODEL,
        model_version=3,
        release=None,
    )
    bound = bench.evidence(report_data=serving.binding(challenge).report_data())
    serving = replace(serving, evidence=bound)
    source = bench.write("serving.json", serving.encode())
    bench.json(*bench.pin("--challenge", challenge.hex(), source=source))
    again = bench.pin("--challenge", "00" * 32, source=source, out="b.json")
    assert bench.refused(*again, status=5) == "NONCE_MISMATCH"
    bare = bench.pin("--challenge", "00" * 32, out="c.json")
    assert bench.refused(*bare, status=2) == "BAD_USAGE"


def test_pin_with_any_report_data_warns_of_a_replay(bench: Bench) -> None:
    args = ["any" if each == REPORT_DATA.hex() else each for each in bench.pin()]
    status, _, err = bench.run(*args)
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
    bench: Bench, defects: SnpDefects, code: str
) -> None:
    source = bench.write("bad.json", bench.evidence(defects).encode())
    assert bench.refused(*bench.pin(source=source), status=6) == code
    assert not (bench.folder / "policy.json").exists()


def test_pin_refuses_what_is_not_genuine(bench: Bench) -> None:
    forged = bench.write("bad.json", bench.evidence(SnpDefects(bad_signature=True)).encode())
    assert bench.refused(*bench.pin(source=forged), status=5) == "SIGNATURE_INVALID"
    real_roots = [each for each in bench.pin() if "anchor" not in each and "ark.der" not in each]
    assert bench.refused(*real_roots, status=5) == "ROOT_UNTRUSTED"
    other = bench.write("other.json", bench.evidence(report_data=b"\x09" * 64).encode())
    assert bench.refused(*bench.pin(source=other), status=5) == "NONCE_MISMATCH"


def test_pin_refuses_another_owner_and_model(bench: Bench) -> None:
    args = bench.pin()
    args[args.index(bench.path("owner.pub"))] = bench.path("second.pub")
    assert bench.refused(*args, status=6) == "OWNER_KEY_MISMATCH"
    args = bench.pin("--model", f"model:{'00' * 32}", "--minimum-version", "1")
    assert bench.refused(*args, status=6) == "MODEL_MISMATCH"


def test_pin_takes_model_and_version_from_a_manifest(bench: Bench, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", {"config.json": b"{}"})
    sealed = seal_bench(model, tmp_path / "sealed", OWNER)
    manifest = peek_manifest(read_manifest_file(sealed.folder))
    config = bench.evidence(model_id=str(manifest.model_id))
    source = bench.write("evidence.json", config.encode())
    for number, path in enumerate((sealed.folder, sealed.manifest_path)):
        args = bench.pin("--model", str(path), source=source, out=f"{number}.json")
        body = bench.json(*args)
        assert body["model_id"] == str(manifest.model_id)
        assert body["model_version_minimum"] == manifest.version
    by_another = bench.pin("--model", str(sealed.folder), source=source, out="x.json")
    by_another[by_another.index(bench.path("owner.pub"))] = bench.path("second.pub")
    assert bench.refused(*by_another, status=4) == "SIGNER_UNKNOWN"


def test_pin_without_a_version_or_freshness_is_bad_usage(bench: Bench) -> None:
    assert bench.refused(*bench.pin("--model", str(MODEL)), status=2) == "BAD_USAGE"
    args = bench.pin()
    cut = args.index("--report-data")
    assert bench.refused(*args[:cut], *args[cut + 2 :], status=2) == "BAD_USAGE"


def test_pin_with_missing_or_malformed_input(bench: Bench) -> None:
    assert bench.refused(*bench.pin(source=bench.path("none")), status=9) == "FILE_MISSING"
    folder = bench.pin(source=str(bench.folder))
    assert bench.json(*folder, status=9)["error"]["code"] in {"IO_FAILED", "NO_PERMISSION"}
    bad = bench.write("bad.json", b"{}")
    assert bench.refused(*bench.pin(source=bad), status=3) == "MALFORMED"
    short = ["00" * 63 if each == REPORT_DATA.hex() else each for each in bench.pin()]
    assert bench.refused(*short, status=3) == "MALFORMED"
    broken = bench.write("broken.pub", b"no key")
    args = bench.pin()
    args[args.index(bench.path("owner.pub"))] = broken
    assert bench.refused(*args, status=3) == "PUBLIC_KEY_MALFORMED"
    missing = bench.pin("--model", bench.path("no-such-model"))
    assert bench.refused(*missing, status=9) == "FILE_MISSING"
    assert bench.refused(*bench.pin("--lease", "0"), status=3) == "MALFORMED"
    anchor = bench.pin()
    anchor[anchor.index("--dangerous-simulated-anchor") + 1] = bad
    assert bench.refused(*anchor, status=3) == "MALFORMED"
    collateral = bench.pin()
    collateral[collateral.index("--collateral") + 1] = bench.path("none")
    assert bench.refused(*collateral, status=9) == "FILE_MISSING"
    assert not (bench.folder / "policy.json").exists()


def test_nothing_is_overwritten(bench: Bench) -> None:
    bench.write("policy.json", b"mine")
    assert bench.refused(*bench.pin(), status=9) == "FILE_EXISTS"
    assert (bench.folder / "policy.json").read_bytes() == b"mine"


def test_a_private_key_that_others_may_read_is_refused(bench: Bench) -> None:
    (bench.folder / "owner.key").chmod(0o644)
    args = bench.pin("--sign", bench.path("owner.key"))
    assert bench.refused(*args, status=9) == "INSECURE_MODE"


def test_show_and_check_tell_how_far_a_signature_was_checked(bench: Bench) -> None:
    policy = bench.pinned()
    fingerprint = str(OWNER.verify_key.fingerprint)
    for command in ("show", "check"):
        _, out, _ = bench.run(command, policy)
        assert "NOT CHECKED" in out
        _, out, _ = bench.run(command, policy, "--signer", bench.path("owner.pub"))
        assert f"verified: {fingerprint}" in out
        body = bench.json(command, policy, "--signer", bench.path("owner.pub"))
        assert body["signature_checked"] is True
        assert body["signed_by"] == [fingerprint]
        assert bench.json(command, policy)["signature_checked"] is False
        wrong = (command, policy, "--signer", bench.path("second.pub"))
        assert bench.refused(*wrong, status=4) == "SIGNER_UNKNOWN"
    _, out, _ = bench.run("show", policy)
    assert MEASUREMENT.hex() in out
    assert "OPEN" in out


def test_an_unsigned_policy_is_called_so(bench: Bench) -> None:
    bench.json(*bench.pin())
    draft = bench.path("policy.json")
    _, out, _ = bench.run("show", draft)
    assert "unsigned" in out
    refused = ("show", draft, "--signer", bench.path("owner.pub"))
    assert bench.refused(*refused, status=4) == "UNSIGNED"


def test_an_edited_draft_is_signed_by_two(bench: Bench) -> None:
    bench.json(*bench.pin())
    draft = json.loads((bench.folder / "policy.json").read_bytes())
    draft["holders_max"] = 5
    draft["conditions"] = ["claims.product == 'Genoa'"]
    edited = bench.write("edited.json", json.dumps(draft, indent=4).encode())
    one, two = bench.path("one.json"), bench.path("two.json")
    first = bench.json("sign", edited, "--sign", bench.path("owner.key"), "--out", one)
    second = bench.json("sign", one, "--sign", bench.path("second.key"), "--out", two)
    assert first["policy_id"] == second["policy_id"]
    assert len(second["signed_by"]) == 2
    policy = load_release_policy(
        (bench.folder / "two.json").read_bytes(), (OWNER.verify_key, SECOND.verify_key), 2
    )
    assert policy.holders_max == 5
    signers = ("--signer", bench.path("owner.pub"), "--signer", bench.path("second.pub"))
    bench.json("show", two, *signers, "--threshold", "2")
    alone = ("show", one, *signers, "--threshold", "2")
    assert bench.refused(*alone, status=4) == "SIGNER_UNKNOWN"
    again = ("sign", two, "--sign", bench.path("owner.key"), "--out", bench.path("three.json"))
    assert bench.refused(*again, status=3) == "MALFORMED"


def test_signing_shows_what_is_open(bench: Bench) -> None:
    bench.json(*bench.pin())
    args = ("--sign", bench.path("owner.key"), "--out", bench.path("s.json"))
    _, _, err = bench.run("sign", bench.path("policy.json"), *args)
    assert "OPEN platform.hardware" in err


def test_sign_with_bad_input(bench: Bench) -> None:
    bench.json(*bench.pin("--client-out", bench.path("client.json")))
    draft, out = bench.path("policy.json"), bench.path("s.json")
    key = ("--sign", bench.path("owner.key"))
    assert bench.refused("sign", draft, "--out", out, status=2) == "BAD_USAGE"
    client = ("sign", bench.path("client.json"), *key, "--out", out)
    assert bench.refused(*client, status=2) == "BAD_USAGE"
    missing = ("sign", draft, "--sign", bench.path("none.key"), "--out", out)
    assert bench.refused(*missing, status=9) == "FILE_MISSING"
    secret = bench.write("bad.key", b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----")
    (bench.folder / "bad.key").chmod(0o600)
    unusable = ("sign", draft, "--sign", secret, "--out", out)
    assert bench.refused(*unusable, status=7) == "SIGNING_KEY_UNUSABLE"
    assert bench.refused("sign", draft, *key, "--out", draft, status=9) == "FILE_EXISTS"
    nowhere = ("sign", draft, *key, "--out", bench.path("no/such/folder.json"))
    assert bench.refused(*nowhere, status=9) == "FILE_MISSING"
    assert not (bench.folder / "s.json").exists()


@pytest.mark.parametrize("command", ["show", "check", "explain"])
def test_malformed_policies_are_refused_with_the_place(bench: Bench, command: str) -> None:
    assert bench.refused(command, bench.path("none.json"), status=9) == "FILE_MISSING"
    assert bench.refused(command, bench.write("e.json", b""), status=3) == "MALFORMED"
    assert bench.refused(command, bench.write("e.json", b'{"payload":1}'), status=3) == "MALFORMED"
    bench.json(*bench.pin())
    draft = json.loads((bench.folder / "policy.json").read_bytes())
    for path, value, named in (
        ("measurements", ["zz"], "platform.snp.measurements[0]"),
        ("vmpl", [7], "platform.snp.vmpl"),
        ("vmpll", [0], "vmpll"),
    ):
        bad = json.loads(json.dumps(draft))
        bad["platform"]["snp"][path] = value
        file = bench.write("bad.json", json.dumps(bad).encode())
        assert bench.refused(command, file, status=3) == "MALFORMED"
        assert named in bench.json(command, file, status=3)["error"]["what"]
    draft["conditions"] = ["claims.nothing || true"]
    file = bench.write("bad.json", json.dumps(draft).encode())
    assert bench.refused(command, file, status=3) == "CONDITION_ERROR"


def test_check_writes_the_canonical_form(bench: Bench) -> None:
    bench.json(*bench.pin("--client-out", bench.path("client.json")))
    client = (bench.folder / "client.json").read_bytes()
    edited = bench.write("edited.json", json.dumps(json.loads(client), indent=2).encode())
    bench.json("check", edited, "--out", bench.path("canonical.json"))
    assert (bench.folder / "canonical.json").read_bytes() == client


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


def test_every_command_has_help(bench: Bench) -> None:
    for command in ("pin", "show", "check", "sign", "explain"):
        status, out, _ = bench.run(command, "--help")
        assert status == 0
        assert "--json" in out
    assert bench.run("pin")[0] == 2
    assert bench.run("nothing")[0] == 2
