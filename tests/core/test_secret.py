from __future__ import annotations

import copy
import pickle

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
