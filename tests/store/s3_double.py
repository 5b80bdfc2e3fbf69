"""An S3 server in memory, to spoil. It answers signed range requests, and keeps them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.core.errors import IntegrityError, UnavailableError
from regalia.store.s3 import S3Blobs
from regalia.store.s3_address import S3Address

if TYPE_CHECKING:
    from regalia.core.errors import RegaliaError

ENDPOINT = "http://127.0.0.1:9"  # nobody listens there, and nobody is asked
ADDRESS = S3Address("models", "m/", ENDPOINT, "eu-central-1")
KEY_ID = "AKIDOFTESTS"
SECRET = "secret-of-tests"
TOKEN = "token-of-tests"
NAME = "shard-00000.seal"
KEY = f"m/{NAME}"
SHARD = bytes(range(256)) * 40
_SIGNED = re.compile(
    rf"AWS4-HMAC-SHA256 Credential={KEY_ID}/\d{{8}}/eu-central-1/s3/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=[0-9a-f]{64}"
)


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    """An error as S3 words it."""
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>text</Message></Error>'
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, stream=httpx.ByteStream(text.encode()))


def partial(body: bytes, content_range: str, **headers: str) -> httpx.Response:
    """An answer to a range request."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(
        206, headers={"content-range": content_range} | named, stream=httpx.ByteStream(body)
    )


def etag(data: bytes) -> str:
    """As S3 makes them of objects that were uploaded in one part."""
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


@dataclass
class S3Double:
    """Objects by key, and answers that are given in their place: the last one for ever."""

    objects: dict[str, bytes]
    answers: list[object] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if not self.answers:
            return self.honest(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        response = answer(request) if callable(answer) else answer
        assert isinstance(response, httpx.Response)
        return response

    def honest(self, request: httpx.Request) -> httpx.Response:
        """What a server says that is none of our enemies'."""
        signed = _SIGNED.fullmatch(request.headers["authorization"])
        assert signed is not None
        assert {"host", "range", "x-amz-date"} <= set(signed[1].split(";"))
        assert request.headers["accept-encoding"] == "identity"
        data = self.objects.get(request.url.path.removeprefix("/models/"))
        if data is None:
            return problem(404, "NoSuchKey")
        if request.headers.get("if-match", etag(data)) != etag(data):
            return problem(412, "PreconditionFailed")
        first, last = span(request)
        content_range = f"bytes {first}-{last}/{len(data)}"
        return partial(data[first : last + 1], content_range, etag=etag(data))

    def blobs(self) -> S3Blobs:
        """A reader whose requests come here."""
        return S3Blobs(ADDRESS, transport=httpx.MockTransport(self), pause=self.pauses.append)


def span(request: httpx.Request) -> tuple[int, int]:
    """First and last byte that are asked for."""
    first, last = request.headers["range"].removeprefix("bytes=").split("-")
    return int(first), int(last)


def read(server: S3Double, size: int = 100) -> bytes:
    """Read some bytes from the middle of the shard."""
    buffer = bytearray(size)
    with server.blobs() as blobs:
        blobs.read_into(NAME, 50, memoryview(buffer))
    return bytes(buffer)


def refused(server: S3Double, *answers: object) -> RegaliaError:
    """What reading ends with, if the first answer is honest and then come these."""
    server.answers = [server.honest, *answers]
    with pytest.raises((IntegrityError, UnavailableError)) as caught:
        read(server)
    for text in (str(caught.value), caught.value.explain()):
        assert SECRET not in text
        assert TOKEN not in text
    return caught.value
