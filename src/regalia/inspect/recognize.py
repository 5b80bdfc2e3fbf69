"""Recognizes evidence by its content, since file names and endings prove nothing.

Raw bytes, or the same spelled as text, or a document that wraps them. Nothing is verified here,
and nothing is guessed: content that fits no form is refused, and the refusal lists the forms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, ParseError
from regalia.inspect.codes import InspectCode
from regalia.inspect.json_text import JSON_STARTS, decode_json, why_no_json
from regalia.inspect.known import beginning, unknown
from regalia.inspect.no_evidence import as_text, beside_certificates, is_endorsement, named
from regalia.inspect.own_forms import OWN_MARKS
from regalia.inspect.raw_forms import RAW_FORMS, is_token, malformed
from regalia.inspect.recognize_json import recognize_json
from regalia.tees.boot.evidence.log import looks_like_event_log, parse_event_log
from regalia.tees.nitro.eif import MAGIC as EIF_MAGIC
from regalia.tees.snp.evidence.certificate_table import parse_certificate_table
from regalia.wire.spelling import (
    certificates_in,
    from_base64,
    from_hex,
    from_pem,
    plain_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.inspect.recognized import Recognized

__all__ = ["LIMIT", "InspectCode", "event_log_in", "recognize"]

LIMIT = 8 * MIB
_TEXT_START = b'"'  # of a JSON string, which may hold a document
_LAYERS_MAX = 3  # spellings around each other, e.g. base64 of hex
_RIM_START = b"<SoftwareIdentity"
_CERTIFICATE_LABELS = frozenset({"CERTIFICATE", "X509 CRL"})


def recognize(data: bytes) -> Recognized:
    """Tell what ``data`` is.

    Raises:
        ParseError: TOO_LARGE; FORM_UNKNOWN, it is no evidence that is known here;
            TOKEN_NO_EVIDENCE, ENDORSEMENTS_NO_EVIDENCE or EVIDENCE_INCOMPLETE, it is known and
            no evidence; or it begins like evidence and is malformed.
    """
    if len(data) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"evidence: {len(data)} bytes, at most {LIMIT}")
    found = _read(data, "", _LAYERS_MAX)
    if found is not None:
        return found
    _refuse_damaged(data)
    _refuse_known(data)
    what = named(data)
    if what:
        raise unknown(what)
    raise unknown(
        f"{len(data)} bytes that are no evidence known here{beginning(data)}"
        f"{_certificates_within(data)}"
    )


def event_log_in(data: bytes) -> bytes | None:
    """A TCG event log, which goes beside evidence; None if the file is something else.

    Raises:
        ParseError: it is one, and no evidence could be held against it: EVENTLOG_SHA1_ONLY, or it
            is malformed.
    """
    if not looks_like_event_log(data):
        return None
    parse_event_log(data)
    return data


def _read(data: bytes, suffix: str, layers: int) -> Recognized | None:
    """Bytes as they are, then a document, then what they spell."""
    text = plain_text(data)
    if text.startswith(JSON_STARTS):
        found = recognize_json(text)
        if found is not None:
            return found
    if text.startswith(_TEXT_START) and layers:
        inner = decode_json(text)
        if isinstance(inner, str) and inner.lstrip().startswith(("{", "[")):
            return _read(inner.encode("utf-8", "replace"), suffix, layers - 1)
    for form in RAW_FORMS:
        found = form(data, suffix)
        if found is not None:
            return found
    if not layers:
        return None
    for name, inner in _spellings(text):
        found = _read(inner, f"{suffix}, as {name}", layers - 1)
        if found is not None:
            return found
    return None


def _spellings(text: bytes) -> Iterator[tuple[str, bytes]]:
    for label, body in from_pem(text):
        if label not in _CERTIFICATE_LABELS:
            yield "PEM", body
    for name, decode in (("hex", from_hex), ("base64", from_base64)):
        inner = decode(text)
        if inner:
            yield name, inner


def _refuse_damaged(data: bytes) -> None:
    """A document that says that it is Regalia's own, and is no JSON, is said to be damaged."""
    text = plain_text(data)
    if text.startswith(JSON_STARTS) and any(mark in text for mark in OWN_MARKS):
        raise malformed(f"a document of Regalia's own that is no JSON: {why_no_json(text)}")


def _refuse_known(data: bytes) -> None:
    """What is known and is no evidence gets a refusal of its own."""
    text = plain_text(data)
    if data.startswith(EIF_MAGIC):
        raise ParseError(
            InspectCode.EVIDENCE_INCOMPLETE,
            "an enclave image (EIF), which is what evidence is compared with: see regalia measure",
        )
    if is_token(text):  # asked late: evidence of a TEE may be signed in this form
        raise ParseError(
            InspectCode.TOKEN_NO_EVIDENCE,
            "a token (JWT) that is no evidence known here: somebody else's result, it seems",
        )
    count = len(_certificates(data))
    if text.startswith(_RIM_START):
        raise ParseError(
            InspectCode.ENDORSEMENTS_NO_EVIDENCE,
            "reference values of NVIDIA's (a RIM), and no report",
        )
    if count:
        raise ParseError(
            InspectCode.ENDORSEMENTS_NO_EVIDENCE,
            f"endorsements, {count} in all: certificates or revocation lists, and no report",
        )


def _certificates(data: bytes) -> tuple[bytes, ...]:
    """Those that can be read, of a file that holds nothing else."""
    found = () if beside_certificates(data) else certificates_in(data)
    if not found:
        try:
            found = parse_certificate_table(data)
        except ParseError:
            return ()
    return found if all(map(is_endorsement, found)) else ()


def _certificates_within(data: bytes) -> str:
    """How many certificates stand within something else, for people; empty if there are none."""
    text = as_text(data)
    found = [der for _, der in from_pem(text) if is_endorsement(der)]
    if not found:
        return ""
    return (
        f"; {len(found)} certificates or revocation lists in PEM stand in it, the first at byte"
        f" {text.find(b'-----BEGIN ')}, and the rest is not known: it may be cut short, or have"
        " something before it"
    )
