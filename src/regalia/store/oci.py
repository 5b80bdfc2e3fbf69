"""Sealed models in OCI registries: files are layers of an image. The registry is untrusted."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import httpx
import msgspec

from regalia.core.errors import UnavailableError
from regalia.core.types import Digest
from regalia.store.exchange import Call
from regalia.store.image import EMPTY, IMAGE_MAX, IMAGE_TYPE, OTHER_TYPES, ImageBlobs
from regalia.store.listing import ListingBounds
from regalia.store.names import ADDRESSED, TAG, StoreCode
from regalia.store.oci_access import OciAccess
from regalia.store.oci_address import is_this_machine
from regalia.store.oci_uploads import send_blob, send_bytes
from regalia.store.ranges import RangedBlobs
from regalia.store.reference import behind, is_digest
from regalia.store.repository import checked_image, taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from regalia.store.content import Content
    from regalia.store.exchange import Answer
    from regalia.store.image import Blob, Image
    from regalia.store.oci_address import OciAddress

_NOT_FOUND, _UNAUTHORIZED, _FORBIDDEN = 404, 401, 403
_ABSENT = frozenset({_NOT_FOUND})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Seconds until a tag that was written is read again: more than one small request takes.
SETTLE_S = 2.0
_TAGS_MAX = 4 << 20  # bytes of a list of tags


class OciBlobs(RangedBlobs):
    """Reads layers of a repository by digest. May be used from several threads.

    Args:
        access: repository and credentials. Closed with this.
        transport: replaces the HTTP transport in tests.
        pause: replaces ``time.sleep`` between attempts in tests.
    """

    def __init__(
        self,
        access: OciAccess,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(transport=transport, pause=pause)
        self._access = access

    def describe(self) -> str:
        """Address of the repository."""
        return self._access.address.place()

    def close(self) -> None:
        """Close the connections."""
        super().close()
        self._access.close()

    def _name(self, name: str) -> str:
        return f"{self.describe()}, blob {name}"

    def _request(self, name: str, first: int, last: int) -> httpx.Request:
        found = ADDRESSED.fullmatch(name)
        if found is None:
            raise UnavailableError(StoreCode.BLOB_MISSING, f"{name[:80]!r} is no blob's name")
        url = f"{self._access.base}blobs/sha256:{found[1]}"
        headers = {"range": f"bytes={first}-{last}", **self._access.headers()}
        return self._http.build_request("GET", url, headers=headers)

    def _send(self, name: str, request: httpx.Request) -> httpx.Response:
        response = super()._send(name, request)
        if response.status_code == _UNAUTHORIZED:
            response.close()
            used = request.headers.get("authorization", "")
            self._access.renew(used, response.headers.get("www-authenticate", ""))
            request = self._http.build_request(
                "GET", request.url, headers={**request.headers, **self._access.headers()}
            )
            response = super()._send(name, request)
        if response.status_code in _REDIRECTS:
            response.close()
            return super()._send(name, self._elsewhere(name, request, response))
        return response

    def _elsewhere(
        self, name: str, request: httpx.Request, response: httpx.Response
    ) -> httpx.Request:
        """The request that a redirect asks for, without credentials, to a host that is named."""
        try:
            url = request.url.join(response.headers.get("location", ""))
        except httpx.InvalidURL:
            raise self._wrong(name, "a redirect to nowhere") from None
        host = url.netloc.decode()
        plain = (
            url.scheme == "http"
            and is_this_machine(host)
            and is_this_machine(self._access.address.host)
        )
        if host not in self._access.address.blobs or not (url.scheme == "https" or plain):
            raise self._wrong(
                name,
                f"a redirect to {url.scheme}://{host[:100]}, not followed;"
                f" if that is right, say blobs={host[:100]}",
            )
        headers = {"range": request.headers["range"], "accept-encoding": "identity"}
        return self._http.build_request("GET", url, headers=headers)

    def _check_status(self, name: str, response: httpx.Response) -> None:
        if response.status_code in {_UNAUTHORIZED, _FORBIDDEN}:
            raise self._access.refused(f"{name}: status {response.status_code}")
        super()._check_status(name, response)


class OciRepository:
    """A ``Repository`` in a registry.

    Args:
        address: of the repository.
        write: ask for tokens that allow to push.
        helpers: whether a program may be run that Docker's configuration names.
        transport: replaces the HTTP transport in tests.
        pause: replaces ``time.sleep`` between attempts in tests.

    Raises:
        UsageError, KeyAccessError, LocalError: as ``OciAccess``.
    """

    def __init__(
        self,
        address: OciAddress,
        *,
        write: bool,
        helpers: bool,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._address = address
        self._transport = transport
        self._pause = pause
        self._access = OciAccess(
            address,
            actions="pull,push" if write else "pull",
            helpers=helpers,
            transport=transport,
            pause=pause,
        )

    def describe(self) -> str:
        """Address without a version."""
        return self._address.place()

    @contextmanager
    def pushing(self, document: bytes) -> Iterator[None]:  # noqa: ARG002 - the registry's business
        """As ``Repository``: registries keep blobs that no image holds for a while."""
        yield

    def has(self, blob: Blob) -> bool:
        """As ``Repository``. Raises as ``OciAccess.ask``."""
        url = f"{self._access.base}blobs/{blob.digest}"
        answer = self._access.ask(Call("HEAD", url, allow=_ABSENT))
        length = answer.headers.get("content-length", "")
        return answer.status != _NOT_FOUND and length == str(blob.size)

    def is_there(self, blob: Blob) -> bool:
        """As ``Repository``. Raises as ``OciAccess.ask``."""
        return self.has(blob)

    def put(self, content: Content) -> None:
        """As ``Repository``. Raises as ``OciAccess.ask``, and IntegrityError with BLOB_CHANGED."""
        send_blob(self._access, content)

    def resolve(self, tag: str) -> Digest | None:
        """As ``Repository``. Raises as ``OciAccess.ask``."""
        found = self._document(tag)
        return None if found is None else Digest.of(found)

    def publish(self, tag: str, document: bytes, *, replace: bool) -> None:
        """As ``Repository``. OCI distribution 1.1 has no conditions for writing a tag.

        So the tag is read directly before it is written, and once more ``SETTLE_S`` later. Another
        push that saw the tag as it was before this one is done with its writing by then. Of two at
        once, the one whose version has lost the name is told.

        Args:
            tag: its name.
            document: encoded ``Image``.
            replace: take the name from another version.

        Raises:
            UnavailableError: VERSION_EXISTS, also if another push took the name at the same time;
                or as ``OciAccess.ask``.
        """
        digest = Digest.of(document)
        send_bytes(self._access, EMPTY)

        def look_and_write() -> Answer:
            answer = self._access.ask_once(self._asking_for(tag))
            found = None if answer.status == _NOT_FOUND else Digest.of(answer.body)
            if found == digest:
                return answer
            if found is not None and not replace:
                raise taken(self.describe(), tag, found)
            url = f"{self._access.base}manifests/{tag}"
            return self._access.ask_once(Call("PUT", url, {"content-type": IMAGE_TYPE}, document))

        self._access.attempt(look_and_write)
        self._pause(SETTLE_S)
        now = self.resolve(tag)
        if now != digest:
            raise taken(self.describe(), tag, now)

    def tags(self) -> list[str]:
        """As ``Repository``. Raises as ``OciAccess.ask``."""
        tags: dict[str, None] = {}
        last, bounds = "", ListingBounds(self.describe())
        while True:
            url = f"{self._access.base}tags/list?n=1000{last}"
            answer = self._access.ask(Call("GET", url, limit=_TAGS_MAX, allow=_ABSENT))
            page = [] if answer.status == _NOT_FOUND else self._page(answer.body)
            bounds.count(len(page))
            known = len(tags)
            tags.update(dict.fromkeys(page))
            if len(tags) == known or 'rel="next"' not in answer.headers.get("link", ""):
                return sorted(tags)
            last = f"&last={page[-1]}"

    def load(self, reference: str) -> tuple[Digest, Image]:
        """As ``Repository``.

        Raises:
            UnavailableError: VERSION_MISSING, or as ``OciAccess.ask``.
            IntegrityError: STORE_ANSWER_WRONG or NOT_A_SEALED_MODEL.
            ParseError: the document is malformed.
        """
        where = behind(self.describe(), reference)
        data = self._document(reference)
        if data is None:
            raise UnavailableError(StoreCode.VERSION_MISSING, f"{where} is not there")
        digest = Digest.parse(reference) if is_digest(reference) else Digest.of(data)
        return digest, checked_image(data, digest, where)

    def open(self, reference: str) -> ImageBlobs:
        """The files of a version, to be read; closes this repository too. Raises as ``load``."""
        _, image = self.load(reference)
        blobs = OciBlobs(self._access, transport=self._transport, pause=self._pause)
        return ImageBlobs(image, blobs, behind(self.describe(), reference))

    def close(self) -> None:
        """Close the connections."""
        self._access.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _document(self, reference: str) -> bytes | None:
        answer = self._access.ask(self._asking_for(reference))
        return None if answer.status == _NOT_FOUND else answer.body

    def _asking_for(self, reference: str) -> Call:
        url = f"{self._access.base}manifests/{reference}"
        # A registry says of a type that is not asked for that there is nothing of this name.
        accept = ", ".join((IMAGE_TYPE, *OTHER_TYPES))
        return Call("GET", url, {"accept": accept}, limit=IMAGE_MAX, allow=_ABSENT)

    def _page(self, data: bytes) -> list[str]:
        try:
            listed = msgspec.json.decode(data, type=_Tags).tags or []
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise self._access.wrong("a list of tags that is none") from None
        return [tag for tag in listed if TAG.fullmatch(tag)]


class _Tags(msgspec.Struct, frozen=True):
    tags: list[str] | None = None
