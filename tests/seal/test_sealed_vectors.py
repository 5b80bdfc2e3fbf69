"""The committed vectors: made again byte for byte, and read by two readers."""

from __future__ import annotations

import base64
import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from vector_files import differing, text_of

from regalia.core.errors import RegaliaError
from regalia.core.secret import SecretBytes
from regalia.core.types import Digest, KeyFingerprint
from regalia.crypto.dsse import parse_envelope
from regalia.crypto.sign import VerifyKey
from regalia.seal.check import verify_ciphertext
from regalia.seal.format.index import model_id
from regalia.seal.format.sealed import Geometry, stored_size
from regalia.seal.load import load_model
from regalia.seal.manifest import verify_manifest
from regalia.seal.progress import no_progress
from regalia.seal.recover import recover_files
from regalia.store.local import LocalBlobs
from regalia_testing.sealed import KeptMemory
from tests.seal import independent_reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.sealed import OwnedModel

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors" / "sealed-model"
SCRIPT = ROOT / "scripts" / "make_sealed_vectors.py"


@functools.cache
def read_json(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return document


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_script_makes_the_same_bytes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, SCRIPT, tmp_path / "again"], check=True, timeout=60)
    again, committed = files_below(tmp_path / "again"), files_below(VECTORS)
    assert sorted(again) == sorted(committed)
    for name, data in committed.items():
        assert again[name] == data, name
    assert sum(map(len, committed.values())) < 1 << 20


def test_independent_reader_shares_no_code() -> None:
    path = Path(__file__).with_name("independent_reader.py")
    code = (
        "import sys, runpy; sys.argv = ['x']\n"
        f"runpy.run_path({str(path)!r}, run_name='not_main')\n"
        "assert not [name for name in sys.modules if name.startswith('regalia')]\n"
        "assert 'msgspec' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def plaintext(model: dict[str, Any]) -> dict[str, bytes]:
    files = {}
    for file in model["plaintext"]:
        if file["base64"] is None:
            size = file["length"]
            files[file["path"]] = bytes((i * 7 + i // 256 + 2) % 251 for i in range(size))
        else:
            files[file["path"]] = base64.b64decode(file["base64"])
        assert str(Digest.of(files[file["path"]])) == file["digest"]
    return files


@pytest.mark.parametrize("number", [0, 1, 2])
def test_both_readers_open_the_vectors(number: int) -> None:
    vectors = read_json("vectors.json")
    model = vectors["models"][number]
    folder, key = VECTORS / model["folder"], bytes.fromhex(model["model_key"])
    owner = vectors["signer_fingerprint"]
    assert independent_reader.read(folder, key, owner) == plaintext(model)
    independent_reader.verify(folder, owner)

    signer = VerifyKey(base64.b64decode(vectors["signer_spki"]))
    manifest = verify_manifest(
        (folder / "manifest.json").read_bytes(), signers=(signer,), minimum_version=1
    )
    assert manifest.content.wrap_context().hex() == model["wrap_context"]
    base = manifest.content.base
    assert (None if base is None else str(base)) == model["base"]
    with LocalBlobs(folder) as blobs:
        verify_ciphertext(blobs, manifest, names=blobs.names(), threads=1, progress=no_progress)
        loaded = load_model(
            blobs,
            manifest,
            SecretBytes(bytearray(key)),
            KeptMemory(),
            threads=2,
            progress=no_progress,
        )
    assert {path: loaded.view(path).tobytes() for path in loaded.paths()} == plaintext(model)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_intermediate_values(number: int) -> None:
    """Every value in vectors.json decrypts the chunk that it says it does."""
    model = read_json("vectors.json")["models"][number]
    for name, file in model["files"].items():
        data = (VECTORS / model["folder"] / name).read_bytes()
        cipher = AESGCM(bytes.fromhex(file["file_key"]))
        assert data[96:128].hex() == file["salt"]
        assert data[128:160].hex() == file["commitment"]
        assert file["hkdf_info"] == (b"regalia/sealed-model/v1" + data[:128]).hex()
        for chunk in file["chunks"]:
            start, size = chunk["offset"], chunk["plaintext_size"]
            sealed = data[start : start + size + 16]
            assert sealed[-16:].hex() == chunk["tag"]
            opened = cipher.decrypt(
                bytes.fromhex(chunk["nonce"]), sealed, bytes.fromhex(file["associated_data"])
            )
            assert len(opened) == size


def test_geometry_table() -> None:
    for row in read_json("vectors.json")["geometry"]:
        geometry = Geometry(row["stride"], row["shard_chunks"], row["stream_size"])
        last = geometry.shard_count - 1
        assert geometry.shard_count == row["shard_count"]
        assert geometry.shard_start(last) == row["last_shard_start"]
        assert geometry.stored_total() == row["stored_total"]
        for shard, name in ((0, "first_shard_stored"), (last, "last_shard_stored")):
            assert stored_size(geometry.shard_size(shard), geometry.stride) == row[name]
        sizes = independent_reader.shard_sizes(row)
        assert len(sizes) == row["shard_count"]
        assert (
            sum(independent_reader.stored(s, row["stride"]) for s in sizes) == row["stored_total"]
        )


def test_model_id_table() -> None:
    seen = set()
    for row in read_json("vectors.json")["model_ids"]:
        files = [(f["path"], f["length"], Digest.parse(f["digest"])) for f in row["files"]]
        assert str(model_id(files)) == row["model_id"] == independent_reader.model_id(row["files"])
        seen.add(row["model_id"])
    assert len(seen) == len(read_json("vectors.json")["model_ids"])


# --- refused.json


def move(data: bytearray, edit: dict[str, Any]) -> bytearray:
    source, target, size = edit["from"], edit["to"], edit["size"]
    moved, replaced = data[source : source + size], data[target : target + size]
    if edit["op"] == "swap_range":
        size = min(len(moved), len(replaced))
        data[source : source + size] = replaced[:size]
        data[target : target + size] = moved[:size]
    else:
        data[target : target + size] = moved
    return data


def envelope(edit: dict[str, Any]) -> bytes:
    """A signed manifest, which differs from that of ``sealed``."""
    good = base64.b64decode(read_json("sealed/manifest.json")["payload"]).decode()
    payload = text_of(edit["payload"]) if "payload" in edit else differing(good, edit)
    signature = {"keyid": edit["keyid"], "sig": edit["signature"]}
    encoded = base64.b64encode(payload.encode()).decode()
    members = {"payload": encoded, "payloadType": edit["type"], "signatures": [signature]}
    return json.dumps(members, separators=(",", ":")).encode()


def apply(folder: Path, edit: dict[str, Any]) -> None:
    path = folder / edit["file"]
    if edit["op"] == "add":
        path.write_bytes(bytes.fromhex(edit["hex"]))
    elif edit["op"] == "manifest":
        path.write_bytes(envelope(edit))
    else:
        change(folder, edit)


def change(folder: Path, edit: dict[str, Any]) -> None:
    path = folder / edit["file"]
    data = bytearray(path.read_bytes())
    match edit["op"]:
        case "xor":
            data[edit["offset"]] ^= edit["mask"]
            path.write_bytes(data)
        case "truncate":
            path.write_bytes(data[: edit["size"]])
        case "copy_range" | "swap_range":
            path.write_bytes(move(data, edit))
        case "swap":
            other = folder / edit["with"]
            path.write_bytes(other.read_bytes())
            other.write_bytes(data)
        case "replace":
            shutil.copy(VECTORS / edit["with"], path)
        case "rename":
            path.rename(folder / edit["to"])
        case "remove":
            path.unlink()
        case "write":
            new = bytes.fromhex(edit["hex"])
            data[edit["offset"] : edit["offset"] + len(new)] = new
            path.write_bytes(data)
        case unknown:
            raise AssertionError(unknown)


REFUSED = read_json("refused.json")
CASES = {case["name"]: case for case in (*REFUSED["cases"], *REFUSED["two_defects"])}


def outcome(call: Callable[[], object]) -> str | None:
    try:
        call()
    except RegaliaError as error:
        return error.code.name
    except independent_reader.Refused as refused:
        return str(refused)
    return None


@pytest.mark.parametrize("name", CASES)
def test_both_readers_refuse(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    vectors = read_json("vectors.json")
    folder = tmp_path / "sealed"
    shutil.copytree(VECTORS / "sealed", folder)
    for edit in case["edits"]:
        before = files_below(folder)
        apply(folder, edit)
        assert files_below(folder) != before, "an edit that changes nothing tests nothing"
    key = bytes.fromhex(case.get("model_key", vectors["models"][0]["model_key"]))
    minimum = case.get("minimum_version", 1)
    owner = KeyFingerprint.parse(vectors["signer_fingerprint"])

    def ours_verify() -> None:
        manifest = verify_manifest(
            (folder / "manifest.json").read_bytes(), signers=(owner,), minimum_version=minimum
        )
        with LocalBlobs(folder) as blobs:
            verify_ciphertext(blobs, manifest, names=blobs.names(), threads=2, progress=no_progress)

    def ours_load() -> None:
        manifest = verify_manifest(
            (folder / "manifest.json").read_bytes(), signers=(owner,), minimum_version=minimum
        )
        with LocalBlobs(folder) as blobs:
            load_model(
                blobs,
                manifest,
                SecretBytes(bytearray(key)),
                KeptMemory(),
                threads=2,
                progress=no_progress,
            )

    def ours_open() -> None:
        manifest = verify_manifest(
            (folder / "manifest.json").read_bytes(), signers=(owner,), minimum_version=minimum
        )
        with LocalBlobs(folder) as blobs, SecretBytes(bytearray(key)) as secret:
            out = tmp_path / "opened"
            recover_files(blobs, manifest, secret, out, threads=2, progress=no_progress)

    opened = case.get("open", case["load"])
    assert outcome(ours_open) == opened
    assert outcome(ours_verify) == case["verify"]
    assert outcome(ours_load) == case["load"]
    assert outcome(lambda: independent_reader.verify(folder, str(owner), minimum)) == case["verify"]
    assert outcome(lambda: independent_reader.read(folder, key, str(owner), minimum)) == opened
    assert {case["verify"], opened} != {None}


def test_every_name_of_a_case_is_its_own() -> None:
    assert len(CASES) == len(REFUSED["cases"]) + len(REFUSED["two_defects"])


@pytest.mark.parametrize("name", read_json("vectors.json")["manifests_at_their_limits"])
def test_both_readers_take_manifests_at_their_limits(name: str) -> None:
    vectors = read_json("vectors.json")
    data = envelope(vectors["manifests_at_their_limits"][name])
    owner = KeyFingerprint.parse(vectors["signer_fingerprint"])
    verified = verify_manifest(data, signers=(owner,), minimum_version=1)
    theirs = independent_reader.read_manifest(data, str(owner), 1)
    assert len(verified.content.shards) == len(theirs["shards"])
    assert parse_envelope(data, what="vector").encode() == data


def test_independent_reader_opens_what_we_seal(pristine: OwnedModel) -> None:
    owner = str(pristine.owner.verify_key.fingerprint)
    files = independent_reader.read(pristine.folder, pristine.key.view().tobytes(), owner)
    want = files_below(pristine.model)
    assert files == want
    independent_reader.verify(pristine.folder, owner)
