"""What a token wraps, and what it then opens for whom."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from regalia.core.codec import lp
from regalia.core.errors import PolicyDenied, RegaliaError
from regalia.core.secret import SecretBytes
from regalia.crypto.key_wrapping import open_wrapped
from regalia.keys.base import Recipient
from regalia.keys.pkcs11 import connection
from regalia.keys.pkcs11.wrapping import WRAPPED_SIZE
from regalia.seal.format.sealed import SealId, wrap_context
from regalia_testing.soft_token import PIN
from tests.keys.asking import CONTEXT, MODEL, OTHER_MODEL, logged
from tests.keys.pkcs11.records import KEY, runtime
from tests.keys.pkcs11.tokens import add_kek, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.keys.pkcs11.store import Pkcs11KeyStore
    from regalia_testing.soft_token import SoftToken


def secret(data: bytes) -> SecretBytes:
    return SecretBytes(bytearray(data))


def refused(attempt: Callable[[], object]) -> str:
    with pytest.raises(RegaliaError) as caught:
        attempt()
    return caught.value.code.name


def released(store: Pkcs11KeyStore, blob: bytes, context: bytes = CONTEXT) -> bytes:
    """What a runtime has in the end."""
    one = runtime()
    wrapped = store.rewrap_logged("one", blob, context, recipient=one.recipient, logged=logged())
    with wrapped, open_wrapped(store.key_wrapping, wrapped, one.private) as key:
        assert len(wrapped) == 384
        return key.view().tobytes()


def test_a_model_key_comes_out_wrapped_to_the_runtime(store: Pkcs11KeyStore) -> None:
    blob = store.wrap("one", secret(KEY), CONTEXT)
    assert len(blob) == WRAPPED_SIZE == 72
    assert blob[:32] == store.kek_id("one").raw
    assert KEY not in blob
    assert released(store, blob) == KEY
    assert store.custody == "hsm"
    assert store.key_wrapping == "rsa-oaep-sha1"  # SoftHSM 2.6 knows no other hash
    assert "SOFTWARE TOKEN" in (store.banner or "")


def test_the_owner_gets_the_model_key(store: Pkcs11KeyStore) -> None:
    blob = store.wrap("one", secret(KEY), CONTEXT)
    assert store.recover_for_owner("one", blob, CONTEXT).matches(secret(KEY))


@pytest.mark.parametrize(
    "context",
    [
        wrap_context(OTHER_MODEL, 1, SealId(b"s" * 32)),
        wrap_context(MODEL, 2, SealId(b"s" * 32)),
        wrap_context(MODEL, 1, SealId(b"t" * 32)),
        CONTEXT + b"\0",
        CONTEXT[:-1],
        b"",
    ],
)
def test_another_context_opens_nothing(store: Pkcs11KeyStore, context: bytes) -> None:
    blob = store.wrap("one", secret(KEY), CONTEXT)
    assert refused(lambda: store.recover_for_owner("one", blob, context)) == "KEY_UNWRAP_FAILED"


def test_every_changed_byte_is_refused(store: Pkcs11KeyStore) -> None:
    blob = store.wrap("one", secret(KEY), CONTEXT)
    for place in range(WRAPPED_SIZE):
        changed = bytearray(blob)
        changed[place] ^= 0x80
        want = "KEK_MISMATCH" if place < 32 else "KEY_UNWRAP_FAILED"
        found = refused(lambda data=bytes(changed): store.recover_for_owner("one", data, CONTEXT))
        assert found == want, place
    assert released(store, blob) == KEY  # and the token is well


@pytest.mark.parametrize("size", [0, 1, 32, 64, 71, 73, 80, 4096])
def test_another_size_is_refused(store: Pkcs11KeyStore, size: int) -> None:
    blob = os.urandom(size)
    assert refused(lambda: store.recover_for_owner("one", blob, CONTEXT)) == "KEY_UNWRAP_FAILED"


def test_another_kek_opens_nothing(store: Pkcs11KeyStore) -> None:
    blob = store.wrap("one", secret(KEY), CONTEXT)
    assert refused(lambda: store.recover_for_owner("two", blob, CONTEXT)) == "KEK_MISMATCH"
    assert refused(lambda: store.recover_for_owner("nine", blob, CONTEXT)) == "KEK_UNKNOWN"
    assert released(store, blob) == KEY


def test_only_a_logged_release_of_this_model_opens(store: Pkcs11KeyStore) -> None:
    blob = store.wrap("one", secret(KEY), CONTEXT)

    def attempt(decision: str = "release", model_id: str = str(MODEL)) -> str:
        entry, to = logged(decision, model_id), runtime().recipient
        return refused(
            lambda: store.rewrap_logged("one", blob, CONTEXT, recipient=to, logged=entry)
        )

    assert attempt("denial") == "RECORD_NO_RELEASE"
    assert attempt(model_id=str(OTHER_MODEL)) == "RECORD_OTHER_MODEL"
    assert attempt(model_id="") == "RECORD_OTHER_MODEL"


@pytest.mark.parametrize("spki", [b"", b"no key", runtime(2048).spki])
def test_a_recipient_without_an_rsa_3072_key_is_refused(store: Pkcs11KeyStore, spki: bytes) -> None:
    with pytest.raises(PolicyDenied, match="RECIPIENT_UNSUITED"):
        store.require_recipient(Recipient(spki, "sev-snp", b""))
    store.require_recipient(runtime().recipient)


def test_a_model_key_of_another_size_is_a_programmers_error(store: Pkcs11KeyStore) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        store.wrap("one", secret(b"k" * 31), CONTEXT)


def test_the_identity_is_the_keks_own_and_stays(token: SoftToken) -> None:
    with opened(token) as store:
        first = store.kek_id("one")
        assert first != store.kek_id("two")
    with opened(token) as store:
        assert store.kek_id("one") == first
    assert add_kek(token, "three") != str(first)


def test_rewrapping_under_another_kek_stays_inside(store: Pkcs11KeyStore) -> None:
    blob = store.wrap("two", secret(KEY), CONTEXT)
    moved = store.rewrap_under("two", blob, CONTEXT, to="one")
    assert released(store, moved) == KEY
    assert refused(lambda: store.recover_for_owner("two", moved, CONTEXT)) == "KEK_MISMATCH"
    other = CONTEXT + lp(b"")
    assert refused(lambda: store.rewrap_under("two", blob, other, to="one")) == "KEY_UNWRAP_FAILED"
    assert refused(lambda: store.rewrap_under("two", blob, CONTEXT, to="x")) == "KEK_UNKNOWN"


def test_many_threads_share_one_login(store: Pkcs11KeyStore) -> None:
    contexts = [wrap_context(MODEL, version, SealId(b"s" * 32)) for version in range(1, 9)]
    keys = [os.urandom(32) for _ in contexts]
    blobs = [
        store.wrap("one", secret(key), context) for key, context in zip(keys, contexts, strict=True)
    ]

    def release(turn: int) -> bool:
        mine, other = turn % 8, (turn + 1) % 8
        if turn % 5 == 0:
            code = refused(lambda: store.recover_for_owner("one", blobs[mine], contexts[other]))
            return code == "KEY_UNWRAP_FAILED"
        return released(store, blobs[mine], contexts[mine]) == keys[mine]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(release, range(200)))


def test_a_use_waits_for_a_session_but_not_forever(
    store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = store.kek_id("one")
    monkeypatch.setattr(connection, "WAIT_S", 0.05)
    held = [store._connection.session("holding") for _ in range(connection.SESSIONS_MAX)]
    for each in held:
        each.__enter__()
    assert refused(lambda: store.kek_id("one")) == "TOKEN_BUSY"
    for each in held:
        each.__exit__(None, None, None)
    assert store.kek_id("one") == identity


def test_nothing_is_left_in_the_token(store: Pkcs11KeyStore) -> None:
    blob = store.wrap("one", secret(KEY), CONTEXT)
    released(store, blob)
    refused(lambda: store.recover_for_owner("one", blob, b""))
    with store._connection.session("counting") as session:
        assert len(list(session.get_objects())) == 2  # the KEKs


def test_the_pin_is_shown_nowhere(store: Pkcs11KeyStore) -> None:
    shown = f"{store!r} {store._connection.uri} {store.banner}"
    assert PIN.decode() not in shown.replace(store._connection.uri.label or "", "")
