"""Searches a JSON document for evidence: the table's forms first, and then whatever it holds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, ParseError
from regalia.inspect.codes import InspectCode
from regalia.inspect.json_forms import JSON_FORMS, VTPM_NAMES, devices_of, with_certificates
from regalia.inspect.json_text import JSON_STARTS, decode_json
from regalia.inspect.known import unknown
from regalia.inspect.members import lack
from regalia.inspect.no_evidence import beside_certificates, is_endorsement, refusal_in
from regalia.inspect.own_forms import SERVING_MARK, own_form
from regalia.inspect.raw_forms import RAW_FORMS, is_token
from regalia.tees.nvidia.evidence.nvtrust import is_device
from regalia.wire.evidence import DEVICES_MAX, Tee
from regalia.wire.serving import LIMIT as SERVING_LIMIT
from regalia.wire.spelling import certificates_in, from_numbers, from_text, plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.inspect.members import Unread
    from regalia.inspect.recognized import Recognized

LIMIT = 4 * MIB
DEPTH_MAX = 12  # levels of objects, lists, and documents written into text
_TEXT_MIN = 32  # characters; what is shorter is no evidence
_SHOWN = 8  # members in a message
_PLACES = 4  # of certificates in a message
_GUESTS = frozenset({Tee.AZURE_SNP, Tee.AZURE_TDX})
_NAME_SHOWN = 40  # characters


@dataclass(slots=True)
class _Search:
    """What a document holds, in its order. Raw and untrusted.

    Attributes:
        unread: what is wrong with the members of forms that are known, in words.
        places: where certificates stand.
        others: how many texts and lists of numbers were nothing that is known here.
        parts: names of parts of an Azure guest's evidence that no form has read.
    """

    found: list[Recognized] = field(default_factory=list)
    certificates: list[bytes] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    tokens: int = 0
    others: int = 0
    parts: set[str] = field(default_factory=set)

    def look(self, value: object, path: str, depth: int) -> None:
        """Search one value. Raises ParseError where a form is known and its content is not right.

        Args:
            value: raw, untrusted.
            path: the names of the members around it, for people.
            depth: levels above it.
        """
        if depth > DEPTH_MAX:
            raise ParseError(CoreCode.TOO_LARGE, f"evidence: JSON of more than {DEPTH_MAX} levels")
        if isinstance(value, dict):
            self._object(value, path, depth)
        elif isinstance(value, list):
            self._list(value, path, depth)
        elif isinstance(value, str) and len(value) >= _TEXT_MIN:
            self._text(value, path, depth)

    def _object(self, body: Mapping[str, object], path: str, depth: int) -> None:
        own = own_form(body)
        if own is not None:
            self.found.append(own)
            return
        for form in JSON_FORMS:
            if not form.fits(body):
                continue
            found = form.read(body)
            if found is None:
                self.unread.append(form.unread(body, path))
                continue
            self.found.append(_named(found, form.name))
            self.parts.update(_azure_parts(body, form.members))
            self._beside(found, body, form.members, depth)
            return
        self.parts.update(_azure_parts(body, frozenset()))
        for name, each in body.items():
            self.look(each, _below(path, name), depth + 1)

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
        self.parts |= rest.parts
        guests = [each for each in rest.found if each.evidence and each.evidence.tee in _GUESTS]
        self.parts.update(each.form for each in guests)
        self.found += [
            each
            for each in rest.found
            if each.own or each.devices or (each.evidence and found.devices)
        ]

    def _list(self, values: list[object], path: str, depth: int) -> None:
        raw = from_numbers(values)
        if raw is not None:
            self.others += not self._bytes(raw)
        elif values and all(map(is_device, values)):
            self.found.append(devices_of(values, "", path))
        else:
            for index, each in enumerate(values):
                self.look(each, f"{path}[{index}]", depth + 1)

    def _text(self, value: str, path: str, depth: int) -> None:
        text = plain_text(value.encode("utf-8", "replace"))
        raw = text if text.startswith(JSON_STARTS) else from_text(text)
        if raw is not None and raw.lstrip().startswith(JSON_STARTS):
            inner = decode_json(raw)
            if isinstance(inner, dict | list):
                self.look(inner, path, depth + 1)
                return
        if raw is not None and self._bytes(raw):
            return
        certificates = certificates_in(text)
        self.certificates += certificates
        readable = bool(certificates) and all(map(is_endorsement, certificates))
        if readable:
            self.places.append(path)
        if is_token(text):
            self.tokens += 1
        elif not readable or beside_certificates(text):
            self.others += 1

    def _bytes(self, raw: bytes) -> bool:
        for form in RAW_FORMS:
            found = form(raw, "")
            if found is not None:
                self.found.append(found)
                return True
        return False

    def result(self) -> Recognized | None:
        """One machine's evidence, its devices with it; None if there is no evidence at all."""
        whole = [each for each in self.found if each.evidence is not None]
        devices = tuple(device for each in self.found for device in each.devices)
        named = f"{len(devices)} NVIDIA device{'' if len(devices) == 1 else 's'}"
        if len(whole) > 1:
            raise ParseError(
                InspectCode.EVIDENCE_OF_SEVERAL,
                f"{len(whole)} machines' evidence in one document: "
                f"{', '.join(each.form for each in whole[:4])}",
            )
        if len(devices) > DEVICES_MAX:
            raise ParseError(CoreCode.TOO_LARGE, f"evidence: {len(devices)} devices")
        if not whole:
            first = next(iter(self.found), None)
            if first is None or not devices or devices == first.devices:
                return first
            return replace(first, form=f"NVIDIA evidence of {named}", devices=devices)
        (found,) = whole
        self._require_whole_guest(found)
        if found.own:
            return self._own(found)
        evidence = found.evidence
        if evidence is not None and devices:
            form = f"{found.form}, with {named}"
            found = replace(found, form=form, evidence=replace(evidence, devices=devices))
        if evidence is not None and evidence.tee in (Tee.SEV_SNP, Tee.AZURE_SNP):
            found = with_certificates(found, tuple(self.certificates))
        return found

    def _require_whole_guest(self, found: Recognized) -> None:
        """A quote of a TD, or a report, does not show that a vTPM beside it is this guest's."""
        alone = found.evidence is not None and found.evidence.tee in (Tee.TDX, Tee.SEV_SNP)
        if self.parts and alone:
            raise ParseError(
                InspectCode.EVIDENCE_INCOMPLETE,
                f"{found.form} beside parts of an Azure guest's evidence, which do not stand"
                f" together: {', '.join(sorted(self.parts))}",
            )

    def _own(self, found: Recognized) -> Recognized:
        """Regalia's own names its devices, which the report binds: others cannot be joined."""
        if len(self.found) > 1:
            raise ParseError(
                InspectCode.EVIDENCE_OF_SEVERAL,
                f"{found.form} and other evidence beside it in one document",
            )
        return found

    def refusal(self, body: object) -> ParseError:
        """Why there is no evidence in the document."""
        stand = f"certificates stand at {', '.join(self.places[:_PLACES])}" if self.places else ""
        wrong = next(iter(self.unread), None)
        if wrong is not None and wrong.lack:
            return wrong.refusal(stand)
        code = refusal_in(body) if isinstance(body, dict) else ""
        if code:
            return unknown(f"a saved refusal ({code}): the service that was asked gave no evidence")
        if self.certificates and wrong is None and not self.others and not self.tokens:
            return ParseError(
                InspectCode.ENDORSEMENTS_NO_EVIDENCE,
                f"a JSON document of {len(self.certificates)} certificates, and no report",
            )
        if self.tokens:
            return ParseError(
                InspectCode.TOKEN_NO_EVIDENCE,
                f"a JSON document of tokens (JWT), {self.tokens} in all: somebody else's results",
            )
        if wrong is not None:
            return wrong.refusal(stand)
        if isinstance(body, dict):
            shown = ", ".join(sorted(_tame(name) for name in body)[:_SHOWN])
            what = f"its members: {shown}"
        else:
            what = f"a list of {len(body)}" if isinstance(body, list) else ""
        return unknown(
            f"a JSON document that wraps no evidence known here; {what}"
            f"{f'; {stand}, and the rest is not known' if stand else ''}"
        )


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
    if len(data) > (SERVING_LIMIT if SERVING_MARK in data else LIMIT):
        raise ParseError(CoreCode.TOO_LARGE, f"evidence: {len(data)} bytes of JSON")
    body = decode_json(data)
    if not isinstance(body, dict | list):
        return None
    search = _Search()
    search.look(body, "", 0)
    found = search.result()
    if found is None:
        raise search.refusal(body)
    return found


def _azure_parts(body: Mapping[str, object], read: frozenset[str]) -> set[str]:
    """Members that hold a part of an Azure guest's evidence and were not read."""
    return {name for name in VTPM_NAMES.difference(read) if name in body and not lack(body, name)}


def _tame(name: object) -> str:
    """A member's name as it can be shown."""
    return ascii(str(name)[:_NAME_SHOWN])[1:-1]


def _below(path: str, name: object) -> str:
    return f"{path}.{_tame(name)}" if path else _tame(name)


def _named(found: Recognized, form: str) -> Recognized:
    return replace(found, form=f"{found.form}, in {form}")
