"""Credentials come from the SDK's usual places, and are in no log, message or address."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import httpx
import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ConnectTimeoutError, CredentialRetrievalError

from regalia.core.errors import CoreCode, UnavailableError, UsageError
from regalia.store.locate import open_store
from regalia.store.names import StoreCode
from regalia.store.s3 import S3Blobs
from regalia.store.s3_address import S3Address
from tests.host.test_transports import answering
from tests.store.s3_double import (
    ADDRESS,
    KEY_ID,
    NAME,
    SECRET,
    SHARD,
    TOKEN,
    problem,
    read,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.core.errors import RegaliaError
    from tests.store.s3_double import S3Double

pytestmark = pytest.mark.usefixtures("credentials")


def test_a_profile_of_the_shared_files(
    server: S3Double, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "aws-config").write_text(
        "[profile reader]\nregion = eu-central-1\nservices = local\n"
        "[services local]\ns3 =\n  endpoint_url = http://127.0.0.1:9\n"
    )
    (tmp_path / "aws-credentials").write_text(
        f"[reader]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "reader")
    with S3Blobs(S3Address("models", "m/"), transport=httpx.MockTransport(server)) as blobs:
        assert blobs.size(NAME) == len(SHARD)
    server.answers = [problem(403, "AccessDenied")]
    with server.blobs() as blobs, pytest.raises(UnavailableError, match="shared-credentials-file"):
        blobs.size(NAME)
    monkeypatch.setenv("AWS_PROFILE", "absent")
    with pytest.raises(UsageError, match="ProfileNotFound") as caught:
        server.blobs()
    assert caught.value.code is CoreCode.BAD_CONFIG


@pytest.mark.parametrize("name", ["aws-config", "aws-credentials"])
def test_no_command_of_the_shared_files_is_run(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They may come from outside of the TEE, and the command would run inside."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    ran = tmp_path / "ran"
    section = "profile deep" if name == "aws-config" else "deep"
    (tmp_path / name).write_text(f"[{section}]\ncredential_process = touch {ran}\n")
    with (tmp_path / "aws-config").open("a") as config:
        config.write("[profile top]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = deep\n")
    for profile in ("deep", "top"):
        monkeypatch.setenv("AWS_PROFILE", profile)
        with pytest.raises(UsageError, match="credential_process") as caught:
            S3Blobs(ADDRESS)
        assert caught.value.code is CoreCode.BAD_CONFIG
    assert not ran.exists()


def test_the_role_of_a_container(server: S3Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    issued = {"AccessKeyId": KEY_ID, "SecretAccessKey": SECRET, "Token": TOKEN,
              "Expiration": "2099-01-01T00:00:00Z"}  # fmt: skip
    body = json.dumps(issued).encode()

    def role() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
        yield b"content-length: %d\r\n\r\n" % len(body) + body

    with answering(role) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        assert read(server) == SHARD[50:150]
        assert server.requests[0].headers["x-amz-security-token"] == TOKEN
        assert (
            "credentials from container-role" in refused(server, problem(403, "AccessDenied")).what
        )
    with pytest.raises(UsageError, match="CredentialRetrievalError") as caught:
        server.blobs()
    assert caught.value.code is StoreCode.STORE_CREDENTIALS_MISSING
    assert url not in caught.value.what


def test_half_a_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UsageError, match="PartialCredentialsError") as caught:
        S3Blobs(ADDRESS)
    assert caught.value.code is StoreCode.STORE_CREDENTIALS_MISSING


def test_no_credentials_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UsageError) as caught:
        open_store("s3://models/m", tmp_path)
    assert caught.value.code is StoreCode.STORE_CREDENTIALS_MISSING


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_of_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "eu-north-1")
    with S3Blobs(S3Address("models", "m/")) as blobs:
        assert blobs.describe() == "s3://models/m/ at models.s3.eu-north-1.amazonaws.com"
    with S3Blobs(S3Address("models", "m/", region="eu-west-3", addressing="path")) as blobs:
        assert blobs.describe() == "s3://models/m/ at s3.eu-west-3.amazonaws.com"


def test_an_endpoint_of_the_environment_that_holds_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://AKID:HIDDEN@s3.example")
    with pytest.raises(UsageError) as caught:
        S3Blobs(S3Address("models", "m/"))
    assert caught.value.code is CoreCode.BAD_CONFIG
    assert "HIDDEN" not in str(caught.value)


def failing(server: S3Double, error: Exception) -> RegaliaError:
    class Failing:
        method = "iam-role"

        def get_frozen_credentials(self) -> object:
            raise error

    with server.blobs() as blobs:
        blobs._access._credentials = Failing()
        with pytest.raises(UnavailableError) as caught:
            blobs.size(NAME)
    assert "HIDDEN" not in caught.value.explain()
    assert caught.value.__cause__ is None or "HIDDEN" not in str(caught.value.__cause__)
    return caught.value


def test_credentials_that_cannot_be_renewed(server: S3Double) -> None:
    error = failing(server, CredentialRetrievalError(provider="process", error_msg="HIDDEN"))
    assert error.code is StoreCode.STORE_ACCESS_REFUSED
    assert "credentials from iam-role" in error.what
    assert failing(server, RuntimeError("still expired")).code is StoreCode.STORE_ACCESS_REFUSED
    assert not server.pauses
    error = failing(server, ConnectTimeoutError(endpoint_url="http://HIDDEN"))
    assert error.code is CoreCode.PEER_UNREACHABLE
    assert server.pauses == [0.2, 0.8, 2.0]


def test_credentials_that_expire_are_renewed_by_the_sdk(server: S3Double) -> None:
    renewed: list[str] = []

    def renew() -> dict[str, str]:
        renewed.append("once")
        return {"access_key": KEY_ID, "secret_key": SECRET, "token": TOKEN,
                "expiry_time": "2099-01-01T00:00:00Z"}  # fmt: skip

    old = {"access_key": "AKIDOLD", "secret_key": "old", "token": "old",
           "expiry_time": "2020-01-01T00:00:00Z"}  # fmt: skip
    with server.blobs() as blobs:
        blobs._access._credentials = RefreshableCredentials.create_from_metadata(
            old, renew, "iam-role"
        )
        assert blobs.size(NAME) == len(SHARD)
    assert renewed == ["once"]
    assert server.requests[0].headers["x-amz-security-token"] == TOKEN


def test_no_secret_is_logged(
    server: S3Double, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    with caplog.at_level(logging.DEBUG):
        read(server)
        refused(server, problem(403, "AccessDenied"))
        with server.blobs() as blobs:
            shown = f"{blobs!r} {blobs.describe()} {ADDRESS!r}"
    assert caplog.records, "something is logged at this level"
    signature = server.requests[0].headers["authorization"].rpartition("=")[2]
    for secret in (SECRET, TOKEN, signature):
        assert secret not in caplog.text
        assert secret not in shown
        assert all(secret not in str(each.url) for each in server.requests)
