"""Tells listed callers from each other by the keys that they send inside the sealed channel.

Without a list everybody may ask, and callers are told from each other by their addresses. Such an
address may be that of a relay, which stands for many, so nobody is refused for it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from regalia.runtime.codes import RequestCode
from regalia.runtime.generation import Caller
from regalia.runtime.openai.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.runtime.config import CallerSection

_SCHEME = b"bearer "


class Callers:
    """The callers that the configuration lists."""

    def __init__(self, listed: Sequence[CallerSection]) -> None:
        self._names = {bytes.fromhex(caller.key_sha256): caller.name for caller in listed}

    def find(self, authorization: Sequence[bytes], peer: str) -> Caller:
        """The caller who sent a request.

        Args:
            authorization: values of all fields of this name.
            peer: address of the connection; it stands for the caller if nobody is listed.

        Raises:
            ApiError: CALLER_UNKNOWN, callers are listed, and this is none of them.
        """
        if not self._names:
            return Caller(peer, listed=False)
        if len(authorization) == 1 and authorization[0][: len(_SCHEME)].lower() == _SCHEME:
            # Looking up a digest tells nothing about the key by the time that it takes.
            digest = hashlib.sha256(authorization[0][len(_SCHEME) :].strip()).digest()
            if (name := self._names.get(digest)) is not None:
                return Caller(name, listed=True)
        raise ApiError(RequestCode.CALLER_UNKNOWN, "The key of this request is not listed here.")
