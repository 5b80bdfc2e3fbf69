"""Stores whose certificates come from an authority of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, IntegrityError, UnavailableError, UsageError
from regalia.store.exchange import Call, Exchange
from regalia.store.http import HttpBlobs
from regalia.store.s3 import S3Blobs
from regalia.store.s3_address import S3Address
from regalia.store.s3_objects import S3Objects
from tests.store.private_authority import DATA, https_server, write_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.store.ranges import RangedBlobs

pytestmark = [pytest.mark.usefixtures("credentials"), pytest.mark.timeout(60)]
NAME = "shard-00000.seal"
VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE")


@pytest.fixture(autouse=True)
def no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("another"))


@pytest.fixture(scope="module")
def url(authority: Path) -> Iterator[str]:
    with https_server(authority) as url:
        yield url


def s3_address(url: str) -> S3Address:
    return S3Address.parse(f"s3://models/m?endpoint={url}&region=eu-central-1&addressing=path")


def http(url: str) -> RangedBlobs:
    return HttpBlobs(url, pause=lambda _: None)


def s3(url: str) -> RangedBlobs:
    return S3Blobs(s3_address(url), pause=lambda _: None)


def read(blobs: RangedBlobs) -> bytes:
    buffer = bytearray(100)
    with blobs:
        blobs.read_into(NAME, 50, memoryview(buffer))
    return bytes(buffer)


@pytest.mark.parametrize("kind", [http, s3])
def test_an_unknown_authority(kind: type, url: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        read(kind(url))
    assert caught.value.code is CoreCode.PEER_UNREACHABLE
    assert "CERTIFICATE_VERIFY_FAILED" in caught.value.what


@pytest.mark.parametrize("kind", [http, s3])
def test_the_variable_of_openssl(
    kind: type, url: str, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert read(kind(url)) == DATA[50:150]


def test_a_registry_and_a_peer_ask_in_the_same_way(
    url: str, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    exchange = Exchange(url)
    assert exchange.send(Call("GET", url), {"range": "bytes=0-9"}).body == DATA[:10]
    exchange.close()


@pytest.fixture(params=["environment", "profile"])
def set_for_the_sdk(
    request: pytest.FixtureRequest,
    credentials: None,  # noqa: ARG001 - which removes the SDK's variables
    authority: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if request.param == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    else:
        (tmp_path / "aws-config").write_text(f"[default]\nca_bundle = {authority}\n")


@pytest.mark.usefixtures("set_for_the_sdk")
def test_the_setting_of_the_sdk(url: str, another: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(another))  # the more particular one counts
    assert read(s3(url)) == DATA[50:150]
    with pytest.raises(UnavailableError):
        read(http(url))  # which is no business of the SDK's
    objects = S3Objects(s3_address(url), pause=lambda _: None)
    with pytest.raises(IntegrityError, match="has no date"):  # by a server that was believed
        objects.size("blobs/b")
    objects.close()


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_bundle_that_is_none(
    variable: str, content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(variable, str(path))
    with pytest.raises(UsageError) as caught:
        s3("https://127.0.0.1:9")
    assert caught.value.code is CoreCode.BAD_CONFIG
    assert f"{variable}={path}" in caught.value.what
