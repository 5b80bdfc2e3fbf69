"""``regalia policy show``, ``check`` and ``sign``, and every kind of bad input."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from regalia.policy.signed import load_release_policy
from tests.policy.commands import MEASUREMENT, OWNER, SECOND

if TYPE_CHECKING:
    from tests.policy.commands import PolicyTestbed


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


def test_every_command_has_help(testbed: PolicyTestbed) -> None:
    for command in ("pin", "show", "check", "sign", "explain"):
        status, out, _ = testbed.run(command, "--help")
        assert status == 0
        assert "--json" in out
    assert testbed.run("pin")[0] == 2
    assert testbed.run("nothing")[0] == 2
