"""Sorts an operator's loose files by what they hold. No I/O: bytes in, items out.

Nothing is trusted by being there. But everything must parse, so that a broken file is found at
the start and not at the first appraisal.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeVar

import msgspec

from regalia.core.errors import CoreCode, ParseError
from regalia.verifier.collateral.blocks import CRL, read_blocks
from regalia.verifier.collateral.collection import collect
from regalia.verifier.collateral.items import parse_item
from regalia.verifier.registry import VENDORS
from regalia.wire.collateral import ENTRY_MAX, NAME_MAX, CollateralKind
from regalia.wire.deny_list import FORMAT as DENY_LIST_FORMAT
from regalia.wire.spelling import certificates_in_json, is_pem, plain_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from regalia.appraisal.collateral import Item
    from regalia.verifier.collateral.collection import CollateralSet

T = TypeVar("T")

COLLATERAL_ENDINGS = (".der", ".pem", ".crt", ".cer", ".crl", ".json")
COLLATERAL_FILES_MAX = 1024
COLLATERAL_FILE_MAX = ENTRY_MAX  # bytes

# Lines of an HTTP answer before its body: a status, and names with colons behind them.
_HEADER_LINES = re.compile(
    rb"(?:HTTP/[0-9.]+ [^\n]*\n)?(?:[A-Za-z][A-Za-z0-9-]*: [^\n]*(?:\n|\Z))+"
)
_INTELS = frozenset({"tcbInfo", "enclaveIdentity", "tcb_info"})

# What a certificate is trusted for, if its file's name says so.
_PREFIXES = {prefix: kind for vendor in VENDORS for prefix, kind in vendor.files.items()}

_FORMATS = dict(
    sorted(
        {
            DENY_LIST_FORMAT: CollateralKind.DENY_LIST,
            **{name: kind for vendor in VENDORS for name, kind in vendor.formats.items()},
        }.items()
    )
)


class _Document(msgspec.Struct, frozen=True):
    """A document of ours says what it is."""

    format: str = ""


def parse_collateral(files: Mapping[str, bytes]) -> CollateralSet:
    """``sort_files``, and put in place by kind. Raises ParseError."""
    return collect(sort_files(files))


def sort_files(files: Mapping[str, bytes]) -> tuple[Item, ...]:
    """What the files hold, each content once, in the order in which it comes.

    Args:
        files: contents by path; raw, untrusted. Certificates and CRLs in any form that
            ``read_blocks`` knows, or in the JSON of a cloud's service; Intel's TCB info and QE
            identity as its service sends them, its header with them or not, or a dcap-qvl
            collateral file; documents of ours in canonical JSON.

    Raises:
        ParseError: a file holds none of these, or something else as well.
    """
    found: dict[tuple[CollateralKind, bytes], Item] = {}
    for path, data in files.items():
        if len(data) > COLLATERAL_FILE_MAX:
            raise ParseError(
                CoreCode.TOO_LARGE, f"{path}: {len(data)} bytes, at most {COLLATERAL_FILE_MAX}"
            )
        for kind, content in _contents(data, path):
            of = _root_kind(path) if kind is CollateralKind.CERTIFICATE else kind
            if (of, content) not in found:
                item = parse_item(of, content, what=path)
                found[of, content] = replace(item, source=_source(path))
    return tuple(found.values())


def _root_kind(path: str) -> CollateralKind:
    name = PurePath(path).name
    kinds = (kind for prefix, kind in _PREFIXES.items() if name.startswith(prefix))
    return next(kinds, CollateralKind.CERTIFICATE)


def _source(path: str) -> str:
    """The file's name, as far as a bundle can say it."""
    return "".join(c if "!" <= c <= "~" else "_" for c in PurePath(path).name)[:NAME_MAX]


def _contents(data: bytes, path: str) -> Iterator[tuple[CollateralKind, bytes]]:
    text = plain_text(data)
    headers, body = _answer(text)
    if headers:  # as a tool keeps a service's answer, the issuer's chain in a header
        yield from _blocks(headers, path)
        if body:
            yield from _contents(body, path)
        return
    if not text.startswith(b"{"):
        yield from _blocks(data, path)
        return
    body = text
    kind = _kind_of_document(body, path)
    if kind is not None:
        yield kind, body  # an editor's last newline is no part of a document
        return
    certificates = _of_a_cloud(body, path)
    if certificates:
        for der in certificates:
            yield from _blocks(der, path)
        return
    for vendor in VENDORS:
        if vendor.read_json is not None:
            yield from vendor.read_json(body, path)


def _blocks(data: bytes, path: str) -> Iterator[tuple[CollateralKind, bytes]]:
    for label, der in read_blocks(data, what=path):
        yield CollateralKind.CRL if label == CRL else CollateralKind.CERTIFICATE, der


def _answer(text: bytes) -> tuple[bytes, bytes]:
    """The lines of a header with a chain in them, and what follows; two empty texts otherwise."""
    found = _HEADER_LINES.match(text)
    if found is None or not is_pem(found[0]):
        return b"", b""
    return found[0], text[found.end() :].strip()


def _of_a_cloud(body: bytes, path: str) -> tuple[bytes, ...]:
    """Certificates of a JSON document that is neither ours nor Intel's: Azure's THIM, and alike."""
    document = _decoded(body, dict[str, object], path)
    if _INTELS.intersection(document):
        return ()
    return certificates_in_json(document)


def _kind_of_document(body: bytes, path: str) -> CollateralKind | None:
    """A document of ours by its format; None for one that names none, as Intel's do."""
    name = _decoded(body, _Document, path).format
    if name and name not in _FORMATS:
        raise ParseError(
            CoreCode.MALFORMED,
            f"{path}: format {name[:80]!r} is no collateral; known are Intel's documents and "
            f"{', '.join(_FORMATS)}",
        )
    return _FORMATS.get(name)


def _decoded(body: bytes, kind: type[T], path: str) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"{path}: {exc}") from exc
