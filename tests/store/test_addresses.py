"""Addresses of stores with versions: what they mean, and what they must not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from regalia.core.errors import CoreCode, LocalError, UsageError
from regalia.store.dir_address import DirAddress
from regalia.store.locate import open_store, open_versions
from regalia.store.oci_address import OciAddress, is_this_machine
from regalia.store.s3_address import S3Address

HEX = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "base", "repository", "reference"),
    [
        ("oci://ghcr.io/acme/model", "https://ghcr.io", "acme/model", "latest"),
        ("oci://ghcr.io/acme/model:v1.0", "https://ghcr.io", "acme/model", "v1.0"),
        (f"oci://ghcr.io/a@{HEX}", "https://ghcr.io", "a", HEX),
        ("oci://r.example:5000/a__b/c-d:V", "https://r.example:5000", "a__b/c-d", "V"),
        ("oci://127.0.0.1:5000/a:v", "http://127.0.0.1:5000", "a", "v"),
        ("oci://r.example:1/a", "https://r.example:1", "a", "latest"),
        ("oci://localhost/a", "http://localhost", "a", "latest"),
        ("oci://[::1]:5000/a:v", "http://[::1]:5000", "a", "v"),
        ("oci://r.example/a?dangerous_http=on", "http://r.example", "a", "latest"),
    ],
)
def test_a_registry(text: str, base: str, repository: str, reference: str) -> None:
    address = OciAddress.parse(text)
    assert (address.base, address.repository, address.reference) == (base, repository, reference)


def test_whom_a_registry_may_name() -> None:
    address = OciAddress.parse(
        "oci://r.example/a:v?auth=auth.example&blobs=c.example,d.example:8443"
    )
    assert address.auth == "auth.example"
    assert address.blobs == {"c.example", "d.example:8443"}
    assert OciAddress.parse("oci://r.example/a").blobs == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "oci://",
        "oci:///a",
        "oci://r.example",
        "oci://r.example/",
        "oci://r.example/A",
        "oci://r.example/a//b",
        "oci://r.example/a/../b",
        "oci://r.example/a/",
        "oci://r.example/a:",
        "oci://r.example/a:-v",
        "oci://r.example/a:" + "v" * 129,
        "oci://r.example/a@sha256:00",
        "oci://r.example/a@v1",
        "oci://r.example/a:v@" + HEX,
        "oci://r.example/" + "a" * 256,
        "oci://r.example:0/a",
        "oci://r.example:65536/a",
        "oci://r.example:x/a",
        "oci://-r/a",
        "oci://r.example/a#f",
        "oci://r.example/a?x=1",
        "oci://r.example/a?auth=a&auth=b",
        "oci://r.example/a?auth=https://b",
        "oci://r.example/a?blobs=",
        "oci://r.example/a?blobs=b,",
        "oci://r.example/a?dangerous_http=off",
        "oci://r.example/a b",
        "oci://r.example/a\x7f",
        "oci://r.example/a:v\n",
        "oci://r.example/a?x",
        "oci://r.example/\xe4",
    ],
)
def test_no_registry(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        OciAddress.parse(text)
    assert caught.value.code is CoreCode.BAD_CONFIG


def test_credentials_are_refused_and_not_repeated() -> None:
    for text in ("oci://user:hunter2@r.example/a", "oci://r.example/a?password=hunter2"):
        with pytest.raises(UsageError) as caught:
            OciAddress.parse(text)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:5000", "127.8.0.1", "localhost:80", "[::1]", "[::1]:5"]
)
def test_this_machine(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host", ["localhost.example", "127.0.0.1.example", "10.0.0.1", "[::2]", "1.0.0.127", "example"]
)
def test_another_machine(host: str) -> None:
    assert not is_this_machine(host)


def test_versions_in_s3() -> None:
    address = S3Address.parse("s3://models/a/b:v1?region=eu-central-1")
    assert (address.prefix, address.reference) == ("a/b/", "v1")
    assert S3Address.parse(f"s3://models/a@{HEX}").reference == HEX
    assert S3Address.parse("s3://models/a").reference is None
    assert address.folder("blobs").describe() == "s3://models/a/b/blobs/"
    assert address.folder("blobs").reference is None


@pytest.mark.parametrize(
    "text", ["s3://models/a:b:c", "s3://models/a@v", "s3://models/a:", "s3://m/a:b/c"]
)
def test_no_version_in_s3(text: str) -> None:
    with pytest.raises(UsageError):
        S3Address.parse(text)


def test_local_versions(tmp_path: Path) -> None:
    assert DirAddress.parse("dir:a/b:v1", tmp_path) == DirAddress(tmp_path / "a/b", "v1")
    assert DirAddress.parse("dir:/srv/a", tmp_path) == DirAddress(Path("/srv/a"))
    assert DirAddress.parse("dir:/srv/a:b/c:v", tmp_path) == DirAddress(Path("/srv/a:b/c"), "v")


@pytest.mark.parametrize("text", ["dir:", "dir::v", "dir:a:", "dir:a@v", "dir:a/:v"])
def test_no_local_versions(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        DirAddress.parse(text, tmp_path)
    assert caught.value.code is CoreCode.BAD_CONFIG


def test_a_store_without_a_version_is_not_opened(tmp_path: Path) -> None:
    with open_versions("dir:store", tmp_path, write=True).repository:
        pass
    with pytest.raises(UsageError) as caught:
        open_store("dir:store", tmp_path)
    assert "names no version" in caught.value.what


@pytest.mark.parametrize("text", ["https://r.example/a", "a", "ftp://a/b", ""])
def test_what_has_no_versions(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_versions(text, tmp_path)
    assert caught.value.code is CoreCode.BAD_CONFIG


def test_a_folder_with_something_else_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_bytes(b"cat")
    with pytest.raises(LocalError) as caught:
        open_versions("dir:photos", tmp_path)
    assert caught.value.code is CoreCode.FILE_MISSING
    with pytest.raises(LocalError) as caught:
        open_versions("dir:photos", tmp_path, write=True)
    assert caught.value.code is CoreCode.FILE_EXISTS
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
