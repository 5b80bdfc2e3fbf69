"""A registry in memory, to spoil: blobs, images, tokens, and answers given in their place."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import httpx

from regalia.core.types import Digest
from regalia.store.image import Blob, Image, Label
from regalia.store.oci import OciRepository
from regalia.store.oci_address import OciAddress

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.store.image import ImageBlobs

HOST = "r.example"
ADDRESS = OciAddress(HOST, "acme/model", "v1")
TOKEN = "token-of-tests"
SHARD = bytes(range(256)) * 400
FILES = {"manifest.json": b'{"signed":"m"}', "index.seal": b"i" * 5000, "shard-00000.seal": SHARD}
NAME = "shard-00000.seal"
CHALLENGE = f'Bearer realm="https://{HOST}/token",service="{HOST}",scope="anything"'


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def image(files: dict[str, bytes] = FILES) -> Image:
    blobs = (Blob(name, Digest.of(data), len(data)) for name, data in files.items())
    return Image(tuple(blobs), Label("model:ab", "3"))


@dataclass
class RegistryDouble:
    """What a registry holds, and by path what it answers instead: the last one for ever."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    images: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    instead: dict[str, list[object]] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    challenge: str = ""  # empty: everybody may do everything
    token: str = TOKEN
    logins: list[str] = field(default_factory=list)

    @classmethod
    def with_model(cls, files: dict[str, bytes] = FILES) -> RegistryDouble:
        """A registry with the version v1."""
        document = image(files).encode()
        double = cls(blobs={sha256(data): data for data in files.values()})
        double.images = {"v1": document, sha256(document): document}
        return double

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        for part, answers in self.instead.items():
            if part in str(request.url) and answers:
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if isinstance(answer, Exception):
                    raise answer
                response = answer(request) if callable(answer) else answer
                if response is not None:
                    assert isinstance(response, httpx.Response)
                    return unread(response)
        return unread(self.honest(request))

    def honest(self, request: httpx.Request) -> httpx.Response:
        """What a registry says that is none of our enemies'."""
        path = request.url.path
        if path == "/token":
            return self._give_token(request)
        assert request.headers["accept-encoding"] == "identity"
        allowed = (f"Bearer {self.token}", "Basic YW5uOmh1bnRlcjI=")
        if self.challenge and request.headers.get("authorization") not in allowed:
            return httpx.Response(401, headers={"www-authenticate": self.challenge})
        place = path.removeprefix("/v2/acme/model/")
        assert place != path
        kind, _, rest = place.partition("/")
        answers: dict[str, Callable[[httpx.Request, str], httpx.Response]] = {
            "blobs": self._blob,
            "manifests": self._image,
            "tags": self._tags,
        }
        return answers[kind](request, rest)

    def _give_token(self, request: httpx.Request) -> httpx.Response:
        form = parse_qs(request.content.decode()) if request.method == "POST" else None
        asked = form or parse_qs(request.url.query.decode())
        assert asked["service"] == [HOST]
        assert asked["scope"][0].startswith("repository:acme/model:pull")
        who = form["refresh_token"][0] if form else request.headers.get("authorization", "")
        self.logins.append(who)
        return httpx.Response(200, json={"token": self.token})

    def _blob(self, request: httpx.Request, rest: str) -> httpx.Response:
        if rest.startswith("uploads/"):
            return self._upload(request, rest.removeprefix("uploads/"))
        data = self.blobs.get(rest)
        if data is None:
            return httpx.Response(404)
        if request.method == "HEAD":
            return httpx.Response(200, headers={"content-length": str(len(data))})
        first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
        return ranged(data, first, last)

    def _upload(self, request: httpx.Request, name: str) -> httpx.Response:
        if request.method == "POST":
            name = f"u{len(self.uploads)}"
            self.uploads[name] = bytearray()
            return self._went_on(name)
        data = self.uploads[name]
        if request.method == "GET":
            return self._went_on(name, 204)
        if request.method == "PATCH":
            first = int(request.headers["content-range"].partition("-")[0])
            if first != len(data):
                return httpx.Response(416)
            data += request.content
            return self._went_on(name)
        data += request.content
        digest = request.url.params["digest"]
        assert request.url.params["state"] == name
        if sha256(bytes(data)) != digest:
            return httpx.Response(400)
        self.blobs[digest] = bytes(data)
        return httpx.Response(201)

    def _went_on(self, name: str, status: int = 202) -> httpx.Response:
        place = f"/v2/acme/model/blobs/uploads/{name}?state={name}"
        size = len(self.uploads[name])
        return httpx.Response(status, headers={"location": place, "range": f"0-{max(size - 1, 0)}"})

    def _image(self, request: httpx.Request, reference: str) -> httpx.Response:
        if request.method == "PUT":
            layers = json.loads(request.content)["layers"]
            if any(layer["digest"] not in self.blobs for layer in layers):
                return httpx.Response(400)
            self.images |= {reference: request.content, sha256(request.content): request.content}
            return httpx.Response(201)
        data = self.images.get(reference)
        return httpx.Response(404) if data is None else whole(data)

    def _tags(self, request: httpx.Request, rest: str) -> httpx.Response:
        assert rest == "list"
        names = sorted(name for name in self.images if not name.startswith("sha256:"))
        last = request.url.params.get("last", "")
        rest_of = [name for name in names if name > last]
        more = {"link": '</v2/x>; rel="next"'} if len(rest_of) > 2 else {}
        return httpx.Response(200, headers=more, json={"name": "acme/model", "tags": rest_of[:2]})

    def repository(self, address: OciAddress = ADDRESS, *, write: bool = True) -> OciRepository:
        """A client whose requests come here."""
        return OciRepository(
            address,
            write=write,
            helpers=False,
            transport=httpx.MockTransport(self),
            pause=self.pauses.append,
        )

    def opened(self, address: OciAddress = ADDRESS) -> ImageBlobs:
        """The files of a version."""
        return self.repository(address, write=False).open(address.reference)


def unread(response: httpx.Response) -> httpx.Response:
    """The same answer as it comes from a network: nobody has read it yet."""
    stream = response.stream
    if response.is_closed:
        stream = httpx.ByteStream(response.content)
    assert isinstance(stream, httpx.ByteStream)
    return httpx.Response(response.status_code, headers=response.headers, stream=stream)


def whole(data: bytes) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(data))


def ranged(data: bytes, first: int, last: int, *, total: int | None = None) -> httpx.Response:
    size = len(data) if total is None else total
    headers = {"content-range": f"bytes {first}-{last}/{size}"}
    return httpx.Response(206, headers=headers, stream=httpx.ByteStream(data[first : last + 1]))


def blob_path(name: str = NAME, files: dict[str, bytes] = FILES) -> str:
    """A part of the URL of one file."""
    return sha256(files[name])
