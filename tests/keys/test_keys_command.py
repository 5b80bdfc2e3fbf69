"""``regalia keys``: examining stores, and moving sealed models to other KEKs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from regalia.cli.main import run
from regalia.core.secret import SecretBytes
from regalia.crypto.sign import SigningKey
from regalia.keys.base import Ability
from regalia.keys.devfile import DevFileKit, create_store
from regalia.keys.pkcs11.store import Pkcs11KeyStore
from regalia.seal.manifest import countersign_manifest, peek_manifest, verify_manifest
from regalia_testing.soft_token import PIN, SoftToken
from tests.keys.pkcs11.tokens import add_kek

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PASSPHRASE = b"correct horse"


class Owner:
    """An owner with a file store, a token, and sealed models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = SoftToken.make(f"c{os.urandom(6).hex()}")
        for name in ("one", "two"):
            add_kek(self.token, name)
        self.signer = SigningKey.generate_ed25519()
        for name, data in {
            "passphrase": PASSPHRASE,
            "pin": PIN,
            "owner.key": self.signer.to_pem(None),
        }.items():
            (folder / name).touch(mode=0o600)
            (folder / name).write_bytes(data)
        with (
            SecretBytes(bytearray(PASSPHRASE)) as passphrase,
            create_store(folder / "keys.json", passphrase) as store,
        ):
            store.add_kek("old")
        (folder / "model").mkdir()
        (folder / "model" / "weights.bin").write_bytes(os.urandom(10_000))

    def file(self, name: str = "old") -> str:
        return f"dev-file:{self.folder / 'keys.json'}#{name}"

    def inside(self, name: str) -> str:
        return f"pkcs11:{self.token.location}#{name}"

    def named(self, words: str) -> str:
        """A key by scheme and name."""
        scheme, _, name = words.partition(" ")
        return self.inside(name) if scheme == "pkcs11" else self.file(name)

    def secret_of(self, key: str) -> str:
        return str(self.folder / ("pin" if key.startswith("pkcs11") else "passphrase"))

    def seal(self, out: str, key: str) -> Path:
        sealed = self.folder / out
        args = ["seal", str(self.folder / "model"), "--out", str(sealed), "--key", key]
        args += ["--version", "3", "--sign", str(self.folder / "owner.key")]
        assert run([*args, "--passphrase-file", self.secret_of(key)]) == 0
        return sealed

    def rotate(self, *sealed: Path, key: str, to: str, sign: str = "owner.key") -> int:
        args = ["keys", "rotate", *map(str, sealed), "--key", key, "--to", to]
        args += ["--passphrase-file", self.secret_of(key)]
        if key.partition("#")[0] != to.partition("#")[0]:
            args += ["--to-passphrase-file", self.secret_of(to)]
        return run([*args, "--sign", str(self.folder / sign), "--json"])

    def opens(self, sealed: Path, key: str) -> int:
        out = self.folder / f"out{os.urandom(4).hex()}"
        args = ["open", str(sealed), "--out", str(out), "--key", key, "--yes"]
        return run([*args, "--passphrase-file", self.secret_of(key)])


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return Owner(tmp_path)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[], Any]:
    def last() -> Any:  # noqa: ANN401 - JSON
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        assert PIN.decode() not in captured.out + captured.err
        return json.loads(captured.out)

    return last


def test_doctor_of_a_token(owner: Owner, printed: Callable[[], Any]) -> None:
    args = ["keys", "doctor", owner.inside("one"), "--passphrase-file", owner.secret_of("pkcs11")]
    assert run([*args, "--json"]) == 11
    body = printed()
    assert body["ok"] is False
    lacking = [each["name"] for each in body["abilities"] if not each["holds"]]
    assert lacking == ["keeps wrapping keys inside", "rewraps with OAEP-SHA-256", "is hardware"]


def test_doctor_for_people(owner: Owner, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["keys", "doctor", owner.file(), "--passphrase-file", owner.secret_of("dev-file")]
    assert run(args) == 11
    shown = capsys.readouterr().out
    assert "DEVELOPMENT KEY STORE" in shown
    assert (
        "Lacking: keeps the KEK from everybody, rewraps inside, is meant for production." in shown
    )


def test_doctor_of_a_store_that_lacks_nothing(
    owner: Owner, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [Ability("does all", holds=True, shown="tried")]
    monkeypatch.setattr(DevFileKit, "examine", lambda *_: found)
    args = ["keys", "doctor", owner.file(), "--passphrase-file", owner.secret_of("dev-file")]
    assert run(args) == 0
    assert "Nothing is lacking." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda key: key.replace("#one", "#nine"), 7, "KEK_UNKNOWN"),
        (lambda key: key.replace("token=c", "token=d"), 8, "TOKEN_NOT_FOUND"),
        (lambda key: key.replace(".so", ".os"), 9, "TOKEN_LIBRARY_UNUSABLE"),
        (lambda key: key.replace("token=", "label="), 2, "TOKEN_URI_MALFORMED"),
        (lambda key: key.replace("pkcs11:", "pkcs12:"), 2, "PLUGIN_UNKNOWN"),
    ],
)
def test_doctor_of_what_is_not_there(
    owner: Owner,
    printed: Callable[[], Any],
    change: Callable[[str], str],
    status: int,
    code: str,
) -> None:
    args = ["keys", "doctor", change(owner.inside("one")), "--json"]
    assert run([*args, "--passphrase-file", owner.secret_of("pkcs11")]) == status
    assert printed()["error"]["code"] == code


def test_a_model_moves_from_a_file_into_a_token(owner: Owner) -> None:
    sealed = owner.seal("sealed", owner.file())
    before = peek_manifest((sealed / "manifest.json").read_bytes())
    others = {each: each.read_bytes() for each in sealed.iterdir() if each.suffix == ".seal"}
    assert owner.rotate(sealed, key=owner.file(), to=owner.inside("one")) == 0

    data = (sealed / "manifest.json").read_bytes()
    after = verify_manifest(data, signers=(owner.signer.verify_key,), minimum_version=3).content
    assert after.wrapped_key.kek == "one"
    assert after.wrapped_key.algorithm == "regalia/wrap-pkcs11-aes256kwp/v1"
    assert (after.model_id, after.version, after.seal_id, after.index, after.shards) == (
        *(before.model_id, before.version, before.seal_id, before.index, before.shards),
    )
    assert {each: each.read_bytes() for each in others} == others
    assert set(sealed.iterdir()) == {*others, sealed / "manifest.json"}
    assert run(["verify", str(sealed), "--signer", "any"]) in {0, 11}
    assert owner.opens(sealed, owner.inside("one")) == 0
    assert owner.opens(sealed, owner.inside("two")) == 7
    assert owner.opens(sealed, owner.file()) == 7


def test_moving_inside_a_token_does_not_take_the_key_out(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = owner.seal("sealed", owner.inside("one"))
    with monkeypatch.context() as patch:
        patch.delattr(Pkcs11KeyStore, "recover_for_owner")
        assert owner.rotate(sealed, key=owner.inside("one"), to=owner.inside("two")) == 0
    assert owner.opens(sealed, owner.inside("two")) == 0
    assert owner.opens(sealed, owner.inside("one")) == 7


def test_a_run_goes_on_where_another_one_ended(
    owner: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = owner.seal("first", owner.file()), owner.seal("second", owner.file())
    missing = owner.folder / "missing"
    assert owner.rotate(first, missing, second, key=owner.file(), to=owner.inside("one")) == 9
    done = (first / "manifest.json").read_bytes()
    capsys.readouterr()
    assert owner.rotate(first, second, key=owner.file(), to=owner.inside("one")) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert [each["rotated"] for each in models] == [False, True]
    assert (first / "manifest.json").read_bytes() == done
    assert owner.opens(second, owner.inside("one")) == 0


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"sign": "stranger.key"}, 4, "SIGNER_UNKNOWN"),
        ({"key": "pkcs11 two"}, 7, "KEY_UNWRAP_FAILED"),
        ({"to": "pkcs11 nine"}, 7, "KEK_UNKNOWN"),
        ({"to": "dev-file old"}, 2, "BAD_USAGE"),
        ({"key": "dev-file nine"}, 7, "KEK_UNKNOWN"),
    ],
)
def test_what_is_refused_changes_nothing(
    owner: Owner,
    capsys: pytest.CaptureFixture[str],
    more: dict[str, str],
    status: int,
    code: str,
) -> None:
    sealed = owner.seal("sealed", owner.file())
    stranger = owner.folder / "stranger.key"
    stranger.touch(mode=0o600)
    stranger.write_bytes(SigningKey.generate_ed25519().to_pem(None))
    before = (sealed / "manifest.json").read_bytes()
    capsys.readouterr()
    chosen = {"key": "dev-file old", "to": "pkcs11 one", "sign": "owner.key"} | more
    key, to = (owner.named(chosen[which]) for which in ("key", "to"))
    assert owner.rotate(sealed, key=key, to=to, sign=chosen["sign"]) == status
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert (sealed / "manifest.json").read_bytes() == before


def test_signatures_of_other_owners_are_missed(
    owner: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    sealed = owner.seal("sealed", owner.file())
    data = (sealed / "manifest.json").read_bytes()
    both = countersign_manifest(
        data, SigningKey.generate_ed25519(), owners=(owner.signer.verify_key,)
    )
    (sealed / "manifest.json").write_bytes(both)
    assert owner.rotate(sealed, key=owner.file(), to=owner.inside("one")) == 0
    assert "1 more signatures were for the old manifest" in capsys.readouterr().err
