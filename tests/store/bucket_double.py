"""A bucket in memory that is written to: conditions, listings, parts, and spoilt answers."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import httpx

from regalia.store.repository import ObjectRepository
from regalia.store.s3_address import S3Address
from regalia.store.s3_objects import S3Objects
from tests.store.registry_double import unread
from tests.store.s3_double import ENDPOINT, etag, problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ADDRESS = S3Address("models", "m/", ENDPOINT, "eu-central-1")
NOW = 1_800_000_000.0


@dataclass
class Object:
    data: bytes
    modified: float = NOW

    @property
    def headers(self) -> dict[str, str]:
        when = datetime.fromtimestamp(self.modified, UTC)
        return {
            "etag": etag(self.data),
            "last-modified": format_datetime(when, usegmt=True),
            "content-length": str(len(self.data)),
        }


@dataclass
class BucketDouble:
    """What a bucket holds, and by a part of the URL what it answers instead."""

    objects: dict[str, Object] = field(default_factory=dict)
    uploads: dict[str, tuple[str, dict[int, bytes]]] = field(default_factory=dict)
    instead: dict[tuple[str, str], list[object]] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    page: int = 1000
    now: float = NOW
    begun: float = NOW
    names: Iterator[int] = field(default_factory=itertools.count)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        for (method, part), answers in self.instead.items():
            if method == request.method and part in str(request.url) and answers:
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if isinstance(answer, Exception):
                    raise answer
                response = answer(request) if callable(answer) else answer
                if response is not None:
                    assert isinstance(response, httpx.Response)
                    return unread(response)
        response = unread(self.honest(request))
        response.headers["date"] = format_datetime(
            datetime.fromtimestamp(self.now, UTC), usegmt=True
        )
        return response

    def honest(self, request: httpx.Request) -> httpx.Response:
        """What a server says that is none of our enemies'."""
        assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKID")
        body = request.content
        assert request.headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
        key = request.url.path.removeprefix("/models/")
        query = request.url.params
        if not key:
            return self._uploads(query) if "uploads" in query else self._list(query)
        if "uploads" in query or "uploadId" in query:
            return self._parts(request, key)
        answers: dict[str, Callable[[httpx.Request, str], httpx.Response]] = {
            "GET": self._get,
            "HEAD": self._get,
            "PUT": self._put,
            "DELETE": self._delete,
        }
        return answers[request.method](request, key)

    def _get(self, request: httpx.Request, key: str) -> httpx.Response:
        found = self.objects.get(key)
        if found is None:
            return problem(404, "NoSuchKey")
        if "range" in request.headers:
            first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
            size = len(found.data)
            headers = {"content-range": f"bytes {first}-{last}/{size}", "etag": etag(found.data)}
            return httpx.Response(206, headers=headers, content=found.data[first : last + 1])
        data = found.data if request.method == "GET" else b""
        return httpx.Response(200, headers=found.headers, stream=httpx.ByteStream(data))

    def _put(self, request: httpx.Request, key: str) -> httpx.Response:
        found = self.objects.get(key)
        if found is not None and request.headers.get("if-none-match") == "*":
            return problem(412, "PreconditionFailed")
        match = request.headers.get("if-match")
        if match is not None and (found is None or etag(found.data) != match):
            return problem(412, "PreconditionFailed")
        self.objects[key] = Object(request.content, self.now)
        return httpx.Response(200, headers={"etag": etag(request.content)})

    def _delete(self, _request: httpx.Request, key: str) -> httpx.Response:
        self.objects.pop(key, None)
        return httpx.Response(204)

    def _list(self, query: httpx.QueryParams) -> httpx.Response:
        keys = sorted(key for key in self.objects if key.startswith(query["prefix"]))
        after = query.get("continuation-token", "")
        rest = [key for key in keys if key > after]
        shown = rest[: self.page]
        text = "".join(map(self._contents, shown))
        if len(rest) > len(shown):
            text += (
                f"<IsTruncated>true</IsTruncated>"
                f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>"
            )
        return httpx.Response(200, text=f"<ListBucketResult>{text}</ListBucketResult>")

    def _contents(self, key: str) -> str:
        found = self.objects[key]
        when = datetime.fromtimestamp(found.modified, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return (
            f"<Contents><Key>{escape(key)}</Key><LastModified>{when}</LastModified>"
            f"<ETag>{escape(etag(found.data))}</ETag><Size>{len(found.data)}</Size></Contents>"
        )

    def _uploads(self, query: httpx.QueryParams) -> httpx.Response:
        when = datetime.fromtimestamp(self.begun, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        text = "".join(
            f"<Upload><Key>{key}</Key><UploadId>{name}</UploadId>"
            f"<Initiated>{when}</Initiated></Upload>"
            for name, (key, _) in list(self.uploads.items())
            if key.startswith(query["prefix"])
        )
        return httpx.Response(
            200, text=f"<ListMultipartUploadsResult>{text}</ListMultipartUploadsResult>"
        )

    def _parts(self, request: httpx.Request, key: str) -> httpx.Response:
        query = request.url.params
        if request.method == "POST" and "uploads" in query:
            name = f"upload-{next(self.names)}"
            self.uploads[name] = (key, {})
            return httpx.Response(200, text=f"<r><UploadId>{name}</UploadId></r>")
        upload = self.uploads.get(query["uploadId"])
        if upload is None:
            return problem(404, "NoSuchUpload")
        assert upload[0] == key
        parts = upload[1]
        if request.method == "PUT":
            parts[int(query["partNumber"])] = request.content
            return httpx.Response(200, headers={"etag": etag(request.content)})
        if request.method == "GET":
            return self._list_parts(parts, int(query["part-number-marker"]))
        if request.method == "POST":
            # As S3 does it: dated by the upload's beginning.
            self.objects[key] = Object(b"".join(parts[n] for n in sorted(parts)), self.begun)
        del self.uploads[query["uploadId"]]
        text = "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"
        return httpx.Response(200, text=text)

    def _list_parts(self, parts: dict[int, bytes], marker: int) -> httpx.Response:
        rest = [number for number in sorted(parts) if number > marker]
        text = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{escape(etag(parts[n]))}</ETag></Part>"
            for n in rest[:2]
        )
        more = "true" if len(rest) > 2 else "false"
        return httpx.Response(200, text=f"<r><IsTruncated>{more}</IsTruncated>{text}</r>")

    def objects_of(self, address: S3Address = ADDRESS) -> S3Objects:
        """A client whose requests come here."""
        return S3Objects(address, transport=httpx.MockTransport(self), pause=self.pauses.append)

    def repository(self) -> ObjectRepository:
        return ObjectRepository(self.objects_of())
