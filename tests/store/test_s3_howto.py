"""The page on models in S3: its upload is run, its policy and settings are those of the product."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import UnavailableError
from regalia.crypto.sign import SigningKey
from regalia.seal.check import verify_ciphertext
from regalia.seal.progress import no_progress
from regalia.store.locate import open_store
from regalia.store.names import StoreCode
from regalia.store.s3 import S3Blobs
from regalia.store.s3_address import S3Address
from regalia_testing.pages import blocks_of, run_blocks
from regalia_testing.sealed import pattern, seal_testbed, write_model
from tests.store.seaweedfs import OWNER, READER, running

if TYPE_CHECKING:
    from regalia.store.ranges import RangedBlobs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/models-in-s3.md").read_text(encoding="utf-8")
BLOCKS = re.compile(r"^```(json|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
JSON = [json.loads(text) for kind, text in BLOCKS.findall(PAGE) if kind == "json"]
TOML = [tomllib.loads(text) for kind, text in BLOCKS.findall(PAGE) if kind == "toml"]


def test_the_policy_allows_reading_what_the_setting_names() -> None:
    address = S3Address.parse(TOML[0]["store"])
    (statement,) = JSON[0]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Allow", "s3:GetObject")
    assert statement["Resource"] == f"arn:aws:s3:::{address.bucket}/{address.prefix}*"


@pytest.mark.usefixtures("credentials")
def test_the_egress_is_the_buckets_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    with S3Blobs(S3Address.parse(TOML[0]["store"])) as blobs:
        host = blobs.describe().rpartition(" ")[2]
    assert f"{host}:443" in JSON[1]["egress"]
    with S3Blobs(S3Address.parse(TOML[1]["store"])) as blobs:
        assert blobs.describe() == "s3://models/smollm2/ at s3.example:9000"


def test_codes_of_the_page_exist() -> None:
    codes = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", PAGE))
    named = {name for name in named if not name.startswith(("AWS_", "SSL_"))}
    assert len(named) == 5
    assert all(f"| `{name}` |" in codes for name in named)


@pytest.mark.slow
def test_the_howto_works_as_written(
    no_credentials: None,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = write_model(tmp_path / "model", {"a.bin": pattern(300_000)})
    owned = seal_testbed(model, tmp_path / "sealed", SigningKey.generate_ed25519())
    names = frozenset(path.name for path in owned.folder.iterdir())

    def opened() -> RangedBlobs:
        store = open_store(TOML[0]["store"], tmp_path)
        assert isinstance(store, S3Blobs)
        return store

    with running(tmp_path / "server", S3Address.parse(TOML[0]["store"]).prefix) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER[0])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWNER[1])
        blocks = blocks_of(PAGE)
        assert len(blocks) == 1
        printed = run_blocks(tmp_path, blocks).stdout.split()
        assert set(printed) == names
        assert printed[-1] == "manifest.json"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
        with opened() as blobs:
            verify_ciphertext(blobs, owned.verified(), names=names, threads=2, progress=no_progress)
        server.owner().delete_object(Bucket="models", Key="smollm2/shard-00000.seal")
        with opened() as blobs, pytest.raises(UnavailableError) as caught:
            blobs.size("shard-00000.seal")
    assert caught.value.code is StoreCode.BLOB_MISSING
