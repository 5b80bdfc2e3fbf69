"""``regalia policy pin``: from evidence to a policy, signed or as a draft."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.cli.sealing import read_manifest_file
from regalia.core.types import KeyFingerprint
from regalia.policy.documents import parse_client_policy
from regalia.policy.signed import load_release_policy, read_draft
from regalia.seal.manifest import peek_manifest
from regalia.wire.serving import ServingEvidence
from regalia_testing.sealed import seal_testbed, write_model
from regalia_testing.tees.snp.defects import SnpDefects
from tests.policy.commands import MEASUREMENT, MODEL, OWNER, REPORT_DATA

if TYPE_CHECKING:
    from pathlib import Path

    from tests.policy.commands import PolicyTestbed


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
        recipient=KeyFingerprint(bytes(32)),
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
    cut = args.index("--challenge")
    status, _, said = testbed.run(*args[:cut], *args[cut + 2 :])
    assert status == 2
    assert "--challenge" in said


def test_pin_with_missing_or_malformed_input(testbed: PolicyTestbed) -> None:
    assert testbed.refused(*testbed.pin(source=testbed.path("none")), status=9) == "FILE_MISSING"
    folder = testbed.pin(source=str(testbed.folder))
    assert testbed.json(*folder, status=9)["error"]["code"] in {"IO_FAILED", "NO_PERMISSION"}
    bad = testbed.write("bad.json", b"{}")
    assert testbed.refused(*testbed.pin(source=bad), status=3) == "FORM_UNKNOWN"
    short = ["00" * 63 if each == REPORT_DATA.hex() else each for each in testbed.pin()]
    assert testbed.refused(*short, status=2) == "BAD_USAGE"
    broken = testbed.write("broken.pub", b"no key")
    args = testbed.pin()
    args[args.index(testbed.path("owner.pub"))] = broken
    assert testbed.refused(*args, status=3) == "PUBLIC_KEY_MALFORMED"
    missing = testbed.pin("--model", testbed.path("no-such-model"))
    assert testbed.refused(*missing, status=9) == "FILE_MISSING"
    assert testbed.refused(*testbed.pin("--lease", "0"), status=3) == "MALFORMED"
    anchor = testbed.pin()
    anchor[anchor.index("--dangerous-simulated-anchor") + 1] = bad
    assert testbed.refused(*anchor, status=3) == "FORM_UNKNOWN"
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
