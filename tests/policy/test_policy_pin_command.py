"""``regalia policy pin``: from evidence to a policy, signed or as a draft."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.cli.sealing import read_manifest_file
from regalia.policy.documents import parse_client_policy
from regalia.policy.signed import load_release_policy, read_draft
from regalia.seal.manifest import peek_manifest
from regalia.wire.serving import ServingEvidence
from regalia_testing.sealed import seal_bench, write_model
from regalia_testing.tees.snp.defects import SnpDefects
from tests.policy.commands import MEASUREMENT, MODEL, OWNER, REPORT_DATA

if TYPE_CHECKING:
    from pathlib import Path

    from tests.policy.commands import Bench


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
