"""A bundle's way across the air gap, and everything that must not get through."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from regalia.cli.collateral import install as collateral_install
from regalia.cli.main import run
from regalia.client.collateral import FLOOR_FILE, FloorFile
from regalia.core.clock import rfc3339
from regalia.crypto.sign import SigningKey
from regalia.host.clock import system_clock
from regalia.verifier.collateral import make_bundle, peek_bundle, sort_files
from regalia_testing.collateral import DENY_LIST, SITE, tcb_info_body
from regalia_testing.tees.snp.simulator import SnpSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator

NEXT = rfc3339(system_clock() + timedelta(days=20))
SIGN = ("--sign", "a.key", "--sign", "b.key")
SIGNERS = ("--signer", "a.pub", "--signer", "b.pub", "--threshold", "2")
REGALIA = [sys.executable, "-m", "regalia"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys, loose files, evidence and a first bundle."""
    folder = tmp_path_factory.mktemp("collateral")
    with contextlib.chdir(folder):
        for name in ("a", "b", "stranger"):
            assert run(["keygen", "sign", "--out", name, "--dangerous-no-passphrase"]) == 0
        platform = SnpSimulator.create(Path("platform"))
        shutil.copytree("platform/collateral", "loose")
        Path("loose/deny.json").write_bytes(DENY_LIST.encode())
        Path("loose/README.txt").write_text("not collateral")
        later = rfc3339(system_clock() + timedelta(days=25))
        tcb = tcb_info_body(number=18, next_update=later)
        Path("loose/tcb.json").write_bytes(tcb + b"\n")
        evidence = platform.evidence(
            b"r" * 64, measurement=hashlib.sha384(b"x").digest(), runtime_config=b"c"
        )
        Path("evidence.json").write_bytes(evidence.encode())
        Path("rubbish").write_bytes(b"rubbish")
        assert run(export("first", "--serial", "1")) == 0
    return folder


def export(out: str, *more: str, folder: str = "loose", sign: tuple[str, ...] = SIGN) -> list[str]:
    command = ["collateral", "export", folder, "--out", out, "--next-update", NEXT]
    return [*command, "--name", SITE, *sign, *more]


def install(bundle: str, *more: str) -> list[str]:
    return ["collateral", "import", bundle, "--into", "site", *SIGNERS, "--name", SITE, *more]


@pytest.fixture
def here(shared: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy to work in."""
    folder = tmp_path / "work"
    shutil.copytree(shared, folder)
    with contextlib.chdir(folder):
        yield folder


def refused(command: list[str], code: str, status: int, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run([*command, "--json"]) == status, capsys.readouterr()
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert answer["error"]["code"] == code, answer
    assert run(command) == status
    said = capsys.readouterr().err
    assert code in said
    assert "Traceback" not in said
    what: str = answer["error"]["what"]
    return what


def output(command: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*command, "--json"]) == 0, capsys.readouterr()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert answer["ok"] is True
    return answer


def bundle(shared: Path, **changes: Any) -> bytes:  # noqa: ANN401
    """A bundle with dates and serial number of one's choice, signed by both keys."""
    keys = tuple(SigningKey.from_pem((shared / f"{n}.key").read_bytes(), None) for n in "ab")
    files = {"ark.der": (shared / "loose/ark.der").read_bytes()}
    now = system_clock()
    fields: dict[str, Any] = {
        "name": SITE,
        "serial": 2,
        "issued": now - timedelta(days=1),
        "next_update": now + timedelta(days=9),
        "tcb_evaluation_data_number": 18,
        "keys": keys,
    }
    return make_bundle(sort_files(files), **(fields | changes))


# -- the way through -------------------------------------------------------------------------


def test_from_loose_files_into_a_site(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(["collateral", "show", "first", *SIGNERS], capsys)
    assert (shown["name"], shown["serial"], shown["checked"]) == (SITE, 1, True)
    assert shown["floors"] == {"tcb_evaluation_data_number": 18}
    kinds = [entry["kind"] for entry in shown["entries"]]
    assert kinds == ["certificate"] * 3 + ["crl", "device-deny-list", "intel-tcb-info"]
    assert {entry["source"] for entry in shown["entries"]} >= {"ark.der", "deny.json", "tcb.json"}
    first = output(install("first"), capsys)
    assert first["previous_serial"] is None
    assert len(first["changes"]) == 6
    (here / "loose/deny.json").unlink()
    assert run(export("second", "--after", "first")) == 0
    second = output(install("second"), capsys)
    assert (second["serial"], second["previous_serial"]) == (2, 1)
    (change,) = second["changes"]
    assert (change["kind"], change["name"], change["new"]) == (
        "device-deny-list",
        DENY_LIST.name,
        "-",
    )
    site = here / "site"
    assert sorted(p.name for p in site.iterdir()) == [
        FLOOR_FILE,
        "collateral.bundle",
        "collateral.previous",
    ]
    assert (site / "collateral.bundle").read_bytes() == Path("second").read_bytes()
    assert (site / "collateral.previous").read_bytes() == Path("first").read_bytes()
    check = ["collateral", "check", "site/collateral.bundle", *SIGNERS, "--name", SITE]
    checked = output([*check, "--state", "site", "--evidence", "evidence.json"], capsys)
    assert checked["soonest"][0]["kind"] == "intel-tcb-info"
    assert all(need["where"] for need in checked["needs"]["evidence.json"])


def test_events_of_an_import(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert here.exists()
    capsys.readouterr()
    assert run(install("first")) == 0
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("{")]
    event = json.loads(line)
    assert event["event"] == "collateral.installed"
    assert (event["name"], event["serial"], event["entries"]) == (SITE, 1, 6)
    assert len(event["signed_by"]) == 2


def test_the_site_is_remembered(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["collateral", "import", "first", "--into", "site", *SIGNERS]
    refused(command, "BAD_USAGE", 2, capsys)
    assert run(install("first")) == 0
    Path("second").write_bytes(bundle(here))
    assert run(["collateral", "import", "second", "--into", "site", *SIGNERS]) == 0


def test_importing_twice_changes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(install("first")) == 0
    assert output(install("first"), capsys)["changes"] == []
    assert not (here / "site/collateral.previous").exists()


def test_people_sign_one_after_another(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert here.exists()
    one, two = ("--sign", "a.key"), ("--sign", "b.key")
    assert run(export("half", "--serial", "5", sign=one)) == 0
    refused(install("half"), "COLLATERAL_SIG_INVALID", 5, capsys)
    assert run(["collateral", "sign", "half", *two, "--out", "whole"]) == 0
    assert run(install("whole")) == 0
    refused(["collateral", "sign", "whole", *two, "--out", "x"], "MALFORMED", 3, capsys)
    refused(["collateral", "sign", "whole", "--out", "x"], "BAD_USAGE", 2, capsys)
    refused(["collateral", "sign", "half", *two, "--out", "whole"], "FILE_EXISTS", 9, capsys)
    refused(["collateral", "sign", "rubbish", *two, "--out", "x"], "MALFORMED", 3, capsys)


# -- export ----------------------------------------------------------------------------------


def test_export_never_goes_back(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("later").write_bytes(bundle(here, serial=7, tcb_evaluation_data_number=17))
    after = ("--after", "later")
    assert "7 was seen" in refused(
        export("x", "--serial", "6", *after), "COLLATERAL_ROLLBACK", 5, capsys
    )
    refused(export("x", "--serial", "7", *after), "COLLATERAL_ROLLBACK", 5, capsys)
    refused(export("x", "--tcb-floor", "16", *after), "COLLATERAL_ROLLBACK", 5, capsys)
    refused(export("x", "--tcb-floor", "19", *after), "COLLATERAL_ROLLBACK", 5, capsys)
    refused(export("x", *after, "--name", "other"), "COLLATERAL_MISSING", 5, capsys)
    refused(export("x", *after, "--signer", "stranger.pub"), "COLLATERAL_SIG_INVALID", 5, capsys)
    stranger = ("--sign", "stranger.key")
    refused(export("x", *after, sign=stranger), "COLLATERAL_SIG_INVALID", 5, capsys)
    assert not (here / "x").exists()
    assert run(export("x", *after)) == 0
    made = peek_bundle(Path("x").read_bytes()).document
    assert (made.serial, made.floors.tcb_evaluation_data_number) == (8, 18)


def test_export_of_what_is_no_collateral(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    refused(export("x", "--serial", "1", folder="empty"), "MALFORMED", 3, capsys)
    refused(export("x", "--serial", "1", folder="none"), "FILE_MISSING", 9, capsys)
    refused(export("x", "--serial", "1", folder="rubbish"), "NOT_A_DIRECTORY", 9, capsys)
    for name, data in {
        "x.der": b"rubbish",
        "x.json": b'{"format":"regalia/release-policy/v1"}',
        "y.json": b'{"tcbInfo":{},"signature":""}',
        "z.json": b"{",
        "x.pem": b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
    }.items():
        (here / "empty" / name).write_bytes(data)
        code = "FORM_UNKNOWN" if data == b"rubbish" else "MALFORMED"
        refused(export("x", "--serial", "1", folder="empty"), code, 3, capsys)
        (here / "empty" / name).unlink()
    pytest.importorskip("signxml")
    (here / "empty/x.xml").write_bytes(b"<x/>")
    refused(export("x", "--serial", "1", folder="empty"), "RIM_MALFORMED", 3, capsys)
    assert not (here / "x").exists()


def test_export_needs_everything_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert here.exists()
    refused(export("x"), "BAD_USAGE", 2, capsys)  # no serial number
    refused(export("x", "--serial", "1", sign=()), "BAD_USAGE", 2, capsys)
    refused(export("first", "--serial", "1"), "FILE_EXISTS", 9, capsys)
    past = ("--next-update", "2020-01-01T00:00:00Z")
    refused(export("x", "--serial", "1", *past), "BAD_USAGE", 2, capsys)
    for text in ("tomorrow", "2027-01-01", "2027-01-01T00:00:00+00:00", "2027-1-1T00:00:00Z"):
        assert run(export("x", "--serial", "1", "--next-update", text)) == 2
    for serial in ("0", "-1", "9007199254740992", "one"):
        assert run(export("x", "--serial", serial)) == 2
    nameless = [word for word in export("x", "--serial", "1") if word not in ("--name", SITE)]
    refused(nameless, "BAD_USAGE", 2, capsys)
    for name in (" x", "x\ny", "x" * 201, ""):
        refused(export("x", "--serial", "1", "--name", name), "MALFORMED", 3, capsys)
    assert not (here / "x").exists()


def test_nvidias_manifests_are_taken_in(
    vectors: Path, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("signxml")
    Path("rims").mkdir()
    name = "NV_GPU_DRIVER_GH100_550.144.03"
    shutil.copy(vectors / f"nvidia/rim/{name}.xml", "rims")
    moment = datetime(2026, 6, 1, tzinfo=UTC)
    monkeypatch.setattr("regalia.cli.collateral.make.system_clock", lambda: moment)
    assert run(export("x", "--serial", "1", folder="rims")) == 0
    (entry,) = output(["collateral", "show", "x"], capsys)["entries"]
    assert (entry["kind"], entry["name"]) == ("nvidia-rim", name)
    bad = vectors / "nvidia/rim/incorrect_cert_chain_driver_rim.xml"
    shutil.copy(bad, f"rims/{name}.xml")
    refused(export("y", "--serial", "1", folder="rims"), "ROOT_UNTRUSTED", 5, capsys)
    assert not (here / "y").exists()


# -- import ----------------------------------------------------------------------------------


def test_what_is_not_installed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(install("first")) == 0
    before = {p.name: p.read_bytes() for p in (here / "site").iterdir()}
    now = system_clock()
    key = (SigningKey.from_pem(Path("a.key").read_bytes(), None),)
    stranger = (SigningKey.from_pem(Path("stranger.key").read_bytes(), None),)
    cases: dict[str, tuple[bytes, str, int]] = {
        "unsigned": (bundle(here, keys=()), "COLLATERAL_SIG_INVALID", 5),
        "one of two": (bundle(here, keys=key), "COLLATERAL_SIG_INVALID", 5),
        "one and a stranger": (bundle(here, keys=key + stranger), "COLLATERAL_SIG_INVALID", 5),
        "another site": (bundle(here, name="other"), "COLLATERAL_MISSING", 5),
        "same serial number": (bundle(here, serial=1), "COLLATERAL_ROLLBACK", 5),
        "lower floor": (bundle(here, tcb_evaluation_data_number=17), "COLLATERAL_ROLLBACK", 5),
        "stale": (
            bundle(here, next_update=now - timedelta(seconds=9)),
            "COLLATERAL_STALE",
            5,
        ),
        "from the future": (bundle(here, issued=now + timedelta(days=1)), "COLLATERAL_STALE", 5),
        "rubbish": (b"rubbish", "MALFORMED", 3),
        "cut": (bundle(here)[:-1], "MALFORMED", 3),
        "empty": (b"", "MALFORMED", 3),
    }
    for name, (data, code, status) in cases.items():
        Path("next").write_bytes(data)
        refused(install("next"), code, status, capsys)
        assert {p.name: p.read_bytes() for p in (here / "site").iterdir()} == before, name
    refused(install("none"), "FILE_MISSING", 9, capsys)
    without = ["collateral", "import", "first", "--into", "site", "--name", SITE]
    refused(without, "BAD_USAGE", 2, capsys)
    refused([*without, "--signer", "none.pub"], "FILE_MISSING", 9, capsys)
    refused([*without, "--signer", "a.key"], "PUBLIC_KEY_MALFORMED", 3, capsys)
    refused(install("first", "--into", "rubbish"), "FILE_EXISTS", 9, capsys)
    assert {p.name: p.read_bytes() for p in (here / "site").iterdir()} == before


def test_a_refusal_is_logged(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("next").write_bytes(bundle(here, name="other"))
    capsys.readouterr()
    assert run(install("next")) == 5
    event = json.loads(capsys.readouterr().err.splitlines()[0])
    assert event["event"] == "collateral.refused"
    assert event["code"] == "COLLATERAL_MISSING"


def test_an_older_bundle_is_refused_even_if_the_newer_one_is_gone(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("second").write_bytes(bundle(here))
    assert run(install("second")) == 0
    (here / "site/collateral.bundle").unlink()
    refused(install("first"), "COLLATERAL_ROLLBACK", 5, capsys)


def test_an_older_bundle_is_refused_even_if_the_floor_is_gone(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("second").write_bytes(bundle(here))
    assert run(install("second")) == 0
    (here / "site" / FLOOR_FILE).unlink()
    refused(install("first"), "COLLATERAL_ROLLBACK", 5, capsys)


def test_a_damaged_floor_is_not_passed_over(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(install("first")) == 0
    floor = here / "site" / FLOOR_FILE
    right = floor.read_bytes()
    for data in (b"", b"{}", right + b"\n", right.replace(b'"serial":1', b'"serial":0')):
        floor.write_bytes(data)
        refused(install("first"), "MALFORMED", 3, capsys)
    floor.write_bytes(right.replace(SITE.encode(), b"other"))
    refused(install("first"), "COLLATERAL_MISSING", 5, capsys)


def test_a_damaged_bundle_is_replaced(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(install("first")) == 0
    (here / "site/collateral.bundle").write_bytes(b"damaged")
    capsys.readouterr()
    assert run(install("first")) == 0
    assert "does not verify and is replaced" in capsys.readouterr().err
    assert (here / "site/collateral.bundle").read_bytes() == Path("first").read_bytes()


class Killed(BaseException):
    """The process ends here, and nothing of it runs on."""


@pytest.mark.parametrize("step", ["link", "replace", "current", "floor"])
def test_killed_at_each_step(here: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    assert run(install("first")) == 0
    old, new = Path("first").read_bytes(), bundle(here)
    Path("second").write_bytes(new)

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        if step == "link":
            patched.setattr(Path, "hardlink_to", killed)
        elif step == "replace":
            patched.setattr(Path, "replace", killed)
        elif step == "current":
            patched.setattr(collateral_install, "replace_file", killed)
        else:
            patched.setattr(FloorFile, "raise_to", killed)
        with pytest.raises(Killed):
            run(install("second"))
    current = (here / "site/collateral.bundle").read_bytes()
    assert current == (new if step == "floor" else old)
    assert run(install("second")) == 0
    assert (here / "site/collateral.bundle").read_bytes() == new
    assert (here / "site/collateral.previous").read_bytes() == old
    assert len(list((here / "site").iterdir())) == 3


def test_a_site_without_hard_links(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError  # as on FAT

    monkeypatch.setattr(Path, "hardlink_to", refused)
    monkeypatch.setattr(os, "link", refused)
    Path("second").write_bytes(bundle(here))
    assert [run(install(name)) for name in ("first", "second", "second")] == [0, 0, 0]
    for name, source in (("bundle", "second"), ("previous", "first")):
        assert (here / f"site/collateral.{name}").read_bytes() == Path(source).read_bytes()


@pytest.mark.slow
def test_killed_at_any_moment(here: Path) -> None:
    """SIGKILL after random delays: what is installed is always one whole bundle."""
    site = here / "site"
    whole = {}
    for serial in range(1, 9):
        data = bundle(here, serial=serial)
        whole[data] = serial
        Path(f"bundle-{serial}").write_bytes(data)
        process = subprocess.Popen(
            [*REGALIA, *install(f"bundle-{serial}")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.2 + secrets.randbelow(400) / 1000)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if (site / "collateral.bundle").exists():
            assert (site / "collateral.bundle").read_bytes() in whole
    assert run(install("bundle-8")) == 0
    assert whole[(site / "collateral.bundle").read_bytes()] == 8
    assert {p.name for p in site.iterdir()} <= {
        FLOOR_FILE,
        "collateral.bundle",
        "collateral.previous",
    }


# -- show and check --------------------------------------------------------------------------


def test_show_says_what_was_not_checked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("stale").write_bytes(bundle(here, next_update=system_clock() - timedelta(seconds=1)))
    capsys.readouterr()
    assert run(["collateral", "show", "stale"]) == 0
    said = capsys.readouterr()
    assert "NOT CHECKED" in said.out
    assert "was to be replaced" in said.err
    assert output(["collateral", "show", "stale"], capsys)["checked"] is False
    stranger = ["collateral", "show", "stale", "--signer", "stranger.pub"]
    refused(stranger, "COLLATERAL_SIG_INVALID", 5, capsys)
    refused(["collateral", "show", "rubbish"], "MALFORMED", 3, capsys)
    refused(["collateral", "show", "none"], "FILE_MISSING", 9, capsys)
    far = output(["collateral", "show", "first", "--now", "2090-01-01T00:00:00Z"], capsys)
    dates = {entry["kind"]: entry["dates"] for entry in far["entries"]}
    assert dates["crl"] == "expired"
    assert dates["device-deny-list"] == "no date"
    assert run(["collateral", "show", "first", "--now", "soon"]) == 2


def check(path: str, *more: str) -> list[str]:
    return ["collateral", "check", path, *more]


def test_check_of_a_bundle(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = (*SIGNERS, "--name", SITE)
    assert run(check("first", *said)) == 0
    refused(check("first"), "BAD_USAGE", 2, capsys)
    refused(check("first", *SIGNERS), "BAD_USAGE", 2, capsys)
    refused(check("first", *SIGNERS, "--name", "other"), "COLLATERAL_MISSING", 5, capsys)
    stranger = ("--signer", "stranger.pub", "--name", SITE)
    refused(check("first", *stranger), "COLLATERAL_SIG_INVALID", 5, capsys)
    refused(check("first", *said, "--now", "2090-01-01T00:00:00Z"), "COLLATERAL_STALE", 5, capsys)
    refused(check("none", *said), "FILE_MISSING", 9, capsys)
    Path("second").write_bytes(bundle(here))
    assert run(install("second")) == 0
    floor = (here / "site" / FLOOR_FILE).read_bytes()
    refused(check("first", *said, "--state", "site"), "COLLATERAL_ROLLBACK", 5, capsys)
    refused(check("first", *said, "--state", "none"), "NOT_A_DIRECTORY", 9, capsys)
    Path("third").write_bytes(bundle(here, serial=3))
    assert run(check("third", *said, "--state", "site")) == 0
    assert (here / "site" / FLOOR_FILE).read_bytes() == floor  # checking remembers nothing


def test_the_folder_of_a_site_is_its_bundle(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(install("first")) == 0
    for command in (["show", "site"], ["check", "site", "--name", SITE]):
        assert run(["collateral", *command, *SIGNERS]) == 0
    (here / "site" / "collateral.bundle").unlink()
    capsys.readouterr()
    refused(["collateral", "show", "site"], "IO_FAILED", 9, capsys)


def test_check_of_loose_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(check("loose", "--evidence", "evidence.json")) == 0
    what = refused(check("loose", "--now", "2050-01-01T00:00:00Z"), "COLLATERAL_STALE", 5, capsys)
    assert "crl ARK-Genoa" in what
    refused(check("loose", "--now", "2020-01-01T00:00:00Z"), "COLLATERAL_STALE", 5, capsys)
    refused(check("loose", *SIGNERS), "BAD_USAGE", 2, capsys)
    (here / "loose/crl.der").unlink()
    what = refused(check("loose", "--evidence", "evidence.json"), "COLLATERAL_MISSING", 5, capsys)
    assert "list of ARK-Genoa" in what
    assert "VCEK" not in what  # it came with the evidence
    refused(check("loose", "--evidence", "none"), "FILE_MISSING", 9, capsys)
    refused(check("loose", "--evidence", "rubbish"), "FORM_UNKNOWN", 3, capsys)
