"""Logging in to OpenBao, staying so, and a server that is away: all without a restart of ours."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, LocalError, RegaliaError
from regalia.keys.openbao.plugin import KIT
from regalia.keys.service_codes import KeyServiceCode
from tests.keys.asking import CONTEXT, secret
from tests.keys.certificates import Authority
from tests.keys.openbao_server import running
from tests.keys.test_openbao import BROKER, OWNER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from regalia.core.errors import Code
    from regalia.keys.openbao.store import OpenBaoKeyStore
    from tests.keys.openbao_server import OpenBao

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with running(tmp_path_factory.mktemp("bao")) as bao:
        bao.policy("all", OWNER + BROKER)
        bao.write_token("all.token", bao.token("all"))
        KIT.make_kek(bao.location("token-file=all.token"), bao.folder, None, "one")
        bao.must("POST", "sys/auth/approle", {"type": "approle"})
        bao.must("POST", "sys/auth/cert", {"type": "cert"})
        yield bao


def opened(server: OpenBao, query: str) -> OpenBaoKeyStore:
    return KIT.open(server.location(query), server.folder, None)


def works(store: OpenBaoKeyStore) -> None:
    with store.recover_for_owner("one", store.wrap("one", secret(), CONTEXT), CONTEXT) as key:
        assert key.matches(secret())


def refusal(act: Callable[[], object]) -> Code:
    with pytest.raises(RegaliaError) as caught:
        act()
    return caught.value.code


def test_a_revoked_token_is_named_and_a_new_one_is_read(server: OpenBao) -> None:
    token = server.token("all")
    server.write_token("changing.token", token)
    with opened(server, "token-file=changing.token") as store:
        works(store)
        server.must("POST", "auth/token/revoke", {"token": token})
        for _ in range(2):
            code = refusal(lambda: store.kek_id("one"))
            assert code is KeyServiceCode.KEY_SERVICE_LOGIN_REFUSED
        server.write_token("changing.token", server.token("all"))
        works(store)


def test_an_expired_token_is_named(server: OpenBao) -> None:
    server.write_token("short.token", server.token("all", ttl="1s", renewable=False))
    with opened(server, "token-file=short.token") as store:
        time.sleep(1.5)
        code = refusal(lambda: store.kek_id("one"))
        assert code is KeyServiceCode.KEY_SERVICE_LOGIN_REFUSED
    code = refusal(lambda: opened(server, "token-file=short.token"))
    assert code is KeyServiceCode.KEY_SERVICE_LOGIN_REFUSED


def test_a_token_is_renewed_while_nobody_asks(server: OpenBao) -> None:
    server.write_token("periodic.token", server.token("all", period="3s"))
    with opened(server, "token-file=periodic.token") as store:
        time.sleep(5)
        works(store)


def test_approle_logs_in_again_when_its_token_ends(server: OpenBao) -> None:
    role = "auth/approle/role/broker"
    server.must("POST", role, {"token_policies": ["all"], "token_ttl": "2s", "token_max_ttl": "2s"})
    role_id = server.must("GET", f"{role}/role-id")["data"]["role_id"]
    secret_id = server.must("POST", f"{role}/secret-id")["data"]["secret_id"]
    server.write_token("secret-id", secret_id)
    with opened(server, f"role-id={role_id}&secret-id-file=secret-id") as store:
        works(store)
        time.sleep(3)
        works(store)
        server.must("POST", f"{role}/secret-id/destroy", {"secret_id": secret_id})
        time.sleep(3)
        code = refusal(lambda: store.kek_id("one"))
        assert code is KeyServiceCode.KEY_SERVICE_LOGIN_REFUSED
        server.write_token(
            "secret-id", server.must("POST", f"{role}/secret-id")["data"]["secret_id"]
        )
        works(store)


def test_a_client_certificate_logs_in(server: OpenBao) -> None:
    folder = server.folder
    server.authority.issue_client(folder / "broker.pem", folder / "broker.key", "broker")
    members = {
        "certificate": (folder / "ca.pem").read_text(),
        "allowed_common_names": "broker",
        "token_policies": ["all"],
    }
    server.must("POST", "auth/cert/certs/broker", members)
    for query in ("", "&cert-role=broker"):
        with opened(server, f"cert=broker.pem&key=broker.key{query}") as store:
            works(store)
    server.authority.issue_client(folder / "other.pem", folder / "other.key", "other")
    code = refusal(lambda: opened(server, "cert=other.pem&key=other.key"))
    assert code is KeyServiceCode.KEY_SERVICE_LOGIN_REFUSED
    server.authority.issue_client(folder / "old.pem", folder / "old.key", "broker", ended=True)
    code = refusal(lambda: opened(server, "cert=old.pem&key=old.key"))
    assert code is KeyServiceCode.KEY_SERVICE_LOGIN_REFUSED


def test_a_server_of_another_authority_gets_no_token(server: OpenBao, tmp_path: Path) -> None:
    Authority.make("another").write(tmp_path / "ca.pem")
    location = server.location("token-file=all.token").replace(
        f"ca={server.folder}/", f"ca={tmp_path}/"
    )
    assert refusal(lambda: KIT.open(location, server.folder, None)) is CoreCode.PEER_UNREACHABLE


def test_a_token_that_others_may_read_is_refused(server: OpenBao) -> None:
    server.write_token("open.token", server.token("all")).chmod(0o644)
    with pytest.raises(LocalError) as caught:
        opened(server, "token-file=open.token")
    assert caught.value.code is CoreCode.INSECURE_MODE


def test_sealed_stopped_and_back(server: OpenBao) -> None:
    with opened(server, "token-file=all.token") as store:
        server.seal()
        assert refusal(lambda: store.kek_id("one")) is KeyServiceCode.KEY_SERVICE_SEALED
        code = refusal(lambda: opened(server, "token-file=all.token"))
        assert code is KeyServiceCode.KEY_SERVICE_SEALED
        server.unseal()
        works(store)
        server.stop()
        begun = time.monotonic()
        assert refusal(lambda: store.kek_id("one")) is CoreCode.PEER_UNREACHABLE
        assert time.monotonic() - begun < 5
        server.start()
        works(store)
