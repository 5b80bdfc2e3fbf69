"""How a configuration names a place in S3, without any credentials.

s3://BUCKET/PREFIX is a folder with the files of one sealed model. With a version's name or digest
behind it, s3://BUCKET/PREFIX:TAG, it is a store of several versions, as ``regalia push`` makes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl, urlsplit

from regalia.core.errors import CoreCode, UsageError
from regalia.store.reference import split_reference

if TYPE_CHECKING:
    from urllib.parse import SplitResult

SCHEME = "s3://"
# General-purpose buckets: their names may be a part of a host's name, or of a path.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# Directory buckets want sessions of their own, and are named so.
_DIRECTORY_BUCKET = "--x-s3"
# What S3 calls safe in keys, and "=". A "%" would be read as an escape by some tools only.
_FOLDER = re.compile(r"[A-Za-z0-9!_.*'()=-]+")
_PREFIX_MAX = 900  # bytes; keys have at most 1024
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_ADDRESSING = frozenset({"auto", "path", "virtual"})
_FORM = (
    "want s3://BUCKET/PREFIX[:VERSION], and after a ? only endpoint=URL, region=NAME,"
    " addressing=path"
)


@dataclass(frozen=True, slots=True)
class S3Address:
    """A folder in a bucket, and what the SDK's configuration does not say.

    The texts that are refused are not repeated in messages: they may hold credentials.
    """

    bucket: str
    prefix: str  # empty, or with "/" at its end
    endpoint: str | None = None
    region: str | None = None
    addressing: str | None = None
    reference: str | None = None  # of a version, in a store of several

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse s3://BUCKET/PREFIX[:TAG|@DIGEST][?endpoint=URL][&region=NAME][&addressing=STYLE].

        STYLE is auto, path or virtual.

        Raises:
            UsageError: BAD_CONFIG.
        """
        parts = _split(text)
        if parts.scheme != "s3" or parts.fragment or "#" in text:
            raise _bad(_FORM)
        if "@" in parts.netloc:
            raise _bad("no credentials belong in it, the SDK finds them in its usual places")
        options = _options(parts.query)
        endpoint = options.get("endpoint")
        if endpoint is not None:
            check_endpoint(endpoint)
        if not _REGION.fullmatch(options.get("region", "a")):
            raise _bad("its region is no region's name")
        if options.get("addressing", "auto") not in _ADDRESSING:
            raise _bad(
                f"addressing is one of {', '.join(sorted(_ADDRESSING))};"
                " a version's name stands before the question mark"
            )
        try:
            path, reference = split_reference(parts.path)
        except ValueError as exc:
            raise _bad(str(exc)) from None
        return cls(
            bucket=_bucket(parts.netloc), prefix=_prefix(path), reference=reference, **options
        )

    def folder(self, name: str) -> S3Address:
        """A folder under the prefix, with the same options and no version."""
        return replace(self, prefix=f"{self.prefix}{name}/", reference=None)

    def describe(self) -> str:
        """Bucket and prefix."""
        return f"{SCHEME}{self.bucket}/{self.prefix}"


def check_endpoint(text: str) -> None:
    """Refuse an endpoint that is no plain http(s) address, or that holds credentials.

    Raises:
        UsageError: BAD_CONFIG.
    """
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _bad("its endpoint is no http or https URL")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise _bad("its endpoint must hold no credentials, query or fragment")


def _split(text: str) -> SplitResult:
    # urlsplit drops some control characters without a word.
    if not text.isascii() or not text.isprintable() or " " in text:
        raise _bad("its characters are not those of a URL")
    try:
        parts = urlsplit(text)
        _ = parts.port  # read now, as it raises if it is no number
    except ValueError:
        raise _bad("it is no URL") from None
    return parts


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, strict_parsing=True, keep_blank_values=True) if query else []
    except ValueError:
        raise _bad(_FORM) from None
    options = dict(pairs)
    if len(options) != len(pairs) or not options.keys() <= {"endpoint", "region", "addressing"}:
        raise _bad(f"{_FORM}; credentials come from the SDK's usual places")
    return options


def _bucket(name: str) -> str:
    if not _BUCKET.fullmatch(name) or ".." in name:
        raise _bad("its bucket has no valid name")
    if name.endswith(_DIRECTORY_BUCKET):
        raise _bad("directory buckets (S3 Express) are not supported")
    return name


def _prefix(path: str) -> str:
    if path in ("", "/"):
        return ""
    prefix = path.removeprefix("/").removesuffix("/")
    folders = prefix.split("/")
    if not all(_FOLDER.fullmatch(each) and each not in (".", "..") for each in folders):
        raise _bad("a prefix consists of folders of letters, digits and !_.*'()=-")
    if len(prefix) > _PREFIX_MAX:
        raise _bad(f"its prefix is longer than {_PREFIX_MAX} bytes")
    return prefix + "/"


def _bad(what: str) -> UsageError:
    return UsageError(CoreCode.BAD_CONFIG, f"store s3://…: {what}")
