"""Members of JSON documents that should hold evidence, and what is said when they do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import ParseError
from regalia.inspect.codes import InspectCode
from regalia.inspect.known import beginning, unknown
from regalia.inspect.raw_forms import malformed
from regalia.wire.spelling import from_json_value

if TYPE_CHECKING:
    from collections.abc import Mapping


def lack(body: Mapping[str, object], name: str) -> str:
    """How a member holds nothing, for people; empty if it holds something.

    Args:
        body: decoded, untrusted.
        name: of the member.
    """
    if name not in body:
        return f"{name} is missing"
    value = body[name]
    if value is None:
        return f"{name} is null"
    return f"{name} is empty" if value in ("", [], {}) else ""


def require_member(body: Mapping[str, object], name: str, around: str = "") -> object:
    """A member that holds something. Raises ParseError EVIDENCE_INCOMPLETE.

    Args:
        body: decoded, untrusted.
        name: of the member.
        around: where the document stands, for people.
    """
    what = lack(body, name)
    if what:
        raise ParseError(InspectCode.EVIDENCE_INCOMPLETE, f"evidence: {around}{what}")
    return body[name]


def member_bytes(body: Mapping[str, object], name: str) -> bytes:
    """A member's bytes.

    Args:
        body: decoded, untrusted.
        name: of the member.

    Raises:
        ParseError: EVIDENCE_INCOMPLETE, it holds nothing; MALFORMED.
    """
    raw = from_json_value(require_member(body, name))
    if raw is None:
        raise malformed(f"{name} is neither hex, nor base64, nor a list of numbers")
    return raw


@dataclass(frozen=True, slots=True)
class Unread:
    """A document that has the members of a form, and not its content.

    Attributes:
        form: its name, for people.
        path: of the document, for people; empty for the outermost one.
        lack: how the member of the evidence holds nothing; empty if it holds something.
        seen: what is in it instead.
    """

    form: str
    path: str
    lack: str
    seen: str

    def refusal(self, beside: str) -> ParseError:
        """EVIDENCE_INCOMPLETE or FORM_UNKNOWN.

        Args:
            beside: what else was found in the document, for people.
        """
        at = f" at {self.path}" if self.path else ""
        what = f"{self.form}{at}: {self.lack or self.seen}{f'; {beside}' if beside else ''}"
        if self.lack:
            return ParseError(InspectCode.EVIDENCE_INCOMPLETE, what)
        return unknown(what)


def unread(form: str, body: Mapping[str, object], name: str, path: str) -> Unread:
    """What is wrong with the member of a document that should hold evidence.

    Args:
        form: the name of the form that the document has the members of.
        body: decoded, untrusted.
        name: of the member.
        path: of the document, for people.
    """
    raw = from_json_value(body[name])
    if raw is None:
        seen = f"{name} is neither hex, nor base64, nor a list of numbers"
    else:
        seen = f"{name} holds {len(raw)} bytes that are no evidence known here{beginning(raw)}"
    return Unread(form, path, lack(body, name), seen)
