"""Files that are given with ``--endorsement``: what is none is named, with what is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from regalia.core.errors import ParseError
from regalia.inspect.no_evidence import named
from regalia.verifier.collateral import parse_collateral
from regalia.verifier.collateral.blocks import KNOWN_FORMS
from regalia.verifier.registry import VENDORS
from regalia.wire.deny_list import FORMAT as DENY_LIST_FORMAT
from regalia.wire.evidence_codes import EvidenceCode
from regalia.wire.spelling import certificates_in_json, plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.verifier.collateral import CollateralSet

ENDORSEMENT_FORMS = f"{KNOWN_FORMS}; NVIDIA's reference values (RIM)"
_FORMATS = frozenset({DENY_LIST_FORMAT, *(name for each in VENDORS for name in each.formats)})
_INTELS = frozenset({"tcbInfo", "enclaveIdentity", "tcb_info"})
_SHOWN = 6  # members in a message


def read_collateral(files: Mapping[str, bytes]) -> CollateralSet:
    """Loose files as collateral.

    Args:
        files: contents by path; raw, untrusted.

    Raises:
        ParseError: FORM_UNKNOWN, a file is no endorsement; its content is not right.
    """
    for path, data in files.items():
        what = named(data) or _other_document(plain_text(data))
        if what:
            raise _unknown(f"{path}: {what}")
    try:
        return parse_collateral(files)
    except ParseError as exc:
        if exc.code is not EvidenceCode.FORM_UNKNOWN:
            raise
        raise _unknown(exc.what.partition(". Known are:")[0]) from exc


def _other_document(text: bytes) -> str:
    """What a JSON document is that is neither a vendor's nor ours; empty for any other file."""
    if not text.startswith(b"{"):
        return ""
    try:
        body = msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ""
    name = body.get("format")
    if isinstance(name, str) and name:
        known = name in _FORMATS
        return "" if known else f"a document of the format {name[:80]!a}, no endorsement"
    if _INTELS.intersection(body) or certificates_in_json(body):
        return ""
    members = ", ".join(ascii(each[:40])[1:-1] for each in sorted(body)[:_SHOWN]) or "none"
    return f"a JSON document with no endorsement in it; its members: {members}"


def _unknown(what: str) -> ParseError:
    return ParseError(EvidenceCode.FORM_UNKNOWN, f"{what}. Known are: {ENDORSEMENT_FORMS}")
