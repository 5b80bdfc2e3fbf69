"""Regalia's own documents are read however they are spaced, and nothing in them is dropped."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from regalia.core.types import KeyFingerprint, ModelId
from regalia.inspect.recognize import recognize
from regalia.wire.serving import HPKE_KEY_SIZE, ServingEvidence
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.wire.evidence import Evidence
    from tests.inspect.machines import Machines

SPACINGS: dict[str, Callable[[bytes], bytes]] = {
    "canonical": lambda data: data,
    "newline": lambda data: data + b"\n",
    "CRLF": lambda data: data + b"\r\n",
    "json.dumps": lambda data: json.dumps(json.loads(data)).encode(),
    "json.tool": lambda data: json.dumps(json.loads(data), indent=4).encode() + b"\n",
    "another order": lambda data: json.dumps(dict(reversed(json.loads(data).items()))).encode(),
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "leading space": lambda data: b"  \n" + data,
    "data": lambda data: b'{"data": ' + data + b"}",
    "in a text": lambda data: json.dumps({"evidence": data.decode()}).encode(),
    "a JSON string": lambda data: json.dumps(data.decode()).encode(),
    "base64": base64.encodebytes,
}


def whole(m: Machines) -> Evidence:
    """Evidence with every member filled, which a fall-back would drop."""
    return replace(m.snp, event_log=m.ccel, devices=m.devices)


def serving(m: Machines) -> ServingEvidence:
    return ServingEvidence(
        evidence=whole(m),
        hpke_public_key=bytes(HPKE_KEY_SIZE),
        wrap_public_key=b"key",
        model_id=ModelId(bytes(ModelId.SIZE)),
        model_version=1,
        release=None,
        recipient=KeyFingerprint(bytes(KeyFingerprint.SIZE)),
    )


@pytest.mark.parametrize("spacing", SPACINGS)
def test_an_envelope_is_read_whole(machines: Machines, spacing: str) -> None:
    evidence = whole(machines)
    found = recognize(SPACINGS[spacing](evidence.encode()))
    assert found.evidence == evidence
    assert found.evidence is not None
    assert found.evidence.runtime_config
    assert found.evidence.digest() == evidence.digest()
    assert found.form == "Regalia evidence"


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_serving_answer_keeps_its_binding(machines: Machines, spacing: str) -> None:
    answer = serving(machines)
    found = recognize(SPACINGS[spacing](answer.encode()))
    assert found.serving == answer
    assert found.evidence == answer.evidence


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", ["evidence", "serving-evidence"])
@pytest.mark.parametrize("version", ["v1", "v3", "v999999", "v0", "beta", ""])
def test_a_version_that_is_not_known(
    machines: Machines, spacing: str, kind: str, version: str
) -> None:
    data = (whole(machines) if kind == "evidence" else serving(machines)).encode()
    body = json.loads(data) | {"format": f"regalia/{kind}/{version}"}
    text = json.dumps(body, separators=(",", ":"), sort_keys=True).encode()
    refused("UNSUPPORTED_VERSION", recognize, data=SPACINGS[spacing](text))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("change", [{"more": 1}, {"report": 7}, {"devices": None}])
def test_an_envelope_that_is_not_whole_is_not_searched(
    machines: Machines, spacing: str, change: dict[str, Any]
) -> None:
    body = json.loads(machines.snp.encode()) | change
    text = json.dumps(body, separators=(",", ":"), sort_keys=True).encode()
    refused("MALFORMED", recognize, data=SPACINGS[spacing](text))


def test_an_envelope_that_ends_early(machines: Machines) -> None:
    said = refused("MALFORMED", recognize, data=machines.snp.encode()[:-1])
    assert "ends too early" in said


def test_other_evidence_beside_ones_own(machines: Machines) -> None:
    own = json.loads(whole(machines).encode())
    gpu = {
        "evidence": base64.b64encode(machines.devices[0].report).decode(),
        "certificate": base64.b64encode(machines.devices[0].endorsements[0]).decode(),
    }
    for beside in ({"own": own, "gpu": gpu}, {"quote": machines.tdx.report.hex(), "own": own}):
        refused("EVIDENCE_OF_SEVERAL", recognize, data=json.dumps(beside).encode())


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("regalia/sealed-model/v1", "FORM_UNKNOWN"),
        ("regalia/client-policy/v1", "FORM_UNKNOWN"),
        ("regalia/evidences/v1", "FORM_UNKNOWN"),
        ("regalia/rim/v1", "ENDORSEMENTS_NO_EVIDENCE"),
        ("regalia/key-denials/v1", "ENDORSEMENTS_NO_EVIDENCE"),
    ],
)
def test_other_documents_of_ones_own(machines: Machines, name: str, code: str) -> None:
    """Not even if there is a report in it: a sealed model's manifest has certificates in it."""
    data = json.dumps({"format": name, "quote": machines.snp.report.hex()}).encode()
    assert name in refused(code, recognize, data=data)
