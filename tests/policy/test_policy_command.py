"""``regalia policy show``, ``check`` and ``sign``, and every kind of bad input."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from regalia.policy.signed import load_release_policy
from tests.policy.commands import MEASUREMENT, OWNER, SECOND

if TYPE_CHECKING:
    from tests.policy.commands import Bench


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


def test_every_command_has_help(bench: Bench) -> None:
    for command in ("pin", "show", "check", "sign", "explain"):
        status, out, _ = bench.run(command, "--help")
        assert status == 0
        assert "--json" in out
    assert bench.run("pin")[0] == 2
    assert bench.run("nothing")[0] == 2
