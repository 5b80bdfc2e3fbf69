"""Objects in a bucket: conditional writes for versions, uploads in parts for blobs."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING

from regalia.core.errors import UnavailableError
from regalia.host.transports import HeadTransport
from regalia.store.attempts import AgainError
from regalia.store.exchange import ANSWER_S, Call, Exchange
from regalia.store.listing import ListingBounds
from regalia.store.names import StoreCode
from regalia.store.objects import Entry, Found
from regalia.store.ranges import BLOB_MAX
from regalia.store.s3 import S3Blobs
from regalia.store.s3_access import S3Access
from regalia.store.s3_uploads import PART, S3Uploads
from regalia.store.s3_words import elements, query_of, tag_of, unescaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from regalia.store.content import Content
    from regalia.store.exchange import Answer
    from regalia.store.s3_address import S3Address

_LISTING_MAX = 4 << 20  # bytes of one page
_PROBLEM_MAX = 1 << 16  # bytes of an error's document
_HEAD = 4096  # bytes of a document that say what went wrong
_PROBLEM = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
_TRUNCATED = re.compile(rb"<IsTruncated>\s*true\s*</IsTruncated>")
_NEXT = re.compile(rb"<NextContinuationToken>([^<]{1,2048})</NextContinuationToken>")
_ETAG = re.compile(r'"[!#-~]{1,200}"')
_NAME = re.compile(r"(?!\.\.?$)[A-Za-z0-9._-]{1,256}")  # of an object in one of the folders
_NOT_FOUND, _CONFLICT, _CHANGED = 404, 409, 412
_FORBIDDEN = frozenset({401, 403})
_OF_CREDENTIALS = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
_MAY_PASS = frozenset({"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable"})
_ABSENT = frozenset({_NOT_FOUND})
_NO_BUCKET = b"<Code>NoSuchBucket</Code>"  # not that an object in it is absent


class S3Objects:
    """``Objects`` under a prefix of a bucket. May be used from several threads.

    Args:
        address: bucket, prefix, and what the SDK's configuration does not say.
        transport: replaces the HTTP transport in tests.
        pause: replaces ``time.sleep`` between attempts in tests.

    Raises:
        UsageError: as ``S3Access``.
    """

    def __init__(
        self,
        address: S3Address,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._address = address
        self._transport = transport
        self._pause = pause
        self._access = S3Access(address)
        if transport is None:
            transport = HeadTransport(ANSWER_S, tls=self._access.tls)
        self._exchange = Exchange(self.describe(), transport=transport, pause=pause)
        self._uploads = S3Uploads(self._access, self._ask)

    def describe(self) -> str:
        """Bucket and prefix, as an address."""
        return self._address.describe().removesuffix("/")

    def now(self) -> float:
        """The server's time, which dates its objects."""
        return self._exchange.now()

    def get(self, key: str, limit: int) -> Found | None:
        """As ``Objects``.

        Args:
            key: of the object.
            limit: bytes.

        Raises:
            UnavailableError: PEER_UNREACHABLE, STORE_FAILED or STORE_ACCESS_REFUSED.
            IntegrityError: STORE_ANSWER_WRONG.
        """
        most = max(limit, _PROBLEM_MAX)  # there is room for what is said of an error, too
        answer = self._ask(Call("GET", self._access.base + key, limit=most, allow=_ABSENT))
        if answer.status == _NOT_FOUND:
            return None
        if len(answer.body) > limit:
            raise self._exchange.wrong(f"{key} has more than {limit} bytes")
        return Found(answer.body, answer.headers.get("etag", "")[:256])

    def size(self, key: str) -> Entry | None:
        """As ``Objects``. Raises as ``get``."""
        answer = self._ask(Call("HEAD", self._access.base + key, allow=_ABSENT))
        if answer.status == _NOT_FOUND:
            return None
        length = answer.headers.get("content-length", "")
        try:
            modified = parsedate_to_datetime(answer.headers.get("last-modified", "")).timestamp()
        except (ValueError, OverflowError):
            raise self._exchange.wrong(f"{key} has no date") from None
        if not re.fullmatch(r"[0-9]{1,15}", length):
            raise self._exchange.wrong(f"{key} has no length")
        return Entry(key, int(length), modified)

    def put(self, key: str, data: bytes, *, over: str | None) -> bool:
        """As ``Objects``. Raises as ``get``.

        Args:
            key: of the object.
            data: its content.
            over: state of what is replaced.

        Raises:
            IntegrityError: STORE_ANSWER_WRONG, also if the state cannot be compared.
        """
        headers = {}
        if over is not None:
            if over and not _ETAG.fullmatch(over):
                raise self._exchange.wrong(f"{key} has no ETag to compare")
            headers = {"if-match": over} if over else {"if-none-match": "*"}
        lost = frozenset({_CHANGED, _CONFLICT, _NOT_FOUND}) if headers else frozenset[int]()
        call = Call("PUT", self._access.base + key, headers, data, allow=lost)
        return self._ask(call).status not in lost

    def put_content(self, key: str, content: Content) -> None:
        """As ``Objects``. Raises as ``get``, and IntegrityError with BLOB_CHANGED.

        Args:
            key: of the object.
            content: its bytes.
        """
        if content.blob.size > PART:
            self._uploads.send(key, content)
            return
        for part in content.parts(PART):
            self._ask(Call("PUT", self._access.base + key, body=part))
            content.count(len(part))

    def entries(self, folder: str) -> Iterator[Entry]:
        """As ``Objects``. Raises as ``get``."""
        prefix = f"{self._address.prefix}{folder}/"
        token, seen, bounds = "", set[str](), ListingBounds(self.describe())
        while True:
            query = {"list-type": "2", "max-keys": "1000", "prefix": prefix}
            if token:
                query["continuation-token"] = token
            url = self._access.root + query_of(query)
            page = self._ask(Call("GET", url, limit=_LISTING_MAX)).body
            contents = elements(page, b"Contents")
            bounds.count(len(contents))
            yield from self._page(contents, f"{folder}/", prefix)
            if not _TRUNCATED.search(page):
                return
            following = _NEXT.search(page)
            token = unescaped(following[1]) if following else ""
            if not token or token in seen:
                raise self._exchange.wrong("a listing that does not go on")
            seen.add(token)

    def _page(self, contents: list[bytes], folder: str, prefix: str) -> Iterator[Entry]:
        for text in contents:
            key, size = tag_of(text, b"Key"), tag_of(text, b"Size")
            try:
                modified = datetime.fromisoformat(tag_of(text, b"LastModified")).timestamp()
            except (ValueError, OverflowError):
                raise self._exchange.wrong("a listing with no date") from None
            if not key.startswith(prefix) or not re.fullmatch(r"[0-9]{1,15}", size):
                raise self._exchange.wrong("a listing of something else")
            name = key.removeprefix(prefix)
            # A key further down is nobody's here, and "..", of all names, would lead elsewhere.
            if _NAME.fullmatch(name) and int(size) <= BLOB_MAX:
                yield Entry(folder + name, int(size), modified)

    def delete(self, key: str) -> None:
        """As ``Objects``. Raises as ``get``."""
        self._ask(Call("DELETE", self._access.base + key, allow=_ABSENT))

    def abandoned(self, before: float) -> Iterator[str]:
        """As ``Objects``. Raises as ``get``."""
        for upload in self._uploads.unfinished(f"{self._address.prefix}blobs/"):
            if upload.begun < before:
                self._uploads.abort(upload)
                yield f"upload of {upload.key.removeprefix(self._address.prefix)}"

    def blobs(self, folder: str) -> S3Blobs:
        """As ``Objects``."""
        return S3Blobs(self._address.folder(folder), transport=self._transport, pause=self._pause)

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()

    def _ask(self, call: Call) -> Answer:
        """One request in up to four attempts."""
        return self._exchange.attempt(partial(self._ask_once, call))

    def _ask_once(self, call: Call) -> Answer:
        body = None if call.body is None else bytes(call.body)
        url, signed = self._access.sign(call.method, call.url, dict(call.headers), body)
        answer = self._exchange.send(replace(call, url=url), signed)
        head = answer.body[:_HEAD]
        # S3 begins to answer before it has put parts together, so success may carry an error.
        late = call.method == "POST" and answer.status != _NOT_FOUND and b"<Error>" in head
        no_bucket = answer.status == _NOT_FOUND and _NO_BUCKET in head
        if call.answered_by(answer.status) and not late and not no_bucket:
            return answer
        raise self._refusal(call.url, answer)

    def _refusal(self, url: str, answer: Answer) -> Exception:
        found = _PROBLEM.search(answer.body[:_HEAD])
        code = found[1].decode() if found else ""
        said = f"status {answer.status} {code}".rstrip()
        if code in _MAY_PASS:
            return AgainError(said)
        what = url.removeprefix(self._access.root).partition("?")[0]
        if answer.status in _FORBIDDEN or code in _OF_CREDENTIALS:
            return self._access.refused(f"{self.describe()}: {what[:200]}", said)
        if answer.status == _NOT_FOUND:
            where = f"bucket {self._address.bucket}, {what[:200]}" if what else self.describe()
            return UnavailableError(StoreCode.BLOB_MISSING, f"{where}: {said}")
        return self._exchange.wrong(f"{what[:200]}: {said}")
