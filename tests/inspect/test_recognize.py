"""Evidence is told by its content: a document that only begins like a Nitro document is none."""

from __future__ import annotations

import pytest

from regalia.core.errors import ParseError
from regalia.inspect.recognize import recognize

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
