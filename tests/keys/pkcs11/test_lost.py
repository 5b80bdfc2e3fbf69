"""Tokens that go away and come back, PINs that are wrong, libraries that are not there."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pkcs11 import exceptions as ckr

from regalia.core.errors import LocalError, RegaliaError, UnavailableError, UsageError
from regalia.core.secret import SecretBytes
from regalia.keys.pkcs11 import library
from regalia.keys.pkcs11.library import Library, load_library
from regalia.keys.pkcs11.plugin import KIT
from regalia.keys.pkcs11.refusal import refusal_of
from regalia_testing.soft_token import LIBRARY, PIN, SO_PIN, SoftToken
from tests.keys.asking import CONTEXT
from tests.keys.pkcs11.records import KEY
from tests.keys.pkcs11.test_store import refused, released, secret
from tests.keys.pkcs11.tokens import opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.keys.pkcs11.store import Pkcs11KeyStore


def recovers(attempt: Callable[[], object], most: int = 3) -> list[str]:
    """Codes of the refusals until it works."""
    codes: list[str] = []
    for _ in range(most):
        try:
            attempt()
        except RegaliaError as exc:
            codes.append(exc.code.name)
        else:
            return codes
    raise AssertionError(codes)


def test_a_token_that_comes_back_is_used_again(token: SoftToken, store: Pkcs11KeyStore) -> None:
    blob = store.wrap("one", secret(KEY), CONTEXT)
    away = token.remove()
    codes = [refused(lambda: released(store, blob)) for _ in range(4)]
    # SoftHSM does not say that its token is gone: at first it only does not find the key.
    assert codes == ["KEK_UNKNOWN", "TOKEN_NOT_FOUND", "TOKEN_NOT_FOUND", "TOKEN_NOT_FOUND"]
    token.put_back(away)
    assert recovers(lambda: released(store, blob)) == []
    assert released(store, blob) == KEY


def test_a_library_that_is_started_again_by_others_loses_nothing(
    store: Pkcs11KeyStore,
) -> None:
    blob = store.wrap("one", secret(KEY), CONTEXT)
    shared = load_library(LIBRARY)
    shared.start_again(shared.generation)
    assert released(store, blob) == KEY  # the sessions of before are not used


def test_a_session_that_the_token_ended_is_replaced(store: Pkcs11KeyStore) -> None:
    blob = store.wrap("one", secret(KEY), CONTEXT)
    with store._connection.session("holding") as session:
        pass
    session.close()  # under the hands of its pool
    assert recovers(lambda: released(store, blob)) == ["TOKEN_LOST"]


def test_threads_recover_together(token: SoftToken, store: Pkcs11KeyStore) -> None:
    blob = store.wrap("one", secret(KEY), CONTEXT)
    stop = threading.Event()
    seen: list[str] = []

    def work() -> bool:
        while not stop.is_set():
            try:
                assert released(store, blob) == KEY
            except RegaliaError as exc:
                seen.append(exc.code.name)
        return released(store, blob) == KEY

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work) for _ in range(4)]
        for _ in range(3):
            time.sleep(0.2)
            token.put_back(token.remove())
            load_library(LIBRARY).start_again(load_library(LIBRARY).generation)
        stop.set()
        assert all(worker.result() for worker in workers)
    assert set(seen) <= {"TOKEN_LOST", "TOKEN_FAILED", "TOKEN_NOT_FOUND", "KEK_UNKNOWN"}


@pytest.mark.parametrize("pin", [b"1235", b"", b"1", b"x" * 300, b"\xff\xfe"])
def test_a_wrong_pin_opens_nothing(token: SoftToken, pin: bytes) -> None:
    with opened(token) as store:
        identity = store.kek_id("one")
    with pytest.raises(RegaliaError, match="TOKEN_PIN_WRONG") as caught:
        opened(token, pin)
    assert "1235" not in str(caught.value)
    with opened(token) as store:  # and leaves no login behind
        assert store.kek_id("one") == identity


def test_a_pin_that_was_changed_is_not_tried_twice(
    token: SoftToken, store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = store.wrap("one", secret(KEY), CONTEXT)
    with store._connection.writing("changing the PIN") as session:
        session.set_pin(PIN.decode(), "4321")
    shared = load_library(LIBRARY)
    tried: list[int] = []
    log_in = Library.log_in

    def counted(self: Library, session: int, pin: SecretBytes) -> None:
        tried.append(session)
        log_in(self, session, pin)

    monkeypatch.setattr(Library, "log_in", counted)
    shared.start_again(shared.generation)
    assert {refused(lambda: released(store, blob)) for _ in range(5)} == {"TOKEN_PIN_WRONG"}
    assert len(tried) == 1
    store.close()
    with opened(token, b"4321") as again:
        assert released(again, blob) == KEY


def test_the_officers_pin_is_not_the_users(token: SoftToken) -> None:
    with pytest.raises(RegaliaError, match="TOKEN_PIN_WRONG"):
        opened(token, SO_PIN)


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (0xA4, "TOKEN_PIN_LOCKED"),
        (0xA3, "TOKEN_PIN_LOCKED"),
        (0x102, "TOKEN_PIN_UNSET"),
        (0x30, "TOKEN_FAILED"),
    ],
)
def test_a_login_that_softhsm_never_refuses_so(
    token: SoftToken, monkeypatch: pytest.MonkeyPatch, result: int, code: str
) -> None:
    call = Library._call

    def locked(self: Library, place: int, *arguments: object) -> int:
        return result if place == library._LOGIN else call(self, place, *arguments)

    monkeypatch.setattr(Library, "_call", locked)
    assert refused(lambda: opened(token)) == code
    monkeypatch.undo()
    opened(token).close()


def test_a_process_logs_in_once(token: SoftToken, store: Pkcs11KeyStore) -> None:
    identity = store.kek_id("one")
    assert refused(lambda: opened(token, b"wrong")) == "TOKEN_IN_USE"
    assert store.kek_id("one") == identity


def test_two_tokens_of_one_library_side_by_side(
    store: Pkcs11KeyStore, empty_token: SoftToken
) -> None:
    other = SoftToken.make(f"{empty_token.label}b")
    blob = store.wrap("one", secret(KEY), CONTEXT)
    with opened(other) as second:  # which starts the library again, to find it
        assert refused(lambda: second.kek_id("one")) == "KEK_UNKNOWN"
        assert released(store, blob) == KEY


def test_a_token_that_is_not_there(empty_token: SoftToken) -> None:
    nowhere = SoftToken("no-such-token", empty_token.files)
    with pytest.raises(UnavailableError, match="TOKEN_NOT_FOUND"):
        opened(nowhere)


def test_two_tokens_with_one_label(empty_token: SoftToken) -> None:
    first, second = (SoftToken.make(f"{empty_token.label}-twins"[:32]) for _ in range(2))
    with pytest.raises(UsageError, match="TOKEN_NOT_UNIQUE") as caught:
        opened(first)
    serial = caught.value.what.rpartition(" ")[2]
    assert second.label == first.label
    with SecretBytes(bytearray(PIN)) as pin:
        KIT.open(f"serial={serial};{first.location}", Path(), pin).close()


@pytest.mark.parametrize("path", ["/no/such/library.so", "/etc/hostname"])
def test_a_library_that_cannot_be_loaded(path: str) -> None:
    with pytest.raises(LocalError, match="TOKEN_LIBRARY_UNUSABLE"):
        load_library(path)


def test_a_library_of_something_else() -> None:
    (path,) = {
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "/libc.so.6" in line
    }
    with pytest.raises(LocalError, match="TOKEN_LIBRARY_UNUSABLE"):
        load_library(path)


def test_a_call_that_hangs_does_not_keep_others_waiting(
    store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "IDLE_S", 0.05)
    identity = store.kek_id("one")
    shared = load_library(LIBRARY)
    with shared.in_use() as generation:
        with pytest.raises(UnavailableError, match="TOKEN_BUSY"):
            shared.start_again(generation)
        assert shared.generation == generation
    shared.start_again(generation)
    assert shared.generation == generation + 1
    shared.start_again(generation)  # another thread's failure of before
    assert shared.generation == generation + 1
    assert store.kek_id("one") == identity


def _in_child(store: Pkcs11KeyStore, results: multiprocessing.SimpleQueue[str]) -> None:
    try:
        store.kek_id("one")
    except RegaliaError as exc:
        results.put(exc.code.name)
    else:
        results.put("it worked")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_refused(store: Pkcs11KeyStore) -> None:
    identity = store.kek_id("one")
    context = multiprocessing.get_context("fork")
    results: multiprocessing.SimpleQueue[str] = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(store, results))
    child.start()
    assert results.get() == "TOKEN_OTHER_PROCESS"
    child.join(20)
    assert store.kek_id("one") == identity
    assert os.getpid() != child.pid


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ckr.DeviceRemoved(), "TOKEN_LOST"),
        (ckr.SessionHandleInvalid(), "TOKEN_LOST"),
        (ckr.UserNotLoggedIn(), "TOKEN_LOST"),
        (ckr.SessionCount(), "TOKEN_BUSY"),
        (ckr.MechanismInvalid(), "TOKEN_UNSUITED"),
        (ckr.KeyUnextractable(), "TOKEN_UNSUITED"),
        (ckr.GeneralError(), "TOKEN_FAILED"),
        (ckr.PKCS11Error("Unmapped error code 0x1b"), "TOKEN_FAILED"),
    ],
)
def test_every_answer_of_a_token_has_a_code(error: ckr.PKCS11Error, code: str) -> None:
    refusal = refusal_of(error, "wrapping")
    assert refusal.code.name == code
    assert refusal.what.startswith("wrapping: the token gives ")
    assert len(refusal.what) > len("wrapping: the token gives ")
