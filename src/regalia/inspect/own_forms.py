"""Documents of Regalia's own, told by the member ``format``, however they are spaced.

Their parsers take the canonical form alone. A file that a person has saved, printed or sent may
have white space in it, which means nothing, so it is written anew before it is parsed. What says
that it is Regalia's own is never searched for something else: that would drop what it binds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regalia.core.codec import canonical_json
from regalia.core.errors import ParseError
from regalia.inspect.codes import InspectCode
from regalia.inspect.known import unknown
from regalia.inspect.recognized import Recognized
from regalia.wire.evidence import FORMAT as EVIDENCE_FORMAT
from regalia.wire.evidence import parse_evidence
from regalia.wire.evidence_codes import EvidenceCode, unsupported_version
from regalia.wire.serving import FORMAT as SERVING_FORMAT
from regalia.wire.serving import parse_serving_evidence

if TYPE_CHECKING:
    from collections.abc import Mapping

# The names without their version: "regalia" and what the document is.
_EVIDENCE = (EVIDENCE_FORMAT.rpartition("/")[0], SERVING_FORMAT.rpartition("/")[0])
_OURS = EVIDENCE_FORMAT.partition("/")[0] + "/"
SERVING_MARK = f"{_EVIDENCE[1]}/".encode()
OWN_MARKS = (f"{_EVIDENCE[0]}/".encode(), SERVING_MARK)
_VERSIONED = re.compile(r"(.+)/v([1-9][0-9]{0,5})")
# Of documents that go beside evidence, with --endorsement or in a bundle.
_BESIDE = ("rim", "key-denials", "deny-list", "tpm-enrolment", "collateral-bundle")
_SHOWN = 80  # characters


def own_form(body: Mapping[str, object]) -> Recognized | None:
    """Regalia's own evidence; None for a document that does not say that it is Regalia's.

    Args:
        body: decoded, untrusted.

    Raises:
        ParseError: UNSUPPORTED_VERSION; MALFORMED, it is not what its format says; FORM_UNKNOWN or
            ENDORSEMENTS_NO_EVIDENCE, another document of Regalia's.
    """
    name = body.get("format")
    if not isinstance(name, str) or not name.startswith(_OURS):
        return None
    if name == EVIDENCE_FORMAT:
        evidence = parse_evidence(canonical_json(body))
        return Recognized(form="Regalia evidence", evidence=evidence, own=True)
    if name == SERVING_FORMAT:
        serving = parse_serving_evidence(canonical_json(body))
        return Recognized(
            form="a runtime's answer to a challenge",
            evidence=serving.evidence,
            serving=serving,
            own=True,
        )
    raise _other(name)


def _other(name: str) -> ParseError:
    """The refusal of another version, or of another document."""
    shown = ascii(name[:_SHOWN])[1:-1]
    kind = next((kind for kind in _EVIDENCE if name == kind or name.startswith(f"{kind}/")), "")
    if kind:
        found = _VERSIONED.fullmatch(name)
        current = EVIDENCE_FORMAT if kind == _EVIDENCE[0] else SERVING_FORMAT
        if found is not None and found[1] == kind:
            known = int(current.rpartition("/v")[2])
            return unsupported_version(f"{kind}: version", int(found[2]), (known,))
        return ParseError(
            EvidenceCode.UNSUPPORTED_VERSION, f"format {shown}; the one known here is {current}"
        )
    if name.removeprefix(_OURS).partition("/")[0] in _BESIDE:
        return ParseError(
            InspectCode.ENDORSEMENTS_NO_EVIDENCE,
            f"a document of Regalia's own, {shown}: it goes beside evidence",
        )
    return unknown(f"a document of Regalia's own, {shown}, which is no evidence")
