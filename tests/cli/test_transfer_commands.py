"""push, pull, ls and gc as people and programs see them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.cli.main import run
from regalia.crypto.sign import SigningKey
from tests.store.owned import sealed

if TYPE_CHECKING:
    from tests.store.owned import Sent


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    return sealed(tmp_path_factory.mktemp("owned"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return "dir:store"


def said(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, object]:
    """What a command says to a program, with its exit status."""
    capsys.readouterr()
    status = run([*map(str, words), "--json"])
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document | {"status": status}


def code(document: dict[str, object]) -> object:
    error = document["error"]
    assert isinstance(error, dict)
    return error["code"]


def test_there_and_back(
    sent: Sent, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    total = sum(blob.size for blob in sent.image.blobs)
    done = said(capsys, "push", sent.folder, f"{store}:v1", "--signer", sent.signer)
    assert (done["status"], done["sent_bytes"], done["kept_bytes"]) == (0, total, 0)
    assert done["version"] == "dir:store:v1"
    again = said(capsys, "push", f"{store}:v1", "dir:other:v1", "--signer", sent.signer)
    assert again["pinned"] == str(done["pinned"]).replace("store", "other")
    listed = said(capsys, "ls", "dir:other")
    (row,) = listed["versions"]  # type: ignore[misc]
    assert row["name"] == "v1"
    assert row["model_id"] == str(sent.owned.manifest().model_id)
    assert (row["files"], row["bytes"]) == (len(sent.image.blobs), total)
    pulled = said(capsys, "pull", done["pinned"], "out", "--signer", sent.signer)
    assert (pulled["status"], pulled["signer_check"]) == (0, "named")
    assert sent.same(tmp_path / "out")


def test_what_people_read(sent: Sent, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ls", store]) == 9
    assert run(["push", str(sent.folder), f"{store}:v1"]) == 0
    shown = capsys.readouterr()
    assert "was not compared with a key you trust" in shown.err
    assert f"{len(sent.image.blobs)} files" in shown.out
    assert run(["ls", store]) == 0
    assert "v1" in capsys.readouterr().out
    assert run(["pull", f"{store}:v1", "out", "--signer", str(sent.signer)]) == 0
    assert "signature, all bytes" in capsys.readouterr().out
    assert run(["gc", store]) == 0
    assert "would remove" in capsys.readouterr().out


def test_a_pull_needs_a_signer(sent: Sent, store: str, tmp_path: Path) -> None:
    run(["push", str(sent.folder), f"{store}:v1", "--signer", str(sent.signer)])
    assert run(["pull", f"{store}:v1", "out"]) == 2
    assert not (tmp_path / "out").exists()


def test_another_signer(
    sent: Sent, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.pub"
    other.write_bytes(SigningKey.generate_ed25519().verify_key.to_pem())
    refused = said(capsys, "push", sent.folder, f"{store}:v1", "--signer", other)
    assert (refused["status"], code(refused)) == (4, "SIGNER_UNKNOWN")
    assert not (tmp_path / "store").exists()
    run(["push", str(sent.folder), f"{store}:v1", "--signer", str(sent.signer)])
    refused = said(capsys, "pull", f"{store}:v1", "out", "--signer", other)
    assert (refused["status"], code(refused)) == (4, "SIGNER_UNKNOWN")
    refused = said(
        capsys, "pull", f"{store}:v1", "out", "--signer", sent.signer, "--minimum-version", 8
    )
    assert (refused["status"], code(refused)) == (4, "VERSION_ROLLBACK")
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("dest", ["dir:store", "dir:store@sha256:" + "0" * 64])
@pytest.mark.usefixtures("store")
def test_a_destination_without_a_name(
    dest: str, sent: Sent, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = said(capsys, "push", sent.folder, dest)
    assert (refused["status"], code(refused)) == (2, "BAD_USAGE")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("pull", "dir:store:absent", "out", "--signer", "any"), "VERSION_MISSING"),
        (("pull", "dir:store", "out", "--signer", "any"), "BAD_CONFIG"),
        (("ls", "folder"), "BAD_CONFIG"),
        (("pull", "store", "out", "--signer", "any"), "BAD_CONFIG"),  # without dir: and name
        (("verify", "dir:store:v1"), "BAD_USAGE"),
        (("inspect", "oci://127.0.0.1:9/a:v1"), "BAD_USAGE"),
        (("gc", "oci://127.0.0.1:9/a"), "STORE_CANNOT"),
        (("pull", "dir:store:v1", "taken", "--signer", "any"), "FILE_EXISTS"),
    ],
)
@pytest.mark.usefixtures("store")
def test_refusals(
    words: tuple[str, ...], expected: str, sent: Sent, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["push", str(sent.folder), "dir:store:v1"])
    Path("taken").mkdir()
    assert code(said(capsys, *words)) == expected


def test_a_name_is_replaced_when_asked(
    sent: Sent, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = sealed(tmp_path / "elsewhere")
    run(["push", str(sent.folder), f"{store}:v1"])
    words = ("push", other.folder, f"{store}:v1")
    assert code(said(capsys, *words)) == "VERSION_EXISTS"
    assert said(capsys, *words, "--replace")["status"] == 0
    run(["pull", f"{store}:v1", "out", "--signer", str(other.signer)])
    assert other.same(tmp_path / "out")


def test_a_version_that_cannot_be_read_is_listed(
    sent: Sent, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["push", str(sent.folder), f"{store}:v1"])
    (tmp_path / "store/versions/v2").write_text("nothing")
    listed = said(capsys, "ls", store)
    assert [row["name"] for row in listed["versions"]] == ["v1", "v2"]  # type: ignore[attr-defined]
    assert run(["ls", store]) == 0
    assert "STORE_ANSWER_WRONG" in capsys.readouterr().out


def test_what_is_collected(
    sent: Sent, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["push", str(sent.folder), f"{store}:v1"])
    (tmp_path / "store/versions/v1").unlink()
    assert said(capsys, "gc", store, "--delete")["blobs"] == []
    for path in (tmp_path / "store/blobs").iterdir():
        os.utime(path, (path.stat().st_mtime - 86_500,) * 2)
    assert run(["gc", store, "--grace-hours", "6"]) == 2
    shown = said(capsys, "gc", store)
    assert len(shown["blobs"]) == len(sent.image.blobs) + 1  # type: ignore[arg-type]
    assert shown["deleted"] is False
    assert said(capsys, "gc", store, "--delete")["blobs"] == shown["blobs"]
    assert list((tmp_path / "store/blobs").iterdir()) == []
