from __future__ import annotations

import pytest

from regalia.core.errors import CoreCode, UsageError
from regalia.host.listen import parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("store.example:65535", "store.example", 65535),
        ("[::1]:8480", "::1", 8480),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    ["", "host", ":80", "host:", "::1:80", "[]:80", "host:-1", "host:65536", "host:" + "9" * 5000],
)
def test_text_that_is_no_address(text: str) -> None:
    with pytest.raises(UsageError) as info:
        parse_address(text)
    assert info.value.code == CoreCode.BAD_USAGE
    assert len(info.value.what) < 150
