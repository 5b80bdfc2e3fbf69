"""A file of the wrong kind: the refusal names it, what was wanted, and what it seems to be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from regalia.cli.main import run
from regalia.cli.wrong_file import seems_to_be
from regalia.crypto.sign import SigningKey

POLICIES = Path(__file__).parents[1] / "vectors" / "policy"
CHAT = ["chat", "--url", "http://127.0.0.1:1", "--once", "x", "--policy"]
VERIFY = ["attest", "verify", "policy.json", "--challenge", "any", "--now", "now", "--policy"]
CASES: dict[str, tuple[list[str], str, tuple[str, ...]]] = {
    "policy explain": (
        ["policy", "explain", "model/config.json"],
        "WRONG_FILE",
        ("model/config.json: want a policy", "a JSON document of another kind", "architectures"),
    ),
    "policy check": (
        ["policy", "check", "evidence.json"],
        "WRONG_FILE",
        ("evidence.json: want a policy", "seems to be evidence of a TEE"),
    ),
    "chat": ([*CHAT, "owner.pub"], "WRONG_FILE", ("--policy owner.pub: ", "a public key")),
    "eif": (["measure", "eif", "policy.json"], "WRONG_FILE", ("policy.json: want an AWS Nitro",)),
    "tdvf": (["measure", "tdvf", "x.eif"], "WRONG_FILE", ("x.eif: want a firmware", "(EIF)")),
    "snp": (
        ["measure", "snp", "owner.pub", "--vcpus", "1", "--vmm", "ec2"],
        "WRONG_FILE",
        ("owner.pub: want a firmware image", "a public key"),
    ),
    "uki": (["measure", "uki", "x.eif"], "WRONG_FILE", ("x.eif: want an executable", "(EIF)")),
    "malformed": (["measure", "eif", "x.eif"], "MALFORMED", ("x.eif: EIF",)),
    "private key": (
        ["policy", "explain", "policy.json", "--signer", "owner.key"],
        "PUBLIC_KEY_MALFORMED",
        ("owner.key is a private key; want its public half, owner.pub",),
    ),
    "no key": (
        ["policy", "explain", "policy.json", "--signer", "policy.json"],
        "PUBLIC_KEY_MALFORMED",
        ("policy.json: not a public key", "seems to be a policy"),
    ),
    "typing error": ([*VERIFY, "baselin"], "FILE_MISSING", ("baselin: ", "is baseline")),
    "folder of a model": (
        ["collateral", "check", "model"],
        "WRONG_FILE",
        ("model seems to be a model; want a folder of certificates",),
    ),
    "file for a folder": (
        ["collateral", "check", "policy.json"],
        "BAD_USAGE",
        ("policy.json is a file: want a folder of loose files, or a bundle",),
    ),
    "folder for a file": (["policy", "check", "model"], "IO_FAILED", ("model: ",)),
    "standard input": (["policy", "check", "-"], "NOT_A_REGULAR_FILE", ("standard input",)),
    "a device": (["policy", "check", "/dev/null"], "NOT_A_REGULAR_FILE", ("a device",)),
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    key = SigningKey.generate_ed25519()
    Path("owner.pub").write_bytes(key.verify_key.to_pem())
    Path("owner.key").write_bytes(key.to_pem(None))
    Path("model").mkdir()
    Path("model/config.json").write_text('{"architectures": ["X"], "dropout": 0.0}')
    Path("x.eif").write_bytes(b".eif and no more")
    Path("evidence.json").write_text('{"devices": [], "format": "regalia/evidence/v2"}')
    shutil.copy(POLICIES / "release-policy.json", "policy.json")
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_the_refusal_says_what_was_given_for_what(
    name: str, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, code, said = CASES[name]
    assert run([*arguments, "--json"]) in {2, 3, 9}
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == code
    for each in said:
        assert each in error["what"]
    secret = (desk / "owner.key").read_text().splitlines()[1]
    assert secret not in str(error)


@pytest.mark.parametrize(
    ("data", "seems"),
    [
        (b"a passphrase", "text, and no document known here"),
        (b"\xff\xfe\x00\x01", "bytes that are no text, of a kind that is not known here"),
        (b'{"format": "regalia/client-policy/v1"}', "a client policy"),
        (b'{"format": "regalia/rim/v1"}', "a document of the format regalia/rim/v1"),
        (b'{"\\u001b[31m": 1}', "members: '\\x1b[31m'"),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "a private key"),
        (b"-----BEGIN CERTIFICATE-----\n", "a certificate"),
        (bytes(4096), "text, and no document known here"),
    ],
)
def test_what_files_seem_to_be(data: bytes, seems: str) -> None:
    assert seems in (seems_to_be(data) or "nothing")


@pytest.mark.parametrize(
    "data", [b"", b'{"format": "regalia/x/y"}', b'{"platform": {}}', b'{"payload": 1}', b"{,"]
)
def test_what_may_be_a_policy_with_a_mistake_in_it(data: bytes) -> None:
    assert seems_to_be(data) is None


def test_a_pipe() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "regalia", "policy", "check", "/dev/stdin"],
        input=(POLICIES / "release-policy.json").read_bytes(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 9
    assert (
        b"[NOT_A_REGULAR_FILE] /dev/stdin: want a regular file, and this is a pipe" in done.stderr
    )
    assert b"save what comes through a pipe" in done.stderr


@pytest.mark.parametrize("name", ["a\nrefused [X] b", "a\x1b[31mb", os.fsdecode(b"a\xff")])
def test_a_name_of_a_file_is_shown_on_one_line(
    name: str, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    escaped = name.encode("unicode_escape").decode() if "\udcff" not in name else "a\\udcff"
    assert run(["policy", "check", name]) == 9
    assert f"[FILE_MISSING] {escaped}: No such file" in capsys.readouterr().err
    shutil.copy(desk / "policy.json", desk / name)
    assert run(["policy", "explain", name]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(escaped)
