"""Searches a JSON document for evidence: the table's forms first, and then whatever it holds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, ParseError
from regalia.inspect.codes import InspectCode
from regalia.inspect.json_forms import JSON_FORMS, devices_of, with_certificates
from regalia.inspect.known import unknown
from regalia.inspect.raw_forms import RAW_FORMS, is_token, malformed
from regalia.tees.nvidia.evidence.nvtrust import is_device
from regalia.wire.evidence import DEVICES_MAX, Tee
from regalia.wire.spelling import certificates_in, from_numbers, from_text, plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.inspect.recognized import Recognized

LIMIT = 4 * MIB
DEPTH_MAX = 12  # levels of objects, lists, and documents written into text
_TEXT_MIN = 32  # characters; what is shorter is no evidence
_JSON_STARTS = (b"{", b"[")
_SHOWN = 8  # members in a message


@dataclass(slots=True)
class _Search:
    """What a document holds, in its order. Raw and untrusted."""

    found: list[Recognized] = field(default_factory=list)
    certificates: list[bytes] = field(default_factory=list)
    tokens: int = 0

    def look(self, value: object, where: str, depth: int) -> None:
        """Search one value. Raises ParseError where a form is known and its content is not right.

        Args:
            value: raw, untrusted.
            where: forms around it, for people.
            depth: levels above it.
        """
        if depth > DEPTH_MAX:
            raise ParseError(CoreCode.TOO_LARGE, f"evidence: JSON of more than {DEPTH_MAX} levels")
        if isinstance(value, dict):
            self._object(value, where, depth)
        elif isinstance(value, list):
            self._list(value, where, depth)
        elif isinstance(value, str) and len(value) >= _TEXT_MIN:
            self._text(value, where, depth)

    def _object(self, body: Mapping[str, object], where: str, depth: int) -> None:
        for form in JSON_FORMS:
            found = form.read(body) if form.fits(body) else None
            if found is None:
                continue
            self.found.append(_named(found, form.name, where))
            self._beside(found, body, form.members, depth)
            return
        for each in body.values():
            self.look(each, where, depth + 1)

    def _beside(
        self, found: Recognized, body: Mapping[str, object], read: frozenset[str], depth: int
    ) -> None:
        """Other members of a document whose form is known: devices beside a CPU, or the reverse.

        A form takes from its document what belongs to it, also what could stand alone.
        """
        rest = _Search()
        for name, value in body.items():
            if name not in read:
                rest.look(value, "", depth + 1)
        self.certificates += rest.certificates
        self.found += [
            each for each in rest.found if each.devices or (each.evidence and found.devices)
        ]

    def _list(self, values: list[object], where: str, depth: int) -> None:
        raw = from_numbers(values)
        if raw is not None:
            self._bytes(raw, where)
        elif values and all(map(is_device, values)):
            self.found.append(devices_of(values, ""))
        else:
            for each in values:
                self.look(each, where, depth + 1)

    def _text(self, value: str, where: str, depth: int) -> None:
        text = plain_text(value.encode("utf-8", "replace"))
        self.tokens += is_token(text)
        raw = text if text.startswith(_JSON_STARTS) else from_text(text)
        if raw is not None and raw.lstrip().startswith(_JSON_STARTS):
            inner = _decoded(raw)
            if inner is not None:
                self.look(inner, where, depth + 1)
                return
        if raw is None or not self._bytes(raw, where):
            self.certificates += certificates_in(text)

    def _bytes(self, raw: bytes, where: str) -> bool:
        for form in RAW_FORMS:
            found = form(raw, "")
            if found is not None:
                self.found.append(_named(found, "", where))
                return True
        return False

    def result(self) -> Recognized | None:
        """One machine's evidence, its devices with it; None if there is no evidence at all."""
        whole = [each for each in self.found if each.evidence is not None]
        devices = tuple(device for each in self.found for device in each.devices)
        named = f"{len(devices)} NVIDIA device{'' if len(devices) == 1 else 's'}"
        if len(whole) > 1:
            raise malformed(
                f"{len(whole)} machines' evidence in one document: "
                f"{', '.join(each.form for each in whole[:4])}; give each its own file"
            )
        if len(devices) > DEVICES_MAX:
            raise ParseError(CoreCode.TOO_LARGE, f"evidence: {len(devices)} devices")
        if not whole:
            first = next(iter(self.found), None)
            if first is None or not devices or devices == first.devices:
                return first
            return replace(first, form=f"NVIDIA evidence of {named}", devices=devices)
        (found,) = whole
        evidence = found.evidence
        if evidence is not None and devices:
            form = f"{found.form}, with {named}"
            found = replace(found, form=form, evidence=replace(evidence, devices=devices))
        if evidence is not None and evidence.tee in (Tee.SEV_SNP, Tee.AZURE_SNP):
            found = with_certificates(found, tuple(self.certificates))
        return found


def recognize_json(data: bytes) -> Recognized | None:
    """Tell what evidence a JSON document wraps.

    Args:
        data: raw, untrusted.

    Returns:
        None if it is no JSON.

    Raises:
        ParseError: TOO_LARGE; FORM_UNKNOWN, it wraps no evidence that is known here; or its form
            is known, and its content is not right.
    """
    if len(data) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"evidence: {len(data)} bytes of JSON")
    body = _decoded(data)
    if body is None:
        return None
    search = _Search()
    search.look(body, "", 0)
    found = search.result()
    if found is not None:
        return found
    if search.certificates:
        raise ParseError(
            InspectCode.ENDORSEMENTS_NO_EVIDENCE,
            f"a JSON document of {len(search.certificates)} certificates, and no report",
        )
    if search.tokens:
        raise ParseError(
            InspectCode.TOKEN_NO_EVIDENCE,
            f"a JSON document of tokens (JWT), {search.tokens} in all: somebody else's results",
        )
    shown = ", ".join(sorted(ascii(str(name)[:40])[1:-1] for name in body)[:_SHOWN])
    what = f"its members: {shown}" if isinstance(body, dict) else f"a list of {len(body)}"
    raise unknown(f"a JSON document that wraps no evidence known here; {what}")


def _decoded(data: bytes) -> dict[str, object] | list[object] | None:
    try:
        body = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return body if isinstance(body, dict | list) else None


def _named(found: Recognized, form: str, where: str) -> Recognized:
    around = [name for name in (form, where) if name]
    return replace(found, form=", in ".join((found.form, *around)))
