"""Evidence is told by its content: a document that only begins like a Nitro document is none."""

from __future__ import annotations

import pytest

from regalia.core.errors import ParseError
from regalia.inspect import recognize as module
from regalia.inspect.recognize import InspectCode, recognize
from regalia.inspect.recognized import Recognized
from regalia.tees.snp.evidence.wire import REPORT_SIZE
from regalia.wire.evidence import Evidence, Tee

HEAD = bytes.fromhex("8444a1013822a0")  # COSE_Sign1 with ES384, and no unprotected header
TAGGED = bytes.fromhex("d2")
KEYS = ("module_id", "digest", "pcrs")


def message(*keys: str) -> bytes:
    """A signed message around a map of these keys, all with the value zero."""
    entries = b"".join(bytes([0x60 + len(key)]) + key.encode() + b"\x00" for key in keys)
    payload = bytes([0xA0 + len(keys)]) + entries
    return HEAD + bytes([0x58, len(payload)]) + payload + bytes([0x58, 96]) + bytes(96)


@pytest.mark.parametrize("start", [b"", TAGGED])
def test_a_nitro_document_is_told_by_its_keys(start: bytes) -> None:
    found = recognize(start + message(*KEYS, "nonce"))
    assert (found.form, found.subject) == ("AWS Nitro attestation document", "aws-nitro")


@pytest.mark.parametrize("missing", KEYS)
def test_a_document_without_one_of_them_is_somebody_elses(missing: str) -> None:
    with pytest.raises(ParseError, match="no evidence known here"):
        recognize(message(*(key for key in KEYS if key != missing), "chip_id"))


def test_a_value_is_no_key() -> None:
    """The words alone are not enough: a key stands in its own CBOR text."""
    with pytest.raises(ParseError, match="no evidence known here"):
        recognize(message("module_id, digest, pcrs"))


TOKEN = b"eyJhbGciOiJFUzM4NCJ9.eyJub25jZSI6IiJ9.c2lnbmF0dXJl"


@pytest.mark.parametrize("token", [TOKEN, TOKEN.ljust(REPORT_SIZE, b"A")])
def test_a_token_is_somebody_elses_result(token: bytes) -> None:
    with pytest.raises(ParseError, match="somebody else's result") as refusal:
        recognize(token)
    assert refusal.value.code is InspectCode.TOKEN_NO_EVIDENCE
    assert "producer" not in refusal.value.explain()
    assert "evidence that it was made from" in refusal.value.explain()


def test_evidence_in_the_form_of_a_token_is_told_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TEE whose evidence is a signature in compact form has a recognizer among the others."""

    def lattice(data: bytes, suffix: str) -> Recognized | None:
        evidence = Evidence(Tee.TPM, data, (), b"")
        return Recognized(form=f"lattice{suffix}", evidence=evidence) if data == TOKEN else None

    monkeypatch.setattr(module, "RAW_FORMS", (*module.RAW_FORMS, lattice))
    assert recognize(TOKEN).form == "lattice"
    with pytest.raises(ParseError, match="token"):
        recognize(TOKEN + b"A")
