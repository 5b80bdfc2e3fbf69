from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import pytest

from regalia.core.secret import SecretBytes

KEY = b"sixteen byte key"


def secret() -> SecretBytes:
    return SecretBytes(bytearray(KEY))


def test_a_secret_prints_only_its_length() -> None:
    s = secret()
    for text in (repr(s), str(s), f"{s}"):
        assert text == "<secret, 16 bytes>"


def test_a_secret_is_not_compared_hashed_pickled_or_copied() -> None:
    s = secret()
    with pytest.raises(TypeError):
        _ = s == secret()
    with pytest.raises(TypeError):
        hash(s)
    with pytest.raises(TypeError):
        pickle.dumps(s)
    with pytest.raises(TypeError):
        copy.deepcopy(s)
    with pytest.raises(TypeError):
        bytes(s)


def test_matches_compares_content() -> None:
    assert secret().matches(secret())
    assert not secret().matches(SecretBytes(bytearray(b"another 16 bytes")))


def test_close_wipes_the_buffer_in_place() -> None:
    buffer = bytearray(KEY)
    with SecretBytes(buffer) as s:
        assert s.view() == KEY
    assert buffer == bytes(16)
    with pytest.raises(RuntimeError):
        s.view()
    s.close()


def test_the_view_cannot_be_written() -> None:
    with pytest.raises(TypeError):
        secret().view()[0] = 0  # type: ignore[index]


def test_only_wipeable_buffers_are_taken() -> None:
    with pytest.raises(TypeError):
        SecretBytes(KEY)  # type: ignore[arg-type]


def locked(addresses: list[int]) -> list[bool]:
    """Whether the kernel says that the pages at these addresses are locked."""
    blocks = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    mappings = [
        ([int(part, 16) for part in block.split()[0].split("-")], block.rpartition("VmFlags:")[2])
        for block in blocks
    ]
    return [
        next(" lo" in flags for (first, last), flags in mappings if first <= address < last)
        for address in addresses
    ]


def test_closing_a_secret_leaves_its_neighbors_locked() -> None:
    """Small buffers share pages; mlock(2) does not count."""
    secrets = [SecretBytes(bytearray(48)) for _ in range(400)]
    if not all(item.locked for item in secrets):
        pytest.skip("this machine does not lock memory")
    places = {id(item): item._address() for item in secrets}
    for item in secrets[::2]:
        item.close()
    left = secrets[1::2]
    shared = {places[id(item)] // 4096 for item in left} & {
        places[id(item)] // 4096 for item in secrets[::2]
    }
    assert shared, "some of those that were closed lay beside others"
    assert all(locked([places[id(item)] for item in left]))
    for item in left:
        item.close()
    assert not any(locked([places[id(item)] for item in secrets]))
