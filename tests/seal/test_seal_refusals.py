"""What cannot be sealed, and why."""

from __future__ import annotations

import os
import shutil
import socket
import unicodedata
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, RegaliaError, UsageError
from regalia.seal import plan as plan_module
from regalia.seal.codes import SealCode
from regalia.seal.format.sealed import SealedCode
from regalia.seal.scan import ScanOptions, check_unchanged, scan
from regalia.seal.stream import ModelStream
from regalia.seal.writer import SealOptions, seal_model
from regalia_testing.sealed import seal_testbed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.core.errors import Code
    from regalia.crypto.sign import SigningKey
    from regalia.seal.format.sealed import WrappedKey


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "sub" / "w").write_bytes(b"w" * 200_000)
    return folder


@pytest.fixture
def refuse(owner: SigningKey, tmp_path: Path) -> Callable[..., None]:
    def check(model: Path, code: Code, out: Path | None = None) -> None:
        before = sorted(tmp_path.iterdir())
        with pytest.raises(RegaliaError) as caught:
            seal_testbed(model, out or tmp_path / "sealed", owner)
        assert caught.value.code is code, caught.value
        assert sorted(tmp_path.iterdir()) == before

    return check


def test_symbolic_link_to_a_file(model: Path, refuse: Callable[..., None]) -> None:
    (model / "link").symlink_to("config.json")
    refuse(model, SealCode.NOT_A_PLAIN_FILE)


def test_symbolic_link_to_a_directory(model: Path, refuse: Callable[..., None]) -> None:
    (model / "link").symlink_to("/etc")
    refuse(model, SealCode.NOT_A_PLAIN_FILE)


def test_dangling_link(model: Path, refuse: Callable[..., None]) -> None:
    (model / "sub" / "link").symlink_to("nowhere")
    refuse(model, SealCode.NOT_A_PLAIN_FILE)


def test_named_pipe(model: Path, refuse: Callable[..., None]) -> None:
    os.mkfifo(model / "pipe.safetensors")
    refuse(model, SealCode.NOT_A_PLAIN_FILE)


def test_socket(model: Path, refuse: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model)  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        refuse(model, SealCode.NOT_A_PLAIN_FILE)


def test_device(model: Path, refuse: Callable[..., None]) -> None:
    try:
        os.mknod(model / "zero", 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("devices can be made by root only")
    refuse(model, SealCode.NOT_A_PLAIN_FILE)


@pytest.mark.parametrize(
    "name", [b"a\nb", b"a\x1b[2J", b"\xff\xfe", b"a\\b", "x\u202ey".encode(), b"\xed\xa0\x80"]
)
def test_bad_name(model: Path, refuse: Callable[..., None], name: bytes) -> None:
    (model / os.fsdecode(name)).write_bytes(b"")
    refuse(model, SealedCode.PATH_REFUSED)


def test_bad_directory_name(model: Path, refuse: Callable[..., None]) -> None:
    (model / "a\tb").mkdir()
    refuse(model, SealedCode.PATH_REFUSED)


def test_too_deep(model: Path, refuse: Callable[..., None]) -> None:
    deep = model / "/".join("d" * 33)
    deep.mkdir(parents=True)
    refuse(model, SealedCode.PATH_REFUSED)


@pytest.mark.parametrize(
    ("one", "other"), [("caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")), ("A", "a")]
)
def test_colliding_names(model: Path, refuse: Callable[..., None], one: str, other: str) -> None:
    (model / one).write_bytes(b"1")
    (model / other).write_bytes(b"2")
    if len(list(model.iterdir())) < 4:
        pytest.skip("this file system takes the two names for one")
    refuse(model, SealedCode.PATHS_COLLIDE)


def test_empty_directory(tmp_path: Path, refuse: Callable[..., None]) -> None:
    (tmp_path / "model" / "sub").mkdir(parents=True)
    refuse(tmp_path / "model", SealCode.MODEL_EMPTY)


def test_missing_directory(tmp_path: Path, refuse: Callable[..., None]) -> None:
    refuse(tmp_path / "nothing", CoreCode.FILE_MISSING)


def test_file_instead_of_a_directory(model: Path, refuse: Callable[..., None]) -> None:
    refuse(model / "config.json", CoreCode.NOT_A_DIRECTORY)


def test_output_inside_the_model(model: Path, refuse: Callable[..., None]) -> None:
    refuse(model, SealCode.OUTPUT_INSIDE_MODEL, model / "sealed")
    refuse(model, SealCode.OUTPUT_INSIDE_MODEL, model)
    (model.parent / "link").symlink_to(model)
    refuse(model, SealCode.OUTPUT_INSIDE_MODEL, model.parent / "link" / "sealed")


def test_output_exists(model: Path, tmp_path: Path, refuse: Callable[..., None]) -> None:
    (tmp_path / "sealed").mkdir()
    refuse(model, CoreCode.FILE_EXISTS)
    refuse(model, CoreCode.FILE_EXISTS, model.parent / "model" / ".." / "sealed")
    (tmp_path / "dangling").symlink_to("nowhere")
    refuse(model, CoreCode.FILE_EXISTS, tmp_path / "dangling")


def test_output_in_no_directory(model: Path, tmp_path: Path, refuse: Callable[..., None]) -> None:
    refuse(model, CoreCode.FILE_MISSING, tmp_path / "no" / "sealed")
    (tmp_path / "file").write_bytes(b"")
    refuse(model, CoreCode.NOT_A_DIRECTORY, tmp_path / "file" / "sealed")


def test_too_many_files(
    model: Path, refuse: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regalia.seal.scan.FILES_MAX", 1)
    refuse(model, SealCode.MODEL_TOO_LARGE)


def test_too_many_shards(
    model: Path, refuse: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "SHARDS_MAX", 1)
    refuse(model, SealCode.MODEL_TOO_LARGE)


def test_index_too_large(
    model: Path, refuse: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regalia.seal.writer.INDEX_LIMIT", 65_535)
    refuse(model, SealCode.MODEL_TOO_LARGE)


@pytest.mark.parametrize(
    "option",
    [
        *({"version": 0}, {"version": -1}, {"version": 1 << 53}, {"stride": 4096}),
        *({"shard_chunks": 0}, {"shard_chunks": 65_537}, {"threads": 0}),
    ],
    ids=str,
)
def test_bad_option(option: dict[str, int]) -> None:
    with pytest.raises(UsageError) as caught:
        SealOptions(**{"version": 1, **option})
    assert caught.value.code is CoreCode.BAD_USAGE


# --- a model that changes while it is being sealed

CHANGES: dict[str, Callable[[Path], object]] = {
    "longer": lambda model: (model / "sub" / "w").open("ab").write(b"x"),
    "shorter": lambda model: os.truncate(model / "sub" / "w", 1000),
    "empty": lambda model: os.truncate(model / "sub" / "w", 0),
    "same_size": lambda model: (model / "sub" / "w").write_bytes(b"v" * 200_000),
    "replaced": lambda model: (model / "config.json").rename(model / "sub" / "w"),
    "added": lambda model: (model / "new").write_bytes(b""),
    "removed": lambda model: (model / "sub" / "w").unlink(),
    "sealed_already_then_touched": lambda model: os.utime(model / "config.json"),
    "link_added": lambda model: (model / "link").symlink_to("w"),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("change", CHANGES)
def test_changed_while_sealing(model: Path, tmp_path: Path, owner: SigningKey, change: str) -> None:
    """After the first chunk is read, somebody writes into the model directory."""
    changed: list[object] = []

    def progress(_done: int, _total: int) -> None:
        if not changed:
            changed.append(CHANGES[change](model))

    def wrap(*_: object) -> WrappedKey:
        raise AssertionError("no key may be wrapped for such a model")

    with pytest.raises(RegaliaError) as caught:
        seal_model(
            model,
            tmp_path / "sealed",
            SealOptions(version=1, stride=64 * 1024, threads=1),
            wrap=wrap,
            signing_key=owner,
            progress=progress,
        )
    expected: set[Code] = {SealCode.MODEL_CHANGED}
    if change == "removed":
        expected.add(CoreCode.FILE_MISSING)  # not opened yet when it went
    assert caught.value.code in expected, caught.value
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize("when", ["before_opening", "after_reading"])
def test_stream_notices_another_file_in_its_place(model: Path, when: str) -> None:
    """At once, and not only when the directory is listed again at the end."""
    planned = plan_module.plan(model, scan(model).files, stride=64 * 1024, shard_chunks=1)
    size = planned.geometry.stream_size
    with ModelStream(planned) as stream:
        buffer = memoryview(bytearray(size))
        steps = [lambda: stream.fill(buffer), stream.finish]
        if when == "after_reading":
            steps.pop(0)()
        (model / "sub" / "w").write_bytes(b"v" * 200_000)
        with pytest.raises(RegaliaError) as caught:
            steps[0]()
    assert caught.value.code is SealCode.MODEL_CHANGED


def test_scan_is_sorted_and_stable(model: Path) -> None:
    (model / "sub.txt").write_bytes(b"")
    (model / "B").write_bytes(b"")
    found = scan(model)
    assert [file.path for file in found.files] == ["B", "config.json", "sub.txt", "sub/w"]
    assert found.left_out == ()
    check_unchanged(model, found)


@pytest.mark.parametrize(
    "beside",
    [
        ".git/config",
        ".GIT/config",
        ".git./config",
        "GIT~1/config",
        ".cache/huggingface/download/w.metadata",
        ".DS_Store",
        "sub/.git",
        "sub/.hg/x",
    ],
)
def test_what_lies_beside_a_model_is_left_out_and_said(beside: str, model: Path) -> None:
    before = scan(model)
    (model / beside).parent.mkdir(parents=True, exist_ok=True)
    (model / beside).write_bytes(b"url = https://user:password@hub.invalid/")
    after = scan(model)
    assert after.files == before.files
    name = next(part for part in beside.split("/") if part != "sub")
    assert after.left_out == ((f"sub/{name}" if beside.startswith("sub") else name),)


@pytest.mark.parametrize("name", ["w.safetensors", "tokenizer.json"])
def test_git_lfs_pointer(name: str, model: Path, refuse: Callable[..., None]) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 7\n"
    (model / name).write_text(pointer)
    refuse(model, SealCode.GIT_LFS_POINTER)
    (model / name).write_text("x" + pointer)
    scan(model)


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
@pytest.mark.parametrize("before", ["", "# a comment\n"])
def test_private_key(kind: str, before: str, model: Path, refuse: Callable[..., None]) -> None:
    """Whatever its name: every runtime that loads the model would hold it."""
    body = "A" * 64
    key = f"{before}-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----\n"
    (model / "notes.txt").write_text(key)
    refuse(model, SealCode.PRIVATE_KEY_INSIDE)
    (model / "notes.txt").write_text(key.replace("PRIVATE", "PUBLIC"))
    scan(model)
    (model / "notes.txt").write_text(f"Keys begin with -----BEGIN {kind}PRIVATE KEY-----.")
    scan(model)


def test_an_owners_key_inside_is_refused(
    model: Path, owner: SigningKey, refuse: Callable[..., None]
) -> None:
    (model / "owner.key").write_bytes(owner.to_pem(None))
    refuse(model, SealCode.PRIVATE_KEY_INSIDE)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A snapshot in a hub cache: links to blobs that are named by their digests."""
    cache = tmp_path / "models--acme--tiny"
    (cache / "blobs").mkdir(parents=True)
    folder = cache / "snapshots" / "0123abc"
    folder.mkdir(parents=True)
    for name, data in {"config.json": b"{}", "w.safetensors": b"w" * 200_000}.items():
        (cache / "blobs" / name.upper()).write_bytes(data)
        (folder / name).symlink_to(f"../../blobs/{name.upper()}")
    return folder


def test_the_snapshot_of_a_cache_is_sealed_as_its_files_are(
    snapshot: Path, tmp_path: Path, owner: SigningKey
) -> None:
    loaded = seal_testbed(snapshot, tmp_path / "sealed", owner).load()
    assert bytes(loaded.view("w.safetensors")) == b"w" * 200_000
    copy = tmp_path / "copy"
    copy.mkdir()
    for link in snapshot.iterdir():
        (copy / link.name).write_bytes(link.read_bytes())
    same = seal_testbed(copy, tmp_path / "sealed-copy", owner)
    assert loaded.index.model_id() == same.load().index.model_id()


def test_links_elsewhere_are_followed_when_asked(
    snapshot: Path, tmp_path: Path, owner: SigningKey, refuse: Callable[..., None]
) -> None:
    other = tmp_path / "plain"
    other.mkdir()
    for link in snapshot.iterdir():
        (other / link.name).symlink_to(os.path.realpath(link))
    refuse(other, SealCode.NOT_A_PLAIN_FILE)
    blobs = ScanOptions(links_into=snapshot.parents[1] / "blobs")
    sealed = seal_testbed(other, tmp_path / "sealed", owner, contents=blobs)
    assert bytes(sealed.load().view("w.safetensors")) == b"w" * 200_000


def test_blobs_that_are_a_link_are_no_cache(
    snapshot: Path, tmp_path: Path, refuse: Callable[..., None]
) -> None:
    """A downloaded archive could lead the reader of its "cache" to any directory of the owner's."""
    (snapshot.parents[1] / "blobs").rename(tmp_path / "elsewhere")
    (snapshot.parents[1] / "blobs").symlink_to(tmp_path / "elsewhere")
    refuse(snapshot, SealCode.NOT_A_PLAIN_FILE)


def test_links_into_the_blobs_of_another_cache_are_refused(
    snapshot: Path, tmp_path: Path, refuse: Callable[..., None]
) -> None:
    other = tmp_path / "models--acme--other"
    shutil.copytree(snapshot.parents[1], other, symlinks=True)
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(other / "blobs" / "CONFIG.JSON")
    refuse(snapshot, SealCode.NOT_A_PLAIN_FILE)


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("models--acme--tiny", "0123abc"),
        ("models--acme--tiny/snapshots", "0123abc"),
        ("models--acme--tiny/blobs", "0123abc"),  # files whose names would be digests
        (".", "models--acme--tiny"),
    ],
)
def test_a_whole_cache_is_no_model(place: str, named: str, snapshot: Path) -> None:
    with pytest.raises(RegaliaError) as caught:
        scan(snapshot.parents[2] / place)
    assert caught.value.code is SealCode.IS_A_CACHE
    assert named in caught.value.what.removeprefix(str(snapshot.parents[2] / place))


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("../../../secret", SealCode.NOT_A_PLAIN_FILE),
        ("../../blobs/loop", SealCode.NOT_A_PLAIN_FILE),
        ("../../blobs", SealCode.NOT_A_PLAIN_FILE),
        ("../../blobs/gone", SealCode.INCOMPLETE_MODEL),
        ("../../blobs/.git/config", SealCode.NOT_A_PLAIN_FILE),
    ],
)
def test_other_links_are_not_followed(target: str, code: Code, snapshot: Path) -> None:
    blobs = snapshot.parents[1] / "blobs"
    (snapshot.parents[2] / "secret").write_bytes(b"of somebody else")
    (blobs / "loop").symlink_to("../../secret")
    (blobs / ".git").mkdir()
    (blobs / ".git" / "config").write_bytes(b"url = https://user:password@hub.invalid/")
    (snapshot / "link").symlink_to(target)
    with pytest.raises(RegaliaError) as caught:
        scan(snapshot)
    assert caught.value.code is code


def test_linked_model_directory_is_the_users_choice(
    model: Path, tmp_path: Path, owner: SigningKey
) -> None:
    (tmp_path / "alias").symlink_to(model)
    sealed = seal_testbed(tmp_path / "alias", tmp_path / "sealed", owner)
    assert sealed.load().paths() == ("config.json", "sub/w")
