"""Addresses of OpenBao, and servers that answer slowly, wrongly or not at all."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from regalia.core.errors import CoreCode, RegaliaError, UnavailableError, UsageError
from regalia.keys.openbao.address import (
    AppRoleLogin,
    CertificateLogin,
    TokenFileLogin,
    parse_address,
)
from regalia.keys.openbao.connection import Connection
from regalia.keys.openbao.plugin import KIT
from regalia.keys.openbao.store import INNER_SIZE, OpenBaoKeyStore
from regalia.keys.service_codes import KeyServiceCode
from tests.keys.asking import CONTEXT, logged, recipient, secret
from tests.keys.service_double import answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.keys.service_double import Asked, Double

FOLDER = Path("/etc/regalia")
TOKEN = "s.token-of-tests"


def pem(bits: int = 4096) -> str:
    key = rsa.generate_private_key(65537, bits).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


KEK = {
    "type": "aes256-gcm96",
    "derived": True,
    "exportable": False,
    "allow_plaintext_backup": False,
}
MOUNT_KEY = pem()


def b64(size: int) -> str:
    return base64.b64encode(bytes(size)).decode()


ANSWERS: dict[str, tuple[int, Any]] = {
    "GET auth/token/lookup-self": (200, {"data": {"ttl": 0, "renewable": False}}),
    "GET regalia/wrapping_key": (200, {"data": {"public_key": MOUNT_KEY}}),
    "GET regalia/keys/one": (200, {"data": KEK}),
    "LIST regalia/keys": (404, {"errors": []}),
    "POST regalia/encrypt/one": (200, {"data": {"ciphertext": f"vault:v1:{b64(INNER_SIZE + 28)}"}}),
    "POST regalia/decrypt/one": (200, {"data": {"plaintext": b64(INNER_SIZE)}}),
    "POST import": (204, b""),
    "GET export": (200, {"data": {"keys": {"1": b64(424)}}}),
    "POST config": (200, {}),
    "DELETE key": (204, b""),
}


def healthy(asked: Asked) -> tuple[int, Any]:
    path = asked.path.removeprefix("/v1/")
    for mark, name in (
        ("/import", "POST import"),
        ("/byok-export/", "GET export"),
        ("/config", "POST config"),
    ):
        if mark in path:
            return ANSWERS[name]
    if asked.method == "DELETE":
        return ANSWERS["DELETE key"]
    return ANSWERS[f"{asked.method} {path}"]


def instead(answers: dict[str, tuple[int, Any]]) -> Callable[[Asked], tuple[int, Any]]:
    def answer(asked: Asked) -> tuple[int, Any]:
        for mark, given in answers.items():
            if mark in f"{asked.method} {asked.path}":
                return given
        return healthy(asked)

    return answer


@pytest.fixture
def double() -> Iterator[Double]:
    with answering(healthy) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    return tmp_path


def opened(double: Double, folder: Path) -> OpenBaoKeyStore:
    address = parse_address(f"{double.url}/regalia?token-file=token", folder)
    connection = Connection(address, pause=lambda _: None)
    try:
        return OpenBaoKeyStore(connection)
    except BaseException:
        connection.close()
        raise


def released(store: OpenBaoKeyStore) -> bytes:
    blob = store.wrap("one", secret(), CONTEXT)
    with store.rewrap_logged(
        "one", blob, CONTEXT, recipient=recipient(), logged=logged()
    ) as wrapped:
        return bytes(wrapped.view())


def test_addresses() -> None:
    address = parse_address("https://bao.example:8200/regalia?token-file=t&ca=ca.pem", FOLDER)
    assert address.login == TokenFileLogin(FOLDER / "t")
    assert (str(address), address.tls.authorities) == (
        "https://bao.example:8200/regalia",
        FOLDER / "ca.pem",
    )
    address = parse_address(
        "https://bao.example/a/b?role-id=r&secret-id-file=/s&namespace=ns/x", FOLDER
    )
    assert address.login == AppRoleLogin("approle", "r", Path("/s"))
    assert (address.mount, address.namespace) == ("a/b", "ns/x")
    address = parse_address("https://b.example/a?cert=c&key=k&auth-mount=certs/x", FOLDER)
    assert address.login == CertificateLogin("certs/x", None)
    assert (address.tls.certificate, address.tls.key) == (FOLDER / "c", FOLDER / "k")


@pytest.mark.parametrize(
    "location",
    [
        "bao.json",
        "http://bao.example:8200/regalia?token-file=t",
        "http://127.0.0.1.example/regalia?token-file=t",
        "ftp://127.0.0.1/regalia?token-file=t",
        "https://user:word@bao.example/regalia?token-file=t",
        "https://bao.example/?token-file=t",
        "https://bao.example/regalia",
        "https://bao.example/regalia?token=s.secret",
        "https://bao.example/regalia?token-file=t&token-file=u",
        "https://bao.example/regalia?token-file=t&role-id=r&secret-id-file=s",
        "https://bao.example/regalia?role-id=r",
        "https://bao.example/regalia?cert=c",
        "https://bao.example/regalia?token-file=t&insecure=1",
        "https://bao.example/re%20galia?token-file=t",
        "https://bao.example/regalia?token-file=t&namespace=a%0d%0ab",
        "https://bao.example/regalia?role-id=../x&secret-id-file=s",
        "https://bao.example:port/regalia?token-file=t",
    ],
)
def test_addresses_that_are_refused(location: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(location, FOLDER)
    assert caught.value.code is KeyServiceCode.KEY_SERVICE_ADDRESS
    assert "s.secret" not in caught.value.explain()


def test_http_to_this_machine_is_not_refused() -> None:
    for host in ("127.0.0.1:8200", "localhost", "[::1]:8200"):
        assert parse_address(f"http://{host}/regalia?token-file=t", FOLDER).base.host


def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    for query in (
        "token-file=t&ca=none.pem",
        "token-file=t&ca=bad.pem",
        "cert=bad.pem&key=bad.pem",
    ):
        address = parse_address(f"https://bao.example/regalia?{query}", tmp_path)
        with pytest.raises(UsageError) as caught:
            Connection(address)
        assert caught.value.code is KeyServiceCode.KEY_SERVICE_ADDRESS


def test_a_release_in_the_healthy_case(double: Double, folder: Path) -> None:
    with opened(double, folder) as store:
        assert released(store) == bytes(424)
    assert all(asked.headers["x-vault-token"] == TOKEN for asked in double.asked)
    imports = [asked for asked in double.asked if asked.path.endswith("/import")]
    deleted = [asked for asked in double.asked if asked.method == "DELETE"]
    assert (len(imports), len(deleted)) == (2, 2)


_ANSWER = KeyServiceCode.KEY_SERVICE_ANSWER_WRONG


@pytest.mark.parametrize(
    ("place", "answer", "code"),
    [
        ("wrapping_key", (200, b"<html>"), _ANSWER),
        ("wrapping_key", (200, {"data": {"public_key": "no key"}}), _ANSWER),
        ("wrapping_key", (200, {"data": {"public_key": pem(2048)}}), _ANSWER),
        ("wrapping_key", (200, b"[" * 100_000), _ANSWER),
        ("wrapping_key", (200, b" " * (1 << 20) + b"{}"), _ANSWER),
        ("wrapping_key", (302, b""), _ANSWER),
        ("keys/one", (200, {"data": {**KEK, "derived": None}}), _ANSWER),
        ("encrypt/", (200, {"data": {"ciphertext": "vault:v1:AAAA"}}), None),
        ("encrypt/", (200, {"data": {"ciphertext": "other:v1:" + b64(580)}}), None),
        ("decrypt/", (200, {"data": {"plaintext": b64(INNER_SIZE - 1)}}), _ANSWER),
        ("decrypt/", (200, {"data": {"plaintext": b64(32)}}), _ANSWER),
        ("byok-export/", (200, {"data": {"keys": {"1": b64(32)}}}), _ANSWER),
        ("byok-export/", (200, {"data": {"keys": {"1": b64(425)}}}), _ANSWER),
        ("byok-export/", (200, {"data": {"keys": {"1": b64(424), "2": b64(424)}}}), _ANSWER),
        ("byok-export/", (200, {"data": {"keys": {}}}), _ANSWER),
        ("/import", (500, {"errors": ["internal"]}), KeyServiceCode.KEY_SERVICE_FAILED),
        ("/import", (403, {"errors": ["denied"]}), KeyServiceCode.KEY_SERVICE_NOT_ALLOWED),
        ("decrypt/", (429, {"errors": ["quota"]}), KeyServiceCode.KEY_SERVICE_BUSY),
        ("decrypt/", (502, b"bad gateway"), KeyServiceCode.KEY_SERVICE_FAILED),
        ("decrypt/", (503, b""), KeyServiceCode.KEY_SERVICE_FAILED),
        ("decrypt/", (418, b""), KeyServiceCode.KEY_SERVICE_FAILED),
    ],
)
def test_answers_that_are_refused(
    double: Double, folder: Path, place: str, answer: tuple[int, Any], code: object
) -> None:
    double.answer = instead({place: answer})
    with pytest.raises(RegaliaError) as caught, opened(double, folder) as store:
        released(store)
    assert caught.value.code.name == ("KEY_UNWRAP_FAILED" if code is None else code.name)  # type: ignore[attr-defined]
    assert TOKEN not in caught.value.explain()
    assert "Traceback" not in caught.value.explain()


def test_busy_for_a_moment_is_tried_again(double: Double, folder: Path) -> None:
    turned_away: list[str] = []

    def answer(asked: Asked) -> tuple[int, Any]:
        if "decrypt" in asked.path and len(turned_away) < 2:
            turned_away.append(asked.path)
            return 429, {"errors": ["quota"]}
        return healthy(asked)

    with opened(double, folder) as store:
        double.answer = answer
        assert released(store) == bytes(424)
    assert len(turned_away) == 2


def test_what_failed_in_the_server_is_not_repeated(double: Double, folder: Path) -> None:
    with opened(double, folder) as store:
        double.answer = instead({"/import": (500, {"errors": ["internal"]})})
        with pytest.raises(UnavailableError):
            released(store)
    assert len([asked for asked in double.asked if asked.path.endswith("/import")]) == 1


def test_a_server_that_says_nothing_is_not_waited_for(
    double: Double, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regalia.keys.openbao.store.RELEASE_S", 0.5)

    def slowly(asked: Asked) -> tuple[int, Any]:
        if "decrypt" in asked.path:
            time.sleep(3)
        return healthy(asked)

    with opened(double, folder) as store:
        double.answer = slowly
        blob = store.wrap("one", secret(), CONTEXT)
        begun = time.monotonic()
        with pytest.raises(UnavailableError) as caught:
            store.rewrap_logged("one", blob, CONTEXT, recipient=recipient(), logged=logged())
        assert caught.value.code is CoreCode.PEER_UNREACHABLE
        assert time.monotonic() - begun < 2


def test_a_start_does_not_hang_on_a_server_that_says_nothing(
    double: Double, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regalia.keys.service_http.ANSWER_S", 0.5)

    def silent(asked: Asked) -> tuple[int, Any]:
        time.sleep(3)
        return healthy(asked)

    double.answer = silent
    begun = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        KIT.open(f"{double.url}/regalia?token-file=token", folder, None)
    assert caught.value.code is CoreCode.PEER_UNREACHABLE
    assert time.monotonic() - begun < 2


def test_nothing_shows_the_token(double: Double, folder: Path) -> None:
    with opened(double, folder) as store:
        store.kek_id("one")
        assert TOKEN not in repr(store) + repr(store._connection.__dict__)


def test_the_kit_refuses_before_it_connects(tmp_path: Path) -> None:
    assert KIT.asks is None
    assert not KIT.is_new("https://bao.example/regalia?token-file=t", tmp_path)
    with pytest.raises(UsageError):
        KIT.open("https://bao.example/regalia", tmp_path, None)


NAMES = [
    "x/../one",
    "../keys/one",
    "../../sys/seal",
    "one?version=1",
    "one#x",
    "one/",
    "%6fne",
    "",
    "..",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_elsewhere_is_no_kek(double: Double, folder: Path, name: str) -> None:
    """A manifest names its KEK, and KEKs that were rotated are known by their names."""
    with opened(double, folder) as store:
        blob = store._identity(name).raw + store.wrap("one", secret(), CONTEXT)[32:]
        double.asked.clear()
        for act in (
            lambda: store.kek_id(name),
            lambda: store.wrap(name, secret(), CONTEXT),
            lambda: store.recover_for_owner(name, blob, CONTEXT),
            lambda: store.make_kek(name),
        ):
            with pytest.raises(RegaliaError) as caught:
                act()
            assert caught.value.code.name == "KEK_UNKNOWN"
    assert double.asked == []


@pytest.mark.parametrize(
    "auth",
    [
        {"client_token": "s.é", "lease_duration": 60, "renewable": True},
        {"client_token": "s.a\r\nx-vault-namespace: b", "lease_duration": 60, "renewable": True},
        {"client_token": "", "lease_duration": 60, "renewable": True},
        {"client_token": "s." + "a" * 4096, "lease_duration": 60, "renewable": True},
        {"client_token": "s.a", "lease_duration": 10**400, "renewable": True},
        {"client_token": "s.a", "lease_duration": -1, "renewable": True},
    ],
    ids=["no ASCII", "a line", "empty", "large", "a long life", "a negative life"],
)
def test_a_login_that_gives_no_token(double: Double, folder: Path, auth: dict[str, Any]) -> None:
    """It is sent in a header, and its life is waited for: no answer may end in another error."""
    (folder / "secret").write_text("of-tests")
    (folder / "secret").chmod(0o600)
    double.answer = instead({"auth/approle/login": (200, {"auth": auth})})
    address = parse_address(f"{double.url}/regalia?role-id=r&secret-id-file=secret", folder)
    connection = Connection(address, pause=lambda _: None)
    try:
        with pytest.raises(RegaliaError) as caught:
            OpenBaoKeyStore(connection).close()
        assert caught.value.code is _ANSWER
        with pytest.raises(RegaliaError):
            connection._renew_if_due()
    finally:
        connection.close()
