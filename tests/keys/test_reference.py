from __future__ import annotations

import pytest

from regalia.core.errors import UsageError
from regalia.keys.reference import KeyReference, parse_reference


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("dev-file:keys.json#m", KeyReference("dev-file", "keys.json", "m")),
        ("dev-file:/a b/c#d#m-1.x", KeyReference("dev-file", "/a b/c#d", "m-1.x")),
        ("pkcs11:token=x;a:b#k", KeyReference("pkcs11", "token=x;a:b", "k")),
    ],
)
def test_round_trip(text: str, reference: KeyReference) -> None:
    assert parse_reference(text) == reference
    assert str(reference) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "keys.json",
        "dev-file:keys.json",
        "dev-file:#m",
        "dev-file:keys.json#",
        "keys.json#m",
        ":keys.json#m",
        "Dev-file:keys.json#m",
        "dev-file:keys.json#M",
        "dev-file:keys.json#a b",
        "dev-file:keys\0.json#m",
        "dev-file:" + "x" * 5000 + "#m",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(UsageError, match="KEY_REFERENCE_MALFORMED"):
        parse_reference(text)
