"""``regalia admin`` offline: what it writes, what it refuses, and what an owner reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regalia.cli.main import run
from regalia.core.types import Digest
from regalia.crypto import dsse
from regalia.wire.statement import (
    ModelVersion,
    PublishPolicy,
    ReferenceValue,
    RegisterModel,
    Resume,
    Revoke,
    Rotate,
    Stop,
    Terms,
    parse_statement,
)
from regalia_testing.statements import Tenant, charter_of, envelope, owner_key

ROOT = Path(__file__).parents[2]
MODEL = f"model:{'1' * 64}"
HEX = "ab" * 48


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("ann", "ben", "cyd", "eve"):
        key = owner_key(name)
        Path(f"{name}.key").write_bytes(key.to_pem(None))
        Path(f"{name}.key").chmod(0o600)
        Path(f"{name}.pub").write_bytes(key.verify_key.to_pem())
    return tmp_path


@pytest.fixture
def chain() -> str:
    """A folder with a charter; what is proposed behind it is due at once."""
    tenant = Tenant()
    tenant.found()
    Path("chain").mkdir()
    Path("chain/1.json").write_bytes(tenant.chain[0])
    return "chain"


def said(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    capsys.readouterr()
    status = run([*map(str, words), "--json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document | {"status": status}


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    document = said(capsys, *words)
    return document["status"], document["error"]["code"]


def proposed(name: str) -> Any:  # noqa: ANN401
    data = Path(name).read_bytes()
    return parse_statement(dsse.parse_envelope(data, what=name).unverified_payload)


CHARTER = ("admin", "propose", "charter", "--threshold", 2, "--out", "p.json")
OWNERS = ("--owner", "ann=ann.pub", "--owner", "ben=ben.pub", "--owner", "cyd=cyd.pub")


def test_a_charter(capsys: pytest.CaptureFixture[str]) -> None:
    done = said(
        capsys, *CHARTER, *OWNERS, "--tenant", "acme", "--role", "ann=weights", "--delay",
        "rotate=60",
    )  # fmt: skip
    assert (done["status"], done["sequence"], done["signed_by"]) == (0, 1, [])
    statement = proposed("p.json")
    assert done["digest"] == str(statement.digest())
    assert [owner.role for owner in statement.action.owners] == ["weights", "owner", "owner"]
    assert statement.action.delays == {"rotate": 60}
    assert done["not_before"] == "at once"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((*OWNERS,), (2, "BAD_USAGE")),  # no tenant
        ((*OWNERS, "--tenant", "Acme"), (3, "MALFORMED")),
        (("--tenant", "acme", "--owner", "ann.pub"), (2, "BAD_USAGE")),
        (("--tenant", "acme", "--owner", "ann=ann.pub"), (3, "MALFORMED")),  # 2 of 1
        (("--tenant", "acme", *OWNERS, "--owner", "ann=eve.pub"), (2, "BAD_USAGE")),
        (("--tenant", "acme", *OWNERS, "--owner", "dan=ann.pub"), (3, "MALFORMED")),
        (("--tenant", "acme", *OWNERS, "--role", "eve=x"), (2, "BAD_USAGE")),
        (("--tenant", "acme", *OWNERS, "--delay", "stop=60"), (2, "BAD_USAGE")),
        (("--tenant", "acme", *OWNERS, "--delay", "rotate=soon"), (2, "BAD_USAGE")),
        (("--tenant", "acme", *OWNERS, "--delay", "rotate=0"), (3, "MALFORMED")),
        (("--tenant", "acme", *OWNERS, "--owner", "dan=dan.pub"), (9, "FILE_MISSING")),
    ],
)
def test_charters_that_are_none(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: tuple[int, str]
) -> None:
    assert refused(capsys, *CHARTER, *words) == expected
    assert not Path("p.json").exists()


KINDS: dict[str, tuple[tuple[str, ...], Any]] = {
    "stop": ((), Stop(model_id=None)),
    "resume": (("--model", MODEL), Resume(model_id=MODEL)),
    "rotate": (("--old", "a", "--new", "b"), Rotate(new="b", old="a")),
    "revoke": (
        ("--subject", "chip", "--value", "sev-snp:00"),
        Revoke(subject="chip", value="sev-snp:00"),
    ),
    "reference-value": (
        (*("--tee", "sev-snp", "--measurement", HEX), "--transition", "stage"),
        ReferenceValue(measurement=HEX, tee="sev-snp", transition="stage", until=None),
    ),
    "model-version": (
        (
            *("--model", MODEL, "--version", "3", "--transition", "retire"),
            *("--until", "2030-01-01T00:00:00Z"),
        ),
        ModelVersion(model_id=MODEL, transition="retire", until="2030-01-01T00:00:00Z", version=3),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_that_needs_no_file(
    capsys: pytest.CaptureFixture[str], chain: str, kind: str
) -> None:
    words, action = KINDS[kind]
    done = said(capsys, "admin", "propose", kind, *words, "--chain", chain, "--out", "p.json")
    assert (done["status"], done["kind"], done["sequence"]) == (0, kind, 2)
    statement = proposed("p.json")
    assert statement.action == action
    assert statement.not_before is None
    first = dsse.parse_envelope(Path("chain/1.json").read_bytes(), what="first")
    assert statement.previous == str(Digest.of(first.unverified_payload))


def test_a_model_and_a_policy(capsys: pytest.CaptureFixture[str], chain: str) -> None:
    vectors = ROOT / "tests" / "vectors"
    words = ("--chain", chain, "--out")
    done = said(
        capsys, "admin", "propose", "register-model", "--manifest",
        vectors / "sealed-model" / "sealed", "--ends", "never", "--site", "b", "--site", "a",
        "--jurisdiction", "any", "--operator", "any", "--derivatives", "adapters", *words, "m.json",
    )  # fmt: skip
    assert done["status"] == 0
    action = proposed("m.json").action
    assert isinstance(action, RegisterModel)
    assert action.terms == Terms(
        ends=None, sites=["a", "b"], jurisdictions=None, roles=None, derivatives="adapters"
    )
    manifest = (vectors / "sealed-model" / "sealed" / "manifest.json").read_bytes()
    payload = dsse.parse_envelope(manifest, what="manifest").unverified_payload
    assert action.manifest == str(Digest.of(payload))
    policy = vectors / "policy" / "signed-policy.json"
    said(capsys, "admin", "propose", "publish-policy", "--policy", policy, *words, "p.json")
    about = json.loads((vectors / "policy" / "signed-policy.key.json").read_bytes())
    published = proposed("p.json").action
    assert isinstance(published, PublishPolicy)
    assert published.policy_id == about["policy_id"]


def test_a_time_lock_is_kept_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    tenant = Tenant(delays={"rotate": 3600})
    tenant.found()
    Path("chain").mkdir()
    Path("chain/1.json").write_bytes(tenant.chain[0])
    words = ("admin", "propose", "rotate", "--old", "a", "--new", "b", "--chain", "chain")
    done = said(capsys, *words, "--days", 1, "--out", "p.json")
    statement = proposed("p.json")
    assert done["not_before"] == statement.not_before > statement.expires
    early = said(capsys, *words, "--not-before", statement.time, "--out", "early.json")
    assert early["status"] == 0
    sign = ("--sign", "ann.key", "--yes", "--chain", "chain", "--out", "s.json")
    assert refused(capsys, "admin", "sign", "early.json", *sign) == (6, "STATEMENT_LOCKED")
    assert said(capsys, "admin", "sign", "p.json", *sign)["status"] == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("propose", "stop", "--out", "p.json"), (2, "BAD_USAGE")),
        (
            ("propose", "stop", "--chain", "chain", "--url", "http://x", "--out", "p.json"),
            (2, "BAD_USAGE"),
        ),
        (("propose", "stop", "--url", "http://x", "--out", "p.json"), (2, "BAD_USAGE")),
        (("propose", "stop", "--chain", "chain", "--out", "ann.key"), (9, "FILE_EXISTS")),
        (
            ("propose", "stop", "--chain", "chain", "--tenant", "other", "--out", "p.json"),
            (4, "WRONG_FILE"),
        ),
        (
            ("propose", "stop", "--chain", "chain", "--not-before", "soon", "--out", "p.json"),
            (2, "BAD_USAGE"),
        ),
        (
            ("propose", "stop", "--chain", "chain", "--model", "x", "--out", "p.json"),
            (3, "MALFORMED"),
        ),
        (
            (
                *("propose", "model-version", "--model", MODEL, "--version", "1"),
                *("--transition", "stage", "--chain", "chain", "--out", "p.json"),
            ),
            (3, "MALFORMED"),
        ),
        (
            ("propose", "stop", "--chain", "chain", "--sign", "eve.key", "--out", "p.json"),
            (4, "SIGNER_UNKNOWN"),
        ),
        (("show",), (2, "BAD_USAGE")),
        (("status",), (2, "BAD_USAGE")),
        (("show", "--chain", "chain", "--charter", f"sha256:{'0' * 64}"), (4, "CHARTER_UNTRUSTED")),
        (("submit", "ann.pub", "--chain", "chain"), (3, "MALFORMED")),
        (("submit", "chain/1.json"), (2, "BAD_USAGE")),
        (("submit", "chain/1.json", "--chain", "chain"), (6, "STATEMENT_STALE")),
    ],
)
def test_what_is_refused(
    capsys: pytest.CaptureFixture[str],
    chain: str,
    words: tuple[str, ...],
    expected: tuple[int, str],
) -> None:
    assert chain == "chain"
    assert refused(capsys, "admin", *words) == expected
    assert not Path("p.json").exists()


def propose_rotate(capsys: pytest.CaptureFixture[str], *more: str) -> None:
    words = ("rotate", "--old", "a", "--new", "b", "--chain", "chain", "--out", "p.json")
    assert said(capsys, "admin", "propose", *words, *more)["status"] == 0


@pytest.mark.parametrize(
    ("key", "more", "expected"),
    [
        ("eve", ("--chain", "chain"), (4, "SIGNER_UNKNOWN")),
        ("ann", ("--chain", "chain"), (3, "MALFORMED")),  # twice
    ],
)
def test_signatures_that_could_not_count(
    capsys: pytest.CaptureFixture[str],
    chain: str,
    key: str,
    more: tuple[str, ...],
    expected: tuple[int, str],
) -> None:
    assert chain == "chain"
    propose_rotate(capsys, "--sign", "ann.key")
    words = ("p.json", "--sign", f"{key}.key", "--yes", "--out", "s.json", *more)
    assert refused(capsys, "admin", "sign", *words) == expected
    assert not Path("s.json").exists()


def test_nothing_is_signed_without_consent(
    capsys: pytest.CaptureFixture[str], chain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose_rotate(capsys)
    words = ["admin", "sign", "p.json", "--sign", "ann.key", "--out", "s.json", "--chain", chain]
    monkeypatch.setattr("click.confirm", _no)
    assert run(words) == 130
    shown = capsys.readouterr().err
    assert "The key-encryption key 'b' replaces 'a'." in shown
    assert not Path("s.json").exists()


def _no(*_: object, abort: bool, **__: object) -> None:
    import click  # noqa: PLC0415 - what it would raise

    assert abort
    raise click.Abort


def test_signing_without_a_chain_says_so(capsys: pytest.CaptureFixture[str], chain: str) -> None:
    assert chain == "chain"
    propose_rotate(capsys)
    words = ["admin", "sign", "p.json", "--sign", "ann.key", "--yes", "--out", "s.json"]
    assert run(words) == 0
    assert "Not compared with a chain" in capsys.readouterr().err


def test_what_a_name_holds_cannot_steer_a_terminal(
    capsys: pytest.CaptureFixture[str], chain: str
) -> None:
    """A proposal is written by somebody else; its texts are printable or it is refused."""
    assert chain == "chain"
    propose_rotate(capsys)
    data = json.loads(Path("p.json").read_bytes())
    statement = proposed("p.json")
    payload = statement.encode().replace(b'"old":"a"', b'"old":"\\u001b[2J"')
    data["payload"] = dsse.b64(payload)
    Path("x.json").write_text(json.dumps(data, sort_keys=True, separators=(",", ":")))
    words = ("x.json", "--sign", "ann.key", "--yes", "--out", "s.json")
    assert refused(capsys, "admin", "sign", *words) == (3, "MALFORMED")


def test_a_folder_with_a_gap(capsys: pytest.CaptureFixture[str], chain: str) -> None:
    Path(chain, "3.json").write_bytes(b"{}")
    assert refused(capsys, "admin", "show", "--chain", chain) == (9, "FILE_MISSING")


def test_a_folder_that_was_changed(capsys: pytest.CaptureFixture[str], chain: str) -> None:
    other = Tenant()
    other.found()
    Path(chain, "2.json").write_bytes(envelope(other.statement(charter_of(("eve",), 1)), ("eve",)))
    code = refused(capsys, "admin", "show", "--chain", chain)
    assert code == (6, "STATEMENT_TOO_FEW_SIGNATURES")
