"""What people are shown before they have learned the words."""

from __future__ import annotations

from regalia.inspect.decoded_fields import decoded_fields
from regalia.inspect.recognize import recognize
from regalia.verifier.registry import plugin_for
from regalia.wire.evidence import DeviceKind, Tee


def test_every_kind_is_spoken_of() -> None:
    texts = [plugin_for(kind).about for kind in (*Tee, *DeviceKind)]
    assert len(set(texts)) == len(texts)
    assert all(text.endswith(".") and len(text) > 100 for text in texts)


def test_bits_are_named_and_unknown_ones_numbered() -> None:
    evidence = bytearray(1184)
    evidence[0:4] = (3).to_bytes(4, "little")
    evidence[8:16] = (1 << 17 | 1 << 19).to_bytes(8, "little")
    evidence[0x34:0x38] = (1).to_bytes(4, "little")
    evidence[0x40:0x48] = (1 << 5 | 1 << 6).to_bytes(8, "little")
    parts = decoded_fields(recognize(bytes(evidence)))
    assert parts["bits that are set"] == {
        "POLICY": ["RESERVED_ONE", "DEBUG"],
        "PLATFORM_INFO": ["ALIAS_CHECK_COMPLETE", "bit 6"],
    }
