"""Sends blobs to a registry: in one request, or in chunks that are asked for after a failure.

Spec: OCI distribution 1.1, "Pushing blobs".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx

from regalia.core.types import Digest
from regalia.store.attempts import AgainError
from regalia.store.exchange import Call
from regalia.store.oci_address import is_this_machine

if TYPE_CHECKING:
    from regalia.store.content import Content
    from regalia.store.exchange import Answer
    from regalia.store.oci_access import OciAccess

CHUNK = 16 << 20  # bytes of one request
_NOT_FOUND = 404
_OUT_OF_STEP = 416  # the registry has another number of bytes than this chunk begins with
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,15})")
_OCTETS = {"content-type": "application/octet-stream"}


def send_bytes(access: OciAccess, data: bytes) -> None:
    """Send a small blob, unless it is there. Raises as ``OciAccess.ask``.

    Args:
        access: repository and credentials.
        data: the blob.
    """
    digest = str(Digest.of(data))
    look = Call("HEAD", f"{access.base}blobs/{digest}", allow=frozenset({_NOT_FOUND}))
    if access.ask(look).status == _NOT_FOUND:
        access.ask(Call("PUT", _ending(_begin(access), digest), _OCTETS, data))


def send_blob(access: OciAccess, content: Content) -> None:
    """Send a blob. It is there when the registry has compared its digest, or not at all.

    Args:
        access: repository and credentials.
        content: its bytes.

    Raises:
        UnavailableError, IntegrityError: as ``OciAccess.ask``; BLOB_CHANGED.
    """
    digest, sent = str(content.blob.digest), 0
    session = _begin(access)
    for part in content.parts(CHUNK):
        if content.blob.size <= CHUNK:
            access.ask(Call("PUT", _ending(session, digest), _OCTETS, part))
        else:
            session = _send_chunk(access, session, sent, part)
        sent += len(part)
        content.count(len(part))
    if content.blob.size > CHUNK:
        access.ask(Call("PUT", _ending(session, digest), body=b""))


def _begin(access: OciAccess) -> str:
    answer = access.ask(Call("POST", f"{access.base}blobs/uploads/", body=b""))
    return _location(access, answer, access.base)


def _ending(session: str, digest: str) -> str:
    return str(httpx.URL(session).copy_merge_params({"digest": digest}))


def _location(access: OciAccess, answer: Answer, before: str) -> str:
    """Where an upload goes on: at the same registry, as credentials are sent there."""
    try:
        url = httpx.URL(before).join(answer.headers.get("location", ""))
    except httpx.InvalidURL:
        raise access.wrong("an upload without an address") from None
    own = httpx.URL(access.base)
    if url.netloc != own.netloc or not (
        url.scheme == own.scheme or is_this_machine(url.netloc.decode())
    ):
        raise access.wrong(f"an upload to {url.scheme}://{url.netloc.decode()[:100]}, not followed")
    return str(url)


def _send_chunk(access: OciAccess, session: str, offset: int, part: bytearray) -> str:
    """Send a chunk; the address that the next one goes to."""
    headers = {**_OCTETS, "content-range": f"{offset}-{offset + len(part) - 1}"}
    failed = False

    def once() -> Answer:
        nonlocal failed
        if failed:
            state = access.ask_once(Call("GET", session))
            have = _RANGE.fullmatch(state.headers.get("range", ""))
            if have and int(have[1]) + 1 == offset + len(part):
                return state  # it arrived, and only its answer was lost
        failed = True
        answer = access.ask_once(
            Call("PATCH", session, headers, part, allow=frozenset({_OUT_OF_STEP}))
        )
        if answer.status == _OUT_OF_STEP:
            raise AgainError("the registry counts other bytes than were sent")
        return answer

    return _location(access, access.attempt(once), session)
