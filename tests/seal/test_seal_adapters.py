"""Adapters are sealed for one base, and nothing else has one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from regalia.cli.main import run
from regalia.core.errors import CoreCode, ParseError
from regalia.core.secret import SecretBytes
from regalia.core.types import ModelId
from regalia.crypto.sign import SigningKey
from regalia.keys.devfile import create_store
from regalia.seal.codes import SealCode
from regalia.seal.contents import check_base
from regalia.seal.format.manifest import parse_manifest
from regalia.seal.manifest import peek_manifest
from regalia_testing.adapters import tiny_adapter
from regalia_testing.sealed import refused, seal_testbed, write_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BASE = ModelId(b"\xba" * 32)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.mark.parametrize(
    "beside", [(), ("tokenizer.json",), ("config.json",), ("sub/x.safetensors",)]
)
def test_what_is_an_adapter(beside: tuple[str, ...]) -> None:
    paths = (CONFIG, WEIGHTS, *beside)
    check_base(paths, BASE)
    refused(SealCode.ADAPTER_WITHOUT_BASE, lambda: check_base(paths, None))


@pytest.mark.parametrize(
    "paths",
    [
        ("config.json", "model.safetensors"),
        ("config.json", "model.safetensors", CONFIG),
        ("config.json", "model-00001-of-00001.safetensors", CONFIG, WEIGHTS),
        ("model.gguf",),
        ("sub/adapter_config.json", "sub/adapter_model.safetensors"),
        (),
    ],
)
def test_what_is_none(paths: tuple[str, ...]) -> None:
    check_base(paths, None)
    refused(SealCode.NOT_AN_ADAPTER, lambda: check_base(paths, BASE))


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_half_an_adapter(name: str) -> None:
    error = refused(SealCode.INCOMPLETE_MODEL, lambda: check_base((name,), BASE))
    assert ({CONFIG, WEIGHTS} - {name}).pop() in error.what
    refused(SealCode.ADAPTER_WITHOUT_BASE, lambda: check_base((name,), None))


@pytest.mark.parametrize("base", [None, "", "model:", "ba" * 32, "seal:" + "ba" * 32, ["x"], True])
def test_bases_that_are_no_ids(tmp_path: Path, base: object) -> None:
    model = write_model(tmp_path / "model", {"a": b"1"})
    owned = seal_testbed(model, tmp_path / "sealed", SigningKey.generate_ed25519())
    document = json.loads(owned.manifest().encode())
    assert "base" not in document
    data = json.dumps(document | {"base": base}, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(ParseError) as caught:
        parse_manifest(data)
    assert caught.value.code is CoreCode.MALFORMED


# The command --------------------------------------------------------------------------------------


class Owner:
    """Somebody with keys, who seals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        secret = folder / "passphrase"
        secret.write_bytes(b"a passphrase")
        secret.chmod(0o600)
        with (
            SecretBytes(bytearray(b"a passphrase")) as passphrase,
            create_store(folder / "keys.json", passphrase) as store,
        ):
            store.add_kek("kek")
        for name in ("owner", "stranger"):
            (folder / f"{name}.key").touch(mode=0o600)
            (folder / f"{name}.key").write_bytes(SigningKey.generate_ed25519().to_pem(None))
        write_model(folder / "model", {"config.json": b"{}", "model.safetensors": b"weights"})
        tiny_adapter(folder / "tuned")

    def seal(self, source: str, out: str, *more: str, key: str = "owner") -> int:
        path = self.folder.joinpath
        return run(
            [
                *("seal", str(path(source)), "--out", str(path(out)), "--version", "1"),
                *("--key", f"dev-file:{path('keys.json')}#kek"),
                *("--passphrase-file", str(path("passphrase")), "--sign", str(path(f"{key}.key"))),
                *more,
            ]
        )


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return Owner(tmp_path)


def test_an_adapter_is_sealed_for_its_base(
    owner: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    assert owner.seal("model", "base") == 0
    for number, base in enumerate(("base", "base/manifest.json")):
        assert owner.seal("tuned", f"out{number}", "--base", str(owner.folder / base)) == 0
        manifest = peek_manifest((owner.folder / f"out{number}" / "manifest.json").read_bytes())
        model = peek_manifest((owner.folder / "base" / "manifest.json").read_bytes())
        assert manifest.base == model.model_id
        assert model.base is None
    assert f"adapter of  {model.model_id}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "attempt"),
    [
        ("ADAPTER_WITHOUT_BASE", lambda owner: owner.seal("tuned", "x")),
        (
            "NOT_AN_ADAPTER",
            lambda owner: owner.seal("model", "x", "--base", str(owner.folder / "base")),
        ),
        (
            "BASE_UNUSABLE",
            lambda owner: owner.seal("tuned", "x", "--base", str(owner.folder / "adapter")),
        ),
        (
            "SIGNER_UNKNOWN",
            lambda owner: owner.seal(
                "tuned", "x", "--base", str(owner.folder / "base"), key="stranger"
            ),
        ),
        (
            "FILE_MISSING",
            lambda owner: owner.seal("tuned", "x", "--base", str(owner.folder / "nowhere")),
        ),
        (
            "MALFORMED",
            lambda owner: owner.seal("tuned", "x", "--base", str(owner.folder / "keys.json")),
        ),
    ],
)
def test_what_cannot_be_bound(
    owner: Owner,
    capsys: pytest.CaptureFixture[str],
    code: str,
    attempt: Callable[[Owner], int],
) -> None:
    assert owner.seal("model", "base") == 0
    assert owner.seal("tuned", "adapter", "--base", str(owner.folder / "base")) == 0
    capsys.readouterr()
    assert attempt(owner) != 0
    assert code in capsys.readouterr().err
    assert not (owner.folder / "x").exists()
