"""``regalia attest verify`` and ``inspect`` on simulated platforms of every kind, and bad input."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from regalia.cli.main import run
from regalia.core.errors import IntegrityError
from regalia.crypto.jws import verify_compact
from regalia.crypto.sign import VerifyKey
from regalia.policy.documents import SECTIONS
from regalia.policy.ear_document import MEDIA_TYPE, PROFILE, Status, parse_ear
from regalia.wire.evidence import Tee, device_nonce, parse_evidence
from regalia_testing.accepted_evidence import NOW
from regalia_testing.attest_files import KINDS, WHEN, make
from regalia_testing.composite_testbed import BINDING
from regalia_testing.tees.nvidia.simulator import NvidiaSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia_testing.policy_scenario import PolicyScenario

LATE = "2029-01-01T00:00:00Z"


GOOD = KINDS["sev-snp"]
WITH_DEBUG = [tee for tee in KINDS if tee not in {"tpm", "az-snp-vtpm", "az-tdx-vtpm"}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each kind: evidence files and collateral."""
    root = tmp_path_factory.mktemp("attest-command")
    for tee in KINDS:
        folder = root / tee
        folder.mkdir()
        for name, evidence in make(folder, tee).items():
            (folder / f"{name}.json").write_bytes(evidence.encode())
    with contextlib.chdir(root):
        for name in ("verifier", "stranger"):
            assert run(["keygen", "sign", "--out", name, "--dangerous-no-passphrase"]) == 0
    return root


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Iterator[Path]:
    """The working directory holds links to what was made, and what a test writes."""
    for each in made.iterdir():
        (tmp_path / each.name).symlink_to(each)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def answer(command: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The JSON answer; nothing else is printed."""
    capsys.readouterr()
    assert run([*command, "--json"]) == status
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


def warned(found: dict[str, Any]) -> set[str]:
    """Codes of the warnings of an answer."""
    return {each["code"] for each in found["warnings"]}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("tee", KINDS)
def test_healthy_evidence(tee: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A simulated platform is a warning at best; the exit status says so to scripts."""
    kind = KINDS[tee]
    found = answer(kind.command(), kind.status, capsys)
    assert found["ok"] is False
    assert found["status"] == "warning"
    assert found["tee"] == tee
    assert found["fresh"] is True
    assert found["codes"] == []
    assert found["refusal"] is None
    assert found["now"] == WHEN
    assert found["policy"]["name"] == "baseline"
    assert re.fullmatch("regalia:baseline/v1:[0-9a-f]{64}", found["policy"]["id"])
    assert warned(found) & {"SIMULATED_HARDWARE", "MEMORY_NOT_ISOLATED"}
    section = f"platform.{SECTIONS[Tee(tee)]}."
    assert all(path.startswith((section, "platform.hardware=")) for path in found["wildcards"])
    assert found["not_judged"] == ["WORKLOAD_UNPINNED"]
    assert found["unbound_devices"] == 0
    assert found["checks"]
    for check in found["checks"]:
        assert set(check) == {
            "name", "title", "meaning", "outcome", "passed", "code", "seen", "wanted", "source",
        }  # fmt: skip
        assert check["outcome"] in {"pass", "open"}
        assert check["passed"] is (check["outcome"] == "pass")
        assert check["code"] == ""
        assert check["source"] in {"hardware_proven", "verifier_derived", "operator_asserted"}
    assert found["ear"]["eat_nonce"] == kind.challenge


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("tee", KINDS)
def test_for_people(tee: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind = KINDS[tee]
    assert run(kind.command()) == kind.status
    short = capsys.readouterr().out
    assert short.startswith("ACCEPTED WITH A WARNING\n")
    assert "bound to the challenge" in short
    assert "Not judged: whose workload this is." in short
    assert "FAIL" not in short
    assert "means" not in short
    assert run(kind.command("healthy", "--explain")) == kind.status
    explained = capsys.readouterr().out
    assert explained.count("         means ") == len(
        [line for line in explained.splitlines() if line.startswith(("pass ", "open "))]
    ) - explained.count("pass every rule")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("tee", WITH_DEBUG)
def test_debug_is_refused(tee: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(KINDS[tee].command("debug"), 5, capsys)
    assert found["codes"] == ["DEBUG_ENABLED"]
    assert found["status"] == "contraindicated"
    (finding,) = found["findings"]
    assert set(finding) == {"code", "what", "why", "fix"}
    assert all(finding.values())
    assert run(KINDS[tee].command("debug")) == 5
    said = capsys.readouterr().out
    assert said.startswith("REFUSED\n")
    assert "FAIL DEBUG_ENABLED: " in said
    assert "To do: " in said


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("tee", KINDS)
def test_another_challenge_is_refused(tee: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(KINDS[tee].command(challenge="07" * 64), 5, capsys)
    assert found["codes"] == ["NONCE_MISMATCH"]
    assert (found["fresh"], found["freshness"]) == (False, "failed")
    assert found["checks"][-1]["passed"] is False
    assert found["checks"][-1]["code"] == "NONCE_MISMATCH"
    assert found["refusal"]["code"] == "NONCE_MISMATCH"
    assert run(KINDS[tee].command(challenge="07" * 64)) == 5
    assert "FAILED: the evidence was not made for this challenge" in capsys.readouterr().out
    zeros = answer(KINDS[tee].command(challenge="00" * 64), 5, capsys)
    assert zeros["codes"] == ["NONCE_WELL_KNOWN"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("tee", KINDS)
def test_any_challenge_says_that_it_may_be_a_replay(
    tee: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(KINDS[tee].command(challenge="any"), 11, capsys)
    assert (found["fresh"], found["freshness"]) == (False, "unchecked")
    assert "FRESHNESS_UNCHECKED" in warned(found)
    assert {"name": "any/freshness", "outcome": "open", "passed": False}.items() <= {
        name: found["checks"][-1][name] for name in ("name", "outcome", "passed")
    }.items()
    assert "eat_nonce" not in found["ear"]
    assert run(KINDS[tee].command(challenge="any")) == 11
    assert "NOT CHECKED (--challenge any): this may be a replay" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("tee", [tee for tee in KINDS if tee != "tpm"])
def test_production_roots_know_no_simulation(tee: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = replace(KINDS[tee], anchor="").command()
    found = answer(command, 5, capsys)
    assert (found["codes"], found["freshness"]) == (["ROOT_UNTRUSTED"], "not_reached")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("tee", KINDS)
def test_another_time(tee: str, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = answer(KINDS[tee].command(now=LATE), 5, capsys)["codes"]
    assert code in {"CRL_STALE", "COLLATERAL_STALE", "CERT_EXPIRED"}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("tee", [tee for tee in KINDS if tee not in {"aws-nitro", "tpm"}])
def test_without_collateral(tee: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = KINDS[tee].command()
    at = command.index("--collateral")
    (code,) = answer(command[:at] + command[at + 2 :], 5, capsys)["codes"]
    assert code in {"CRL_MISSING", "COLLATERAL_MISSING"}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("tee", KINDS)
def test_a_machine_of_ones_own(tee: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(KINDS[tee].command("healthy", "--machine", "45" * 16), 5, capsys)
    assert found["codes"] == ["INSTANCE_NOT_ALLOWED"]
    assert run(KINDS[tee].command("healthy")) == 11
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.startswith("machine ")]
    own = line.split()[1]
    listed = answer(KINDS[tee].command("healthy", "--machine", own), 11, capsys)
    vector = listed["ear"]["submods"]["cpu"]["ear_trustworthiness_vector"]
    assert vector["instance-identity"] == 2


# -- EAR -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tee", KINDS)
def test_the_ear_is_written(here: Path, tee: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(KINDS[tee].command("healthy", "--ear", "result.json"), 11, capsys)
    written = parse_ear((here / "result.json").read_bytes())
    assert written.wire() == found["ear"]
    assert written.profile == PROFILE
    assert written.status() is Status.WARNING
    assert written.issued_at == int(NOW.timestamp())
    assert set(written.submods) == {"cpu"}


def test_the_ear_of_a_refusal_is_written_too(here: Path) -> None:
    kind = KINDS["sev-snp"]
    assert run(kind.command("healthy", "--ear", "no.json", challenge="07" * 64)) == 5
    written = parse_ear((here / "no.json").read_bytes())
    assert written.status() is Status.CONTRAINDICATED
    body = written.submods["cpu"]
    assert body.verifier_claims["findings"] == ["NONCE_MISMATCH"]


def test_a_signed_ear_is_a_token_of_that_key(here: Path) -> None:
    kind = KINDS["tdx"]
    sign = ("--ear", "result.jwt", "--sign", "verifier.key")
    assert run(kind.command("healthy", *sign)) == 11
    token = (here / "result.jwt").read_text()
    keys = [VerifyKey.from_pem((here / f"{n}.pub").read_bytes()) for n in ("verifier", "stranger")]
    payload = verify_compact(token, keys[:1], typ=MEDIA_TYPE)
    assert parse_ear(payload).status() is Status.WARNING
    with pytest.raises(IntegrityError):
        verify_compact(token, keys[1:], typ=MEDIA_TYPE)


def test_no_ear_is_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "result.json").write_text("mine")
    assert run(KINDS["tdx"].command("healthy", "--ear", "result.json")) == 9
    assert "FILE_EXISTS" in capsys.readouterr().err
    assert (here / "result.json").read_text() == "mine"


# -- devices ---------------------------------------------------------------------------------


@pytest.fixture
def with_devices(here: Path) -> list[str]:
    """The command for evidence of a CPU with two GPUs, and no word of what the CPU commits to."""
    machine = NvidiaSimulator.make(2, now=NOW)
    nonce = device_nonce(BINDING.role, BINDING.challenge, BINDING.hpke_public_key)
    evidence = parse_evidence((here / "sev-snp/healthy.json").read_bytes())
    (here / "devices.json").write_bytes(replace(evidence, devices=machine.evidence(nonce)).encode())
    roots = [(here / "sev-snp/collateral/ark.der").read_bytes(), machine.root]
    pem = "".join(ssl.DER_cert_to_PEM_cert(root) for root in roots)
    (here / "roots.pem").write_text(pem)
    (denials,) = machine.collateral().denials
    (here / "denials.json").write_bytes(denials)
    command = GOOD.command("healthy", "--endorsement", "denials.json")
    command[2] = "devices.json"
    command[command.index("--dangerous-simulated-anchor") + 1] = "roots.pem"
    return command


def test_devices_without_a_binding_are_judged_and_a_warning(
    with_devices: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What the CPU must commit to is told by a runtime's whole answer alone."""
    found = answer(with_devices, 11, capsys)
    assert found["unbound_devices"] == 2
    assert set(found["ear"]["submods"]) == {"cpu", "nvidia-gpu-0", "nvidia-gpu-1"}
    vector = found["ear"]["submods"]["cpu"]["ear_trustworthiness_vector"]
    assert vector["sourced-data"] == 32
    assert run(with_devices) == 11
    said = capsys.readouterr().out
    assert "warn DEVICES_UNBOUND: nothing shows that the 2 devices are this CPU's." in said
    assert {"DEVICES_UNBOUND", "RIM_MISSING"} <= warned(found)
    outcomes = {check["name"]: check["outcome"] for check in found["checks"]}
    assert outcomes["composite/cpu"] == outcomes["composite/devices"] == "open"
    assert all(check["passed"] is (check["outcome"] == "pass") for check in found["checks"])


def test_a_device_that_is_there_twice_is_a_warning(
    here: Path, with_devices: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a policy that lists devices nobody else would say so."""
    evidence = parse_evidence((here / "devices.json").read_bytes())
    one = evidence.devices[0]
    chain = "".join(ssl.DER_cert_to_PEM_cert(der) for der in one.endorsements)
    entry = {
        "arch": "HOPPER",
        "evidence": base64.b64encode(one.report).decode(),
        "certificate": base64.b64encode(chain.encode()).decode(),
    }
    for count in (1, 3):
        (here / f"{count}.json").write_text(json.dumps([entry] * count))
    nonce = device_nonce(BINDING.role, BINDING.challenge, BINDING.hpke_public_key).hex()
    command = [*with_devices[:2], "1.json", *with_devices[3:]]
    command[command.index("--challenge") + 1] = nonce
    answer(command, 11, capsys)
    command[2] = "3.json"
    assert answer(command, 5, capsys)["codes"] == ["COMPOSITE_MISMATCH"]


def test_devices_of_an_unknown_root_spoil_the_whole(
    with_devices: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    at = with_devices.index("roots.pem")
    command = [*with_devices[:at], "sev-snp/collateral/ark.der", *with_devices[at + 1 :]]
    assert answer(command, 5, capsys)["codes"] == ["ROOT_UNTRUSTED"]


# -- inspect ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("tee", KINDS)
def test_inspect_shows_and_verifies_nothing(tee: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = f"{tee}/healthy.json"
    assert run(["attest", "inspect", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verified"] is False
    assert found["subject"] == tee
    assert "UNTRUSTED" in found["warning"]
    assert found["parts"]
    assert run(["attest", "inspect", path]) == 0
    said = capsys.readouterr().out
    assert "UNTRUSTED: nothing was verified." in said
    assert said.endswith("Next: regalia attest verify\n")


@pytest.mark.usefixtures("here")
def test_inspect_shows_bits_as_bits(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["attest", "inspect", "sev-snp/debug.json"]) == 0
    assert "POLICY         SMT, RESERVED_ONE, DEBUG" in capsys.readouterr().out
    assert run(["attest", "inspect", "sev-snp/debug.json", "--raw"]) == 0
    assert "(0xb" in capsys.readouterr().out


# -- bad input -------------------------------------------------------------------------------


def _without(command: list[str], *names: str) -> list[str]:
    for name in names:
        at = command.index(name)
        command = command[:at] + command[at + 2 :]
    return command


def _policy(path: str) -> list[str]:
    command = _without(GOOD.command(), "--revocation")
    command[command.index("--policy") + 1] = path
    return command


def test_rules_about_a_release_are_named_and_not_judged(
    here: Path, scenario: PolicyScenario, capsys: pytest.CaptureFixture[str]
) -> None:
    """A policy that nothing of a platform's fails is still no release."""
    (here / "release.json").write_bytes(scenario.policy.encode())
    (here / "section.json").write_bytes(scenario.policy.platform.encode())
    found = answer(_policy("release.json"), 5, capsys)
    assert found["not_applied"][:3] == ["model", "freshness", "placement"]
    assert {"holders_max", "custody", "approvals", "conditions"} <= set(found["not_applied"])
    assert not {"platform", "format", "version"} & set(found["not_applied"])
    assert answer(_policy("section.json"), 5, capsys)["not_applied"] == []
    assert run(_policy("release.json")) == 5
    assert "nothing is released here: model, freshness, placement" in capsys.readouterr().out


BAD: dict[str, tuple[list[str], str, int]] = {
    "missing evidence": (["attest", "verify", "no.json", *GOOD.command()[3:]], "FILE_MISSING", 9),
    "garbage": (["attest", "verify", "garbage", *GOOD.command()[3:]], "FORM_UNKNOWN", 3),
    "empty": (["attest", "verify", "empty", *GOOD.command()[3:]], "FORM_UNKNOWN", 3),
    "folder": (["attest", "verify", "sev-snp", *GOOD.command()[3:]], "IO_FAILED", 9),
    "cut evidence": (["attest", "verify", "cut.json", *GOOD.command()[3:]], "MALFORMED", 3),
    "challenge that is no hex": (GOOD.command(challenge="zz"), "BAD_USAGE", 2),
    "challenge of half a byte": (GOOD.command(challenge="abc"), "BAD_USAGE", 2),
    "no time": (GOOD.command(now="yesterday"), "BAD_USAGE", 2),
    "no such day": (GOOD.command(now="2026-02-30T00:00:00Z"), "BAD_USAGE", 2),
    "machine that is no hex": (GOOD.command("healthy", "--machine", "my server"), "BAD_USAGE", 2),
    "signer of the baseline": (GOOD.command("healthy", "--signer", "verifier.pub"), "BAD_USAGE", 2),
    "key without an EAR": (GOOD.command("healthy", "--sign", "verifier.key"), "BAD_USAGE", 2),
    "words beside a policy": ([*_policy("garbage"), "--revocation", "any"], "BAD_USAGE", 2),
    "machine beside a policy": ([*_policy("garbage"), "--machine", "00"], "BAD_USAGE", 2),
    "missing policy": (_policy("no.json"), "FILE_MISSING", 9),
    "policy that is none": (_policy("garbage"), "WRONG_FILE", 3),
    "missing endorsement": (GOOD.command("healthy", "--endorsement", "no.der"), "FILE_MISSING", 9),
    "endorsement that is none": (
        GOOD.command("healthy", "--endorsement", "garbage"),
        "FORM_UNKNOWN",
        3,
    ),
    "missing anchor": (replace(GOOD, anchor="no.der").command(), "FILE_MISSING", 9),
    "anchor that is none": (replace(GOOD, anchor="healthy.json").command(), "FORM_UNKNOWN", 3),
    "missing collateral": (
        [*_without(GOOD.command(), "--collateral"), "--collateral", "no"],
        "FILE_MISSING",
        9,
    ),
    "EAR in no folder": (GOOD.command("healthy", "--ear", "no/ear.json"), "FILE_MISSING", 9),
    "missing key": (
        GOOD.command("healthy", "--ear", "ear.jwt", "--sign", "no.key"),
        "FILE_MISSING",
        9,
    ),
    "inspect nothing": (["attest", "inspect", "no.json"], "FILE_MISSING", 9),
    "inspect garbage": (["attest", "inspect", "garbage"], "FORM_UNKNOWN", 3),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("form", ["text", "json"])
def test_bad_input(here: Path, name: str, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "garbage").write_bytes(b"\x00\xffgarbage\x1b[31m")
    (here / "empty").write_bytes(b"")
    (here / "cut.json").write_bytes((here / "sev-snp/healthy.json").read_bytes()[:-9])
    command, code, status = BAD[name]
    assert run([*command, "--json"] if form == "json" else command) == status
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    assert "\x1b[31m" not in said.out + said.err
    if form == "json":
        error = json.loads(said.out)["error"]
        assert error["code"] == code
        assert error["fix"]
    else:
        assert f"refused [{code}" in said.err
        assert "What to do: " in said.err


@pytest.mark.parametrize("name", ["--policy", "--challenge", "--now"])
@pytest.mark.usefixtures("here")
def test_nothing_that_matters_has_a_default(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No policy, challenge or time is ever assumed."""
    command = _without(GOOD.command(), name)
    assert run(command) == 2
    assert name in capsys.readouterr().err
    error = answer(command, 2, capsys)["error"]
    assert error["code"] == "BAD_USAGE"
    assert name in error["what"]
    assert error["why"]
    assert error["fix"]
