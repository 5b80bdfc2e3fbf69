"""The development key store: what does not open, and for whom a model key is not unwrapped."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.core.errors import RegaliaError
from regalia.core.secret import SecretBytes
from regalia.core.types import ModelId
from regalia.keys.base import Recipient
from regalia.keys.devfile import open_store
from regalia.seal.format.sealed import SealId, wrap_context
from regalia.wire.release import MINT, LoggedRecord, LogProof, parse_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.keys.devfile import DevFileKeyStore

VECTORS = Path(__file__).parents[1] / "vectors"
RECIPIENT = Recipient(b"nobody wraps to it", "sev-snp", b"")
PASSPHRASE = b"correct horse battery staple"


def read(name: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


WRAPPED, REFUSED = read("release/wrapped-key.json"), read("release/wrapped-key-refused.json")
FILES = read("release/key-store-refused.json")


def open_file(path: Path, data: bytes) -> DevFileKeyStore:
    path.write_bytes(data)
    path.chmod(0o600)
    with SecretBytes(bytearray(PASSPHRASE)) as passphrase:
        return open_store(path, passphrase)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevFileKeyStore]:
    path = tmp_path_factory.mktemp("store") / "keys.json"
    with open_file(path, (VECTORS / "release" / "key-store.json").read_bytes()) as opened:
        yield opened


def logged(decision: str, model_id: str) -> LoggedRecord:
    """A record of the log's vectors with another decision and model."""
    entry = read("tlog/log.json")["entries"][3]["entry"].encode()
    record = msgspec.structs.replace(
        parse_record(entry),
        decision="release" if decision == "release" else "denial",
        model_id=model_id,
    )
    proof = LogProof(record="", index=0, path=[], checkpoint="")
    return LoggedRecord(record, record.encode(), 0, proof, MINT)


def test_the_context_is_that_of_the_sealed_model() -> None:
    context = wrap_context(
        ModelId.parse(WRAPPED["model_id"]),
        WRAPPED["model_version"],
        SealId.parse(WRAPPED["seal_id"]),
    )
    assert context.hex() == WRAPPED["context"]


def test_a_logged_release_unwraps(store: DevFileKeyStore) -> None:
    key = store.rewrap_logged(
        "model",
        base64.b64decode(WRAPPED["blob"]),
        bytes.fromhex(WRAPPED["context"]),
        recipient=RECIPIENT,
        logged=logged("release", WRAPPED["model_id"]),
    )
    with key:
        assert key.view().hex() == WRAPPED["model_key"]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
def test_what_is_not_unwrapped(store: DevFileKeyStore, case: dict[str, str]) -> None:
    with pytest.raises(RegaliaError) as caught:
        store.rewrap_logged(
            "model",
            base64.b64decode(case["blob"]),
            bytes.fromhex(case["context"]),
            recipient=RECIPIENT,
            logged=logged(case["decision"], case["model_id"]),
        )
    assert caught.value.code.name == case["code"]


@pytest.mark.parametrize("name", FILES)
def test_files_that_do_not_open(tmp_path: Path, name: str) -> None:
    code, text = FILES[name]
    with pytest.raises(RegaliaError) as caught:
        open_file(tmp_path / "keys.json", text.encode())
    assert caught.value.code.name == code
