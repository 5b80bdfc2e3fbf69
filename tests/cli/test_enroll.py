"""``regalia attest enroll`` against a live TPM: the four steps, and what each refuses."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from regalia.appraisal.claims import Hardware
from regalia.cli.attest.enroll import enroll
from regalia.core.errors import RegaliaError
from regalia.tees.tpm.evidence.enrolment import parse_enrolment
from regalia_testing.tees.tpm.swtpm import TpmMaker, missing_programs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from regalia_testing.tees.tpm.swtpm import SoftwareTpm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {missing_programs()}"),
]


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> TpmMaker:
    return TpmMaker.create(tmp_path_factory.mktemp("tpm-maker") / "ca")


@pytest.fixture(scope="module")
def tpm(maker: TpmMaker) -> Iterator[SoftwareTpm]:
    with maker.make() as made:
        yield made


def run(*arguments: object) -> dict[str, Any]:
    result = _invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    printed: dict[str, Any] = json.loads(result.output)
    return printed


def refusal(*arguments: object) -> str:
    result = _invoke(*arguments)
    assert isinstance(result.exception, RegaliaError), result.output
    return result.exception.code.name


def _invoke(*arguments: object) -> Result:
    return CliRunner().invoke(enroll, [str(each) for each in arguments])


def trust(maker: TpmMaker, *, revocation: str = "any") -> list[object]:
    root = maker.folder / "swtpm-localca-rootca-cert.pem"
    issuer = maker.folder / "issuercert.pem"
    return ["--ek-root", root, "--endorsement", issuer, "--revocation", revocation]


def test_four_steps(maker: TpmMaker, tpm: SoftwareTpm, tmp_path: Path) -> None:
    request, challenge, answer, state, out = (
        tmp_path / name for name in ("request", "challenge", "answer", "state", "enrolment")
    )
    at = ["--tcti", tpm.tcti]
    asked = run("request", *at, "--out", request)
    run("challenge", request, *trust(maker), "--state", state, "--out", challenge)
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert refusal("activate", challenge, *at, "--ak", "rsa-2048", "--out", answer) == (
        "TPM_COMMAND_FAILED"
    )
    run("activate", challenge, *at, "--out", answer)
    state.chmod(0o644)
    finish = ["finish", answer, *trust(maker), "--state", state, "--out", out]
    assert refusal(*finish) == "INSECURE_MODE"
    state.chmod(0o600)
    done = run(*finish)
    enrolment = parse_enrolment(out.read_bytes())
    assert done["ak_name"] == asked["ak_name"] == enrolment.ak_name.hex()
    assert done["hardware"] == Hardware.SIMULATED == enrolment.hardware
    assert not state.exists()
    assert refusal(*finish) == "FILE_MISSING"  # once only


def test_revocation_is_required_unless_it_is_written(
    maker: TpmMaker, tpm: SoftwareTpm, tmp_path: Path
) -> None:
    run("request", "--tcti", tpm.tcti, "--out", tmp_path / "request")
    step = ["challenge", tmp_path / "request", "--state", tmp_path / "s", "--out", tmp_path / "c"]
    assert refusal(*step, *trust(maker, revocation="required")) == "CRL_MISSING"
    other = TpmMaker.create(tmp_path / "other")
    with other.make():
        wrong_root = [*trust(maker)[2:], *trust(other)[:2]]
        assert refusal(*step, *wrong_root) == "ROOT_UNTRUSTED"
        assert refusal(*step, *trust(other)) == "CHAIN_INVALID"  # an issuer of the same name
    assert not (tmp_path / "s").exists()


def test_an_answer_to_another_challenge(maker: TpmMaker, tpm: SoftwareTpm, tmp_path: Path) -> None:
    at = ["--tcti", tpm.tcti]
    run("request", *at, "--out", tmp_path / "request")
    for n in "12":
        run(
            "challenge",
            tmp_path / "request",
            *trust(maker),
            "--state",
            tmp_path / f"state{n}",
            "--out",
            tmp_path / f"challenge{n}",
        )
    run("activate", tmp_path / "challenge1", *at, "--out", tmp_path / "answer")
    out = tmp_path / "enrolment"
    finish = ["finish", tmp_path / "answer", *trust(maker), "--out", out, "--state"]
    assert refusal(*finish, tmp_path / "state2") == "CREDENTIAL_REJECTED"
    assert not out.exists()


def test_no_tpm(tmp_path: Path) -> None:
    where = "swtpm:path=/nonexistent"
    assert refusal("request", "--tcti", where, "--out", tmp_path / "r") == "TPM_UNREACHABLE"


def test_for_people(tpm: SoftwareTpm, tmp_path: Path) -> None:
    result = _invoke("request", "--tcti", tpm.tcti, "--out", tmp_path / "request")
    assert result.exit_code == 0
    assert "ak_name  000b" in result.output
