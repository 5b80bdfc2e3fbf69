"""Uploads in parts, which a later process goes on with where a killed one ended.

S3 keeps the parts of an unfinished upload. Those whose MD5 is that of what would be sent are not
sent again: S3 names parts by it, except where a key of KMS encrypts them; those are sent again.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from regalia.core.errors import IntegrityError
from regalia.store.exchange import Call
from regalia.store.listing import ListingBounds
from regalia.store.names import StoreCode
from regalia.store.s3_words import elements, query_of, tag_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from regalia.store.content import Content
    from regalia.store.exchange import Answer
    from regalia.store.s3_access import S3Access

PART = 16 << 20  # bytes; a smaller blob is sent in one request
_PARTS_MAX = 10_000
_MIB = 1 << 20
_AT_ONCE = 4  # parts under way
_LISTING_MAX = 4 << 20
_NOT_FOUND = 404
_ABSENT = frozenset({_NOT_FOUND})
_UPLOAD_ID = re.compile(r"[!-~]{1,2048}")
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


class _GoneError(Exception):
    """Another process has finished this upload, or given it up."""


class Upload(NamedTuple):
    """An upload that was begun and not finished."""

    key: str
    upload_id: str
    begun: float  # seconds since 1970, by the server's clock


def part_size(size: int) -> int:
    """Bytes of each part but the last, for an object of this many bytes.

    It follows from the size alone, so that a later process cuts the same parts.
    """
    least = -(-size // _PARTS_MAX)
    return max(PART, -(-least // _MIB) * _MIB)


class S3Uploads:
    """Sends large objects in parts.

    Args:
        access: address and credentials.
        ask: sends requests.
    """

    def __init__(self, access: S3Access, ask: Callable[[Call], Answer]) -> None:
        self._access = access
        self._ask = ask

    def send(self, key: str, content: Content) -> None:
        """Send an object, or what an earlier upload of it lacks.

        Args:
            key: under the prefix.
            content: its bytes.

        Raises:
            IntegrityError: BLOB_CHANGED; what was sent is then given up. STORE_ANSWER_WRONG.
            UnavailableError: the server fails; what was sent stays, for a later process.
        """
        upload = self._latest(key) or self._begin(key)
        there = self._parts(upload)
        try:
            tags = self._send_parts(upload, content, there)
        except _GoneError:
            return  # the caller looks for the blob, and sends it again if it is not there
        except IntegrityError as exc:
            if exc.code is StoreCode.BLOB_CHANGED:
                self.abort(upload)
            raise
        self._finish(upload, tags)

    def unfinished(self, prefix: str) -> list[Upload]:
        """Uploads of keys with this prefix that were begun and not finished; up to 1000."""
        url = self._access.root + query_of({"uploads": "", "prefix": prefix})
        page = self._ask(Call("GET", url, limit=_LISTING_MAX)).body
        found = []
        for text in elements(page, b"Upload"):
            key, upload_id = tag_of(text, b"Key"), tag_of(text, b"UploadId")
            if not key.startswith(prefix) or not _UPLOAD_ID.fullmatch(upload_id):
                continue
            try:
                begun = datetime.fromisoformat(tag_of(text, b"Initiated")).timestamp()
            except ValueError:
                continue
            found.append(Upload(key, upload_id, begun))
        return found

    def abort(self, upload: Upload) -> None:
        """Give an upload up, and the space that its parts take."""
        self._ask(Call("DELETE", self._url(upload), allow=_ABSENT))

    def _latest(self, key: str) -> Upload | None:
        whole = self._access.address.prefix + key
        same = [upload for upload in self.unfinished(whole) if upload.key == whole]
        return max(same, key=lambda upload: upload.begun, default=None)

    def _begin(self, key: str) -> Upload:
        url = self._access.base + key + query_of({"uploads": ""})
        upload_id = tag_of(self._ask(Call("POST", url, body=b"")).body, b"UploadId")
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise self._wrong("an upload without a name")
        return Upload(self._access.address.prefix + key, upload_id, 0.0)

    def _parts(self, upload: Upload) -> dict[int, str]:
        """MD5 of the parts that are there, by number."""
        there: dict[int, str] = {}
        marker, bounds = 0, ListingBounds(self._access.address.describe())
        while marker <= _PARTS_MAX:
            url = self._url(upload, **{"part-number-marker": str(marker)})
            answer = self._ask(Call("GET", url, limit=_LISTING_MAX, allow=_ABSENT))
            listed = [] if answer.status == _NOT_FOUND else elements(answer.body, b"Part")
            bounds.count(len(listed))
            page = {}
            for text in listed:
                number, tag = tag_of(text, b"PartNumber"), _MD5.fullmatch(tag_of(text, b"ETag"))
                if re.fullmatch(r"[0-9]{1,5}", number) and tag:
                    page[int(number)] = tag[1]
            there |= page
            if max(page, default=0) <= marker or tag_of(answer.body, b"IsTruncated") != "true":
                break
            marker = max(page)
        return there

    def _send_parts(self, upload: Upload, content: Content, there: dict[int, str]) -> list[str]:
        tags: list[str] = []
        waiting: deque[Future[str]] = deque()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                for number, part in enumerate(content.parts(part_size(content.blob.size)), 1):
                    if len(waiting) >= _AT_ONCE:
                        tags.append(waiting.popleft().result())
                    waiting.append(
                        pool.submit(self._send_part, upload, number, part, there, content)
                    )
                tags += [future.result() for future in waiting]
            finally:
                pool.shutdown(cancel_futures=True)
        return tags

    def _send_part(
        self, upload: Upload, number: int, part: bytearray, there: dict[int, str], content: Content
    ) -> str:
        md5 = hashlib.md5(part, usedforsecurity=False).hexdigest()
        tag = there.get(number)
        if tag != md5:
            url = self._url(upload, partNumber=str(number))
            answer = self._ask(Call("PUT", url, body=part, allow=_ABSENT))
            if answer.status == _NOT_FOUND:
                raise _GoneError
            tag = answer.headers.get("etag", "").strip('"')
            if not re.fullmatch(r"[!#-%'-;=?-~]{1,200}", tag):
                raise self._wrong("a part without an ETag")
        content.count(len(part))
        return tag

    def _finish(self, upload: Upload, tags: list[str]) -> None:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{tag}&quot;</ETag></Part>"
            for number, tag in enumerate(tags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        # 404: another process with the same upload was first; the caller looks for the blob.
        answer = self._ask(Call("POST", self._url(upload), body=body, allow=_ABSENT))
        if answer.status != _NOT_FOUND and b"CompleteMultipartUploadResult" not in answer.body:
            raise self._wrong(f"the upload ended with {tag_of(answer.body, b'Code')[:64]!r}")

    def _url(self, upload: Upload, **more: str) -> str:
        name = upload.key.removeprefix(self._access.address.prefix)
        return self._access.base + name + query_of({"uploadId": upload.upload_id, **more})

    def _wrong(self, what: str) -> IntegrityError:
        where = self._access.address.describe()
        return IntegrityError(StoreCode.STORE_ANSWER_WRONG, f"{where}: {what}")
