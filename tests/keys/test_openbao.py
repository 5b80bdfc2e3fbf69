"""The key store ``openbao`` on a real server: what it gives, and what it refuses."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, KeyAccessError, RegaliaError, UnavailableError
from regalia.crypto.key_wrapping import open_wrapped
from regalia.keys.codes import KeysCode
from regalia.keys.openbao.plugin import KIT
from regalia.keys.service_codes import KeyServiceCode
from tests.keys.asking import (
    CONTEXT,
    MODEL_KEY,
    OTHER_CONTEXT,
    OTHER_MODEL,
    logged,
    recipient,
    runtime_key,
    secret,
)
from tests.keys.openbao_server import MOUNT, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.core.errors import Code
    from regalia.core.secret import SecretBytes
    from regalia.keys.openbao.store import OpenBaoKeyStore
    from tests.keys.openbao_server import OpenBao

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/openbao.md").read_text(encoding="utf-8")
BROKER, OWNER = re.findall(r"^```hcl\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with running(tmp_path_factory.mktemp("bao")) as bao:
        bao.policy("regalia-broker", BROKER)
        bao.policy("regalia-owner", OWNER)
        bao.write_token("owner.token", bao.token("regalia-owner", "regalia-broker"))
        bao.write_token("broker.token", bao.token("regalia-broker"))
        for name in ("one", "two"):
            KIT.make_kek(bao.location("token-file=owner.token"), bao.folder, None, name)
        yield bao


def opened(server: OpenBao, file: str = "owner.token", mount: str = MOUNT) -> OpenBaoKeyStore:
    return KIT.open(server.location(f"token-file={file}", mount), server.folder, None)


@pytest.fixture(scope="module")
def owner(server: OpenBao) -> Iterator[OpenBaoKeyStore]:
    with opened(server) as store:
        yield store


@pytest.fixture(scope="module")
def broker(server: OpenBao) -> Iterator[OpenBaoKeyStore]:
    with opened(server, "broker.token") as store:
        yield store


@pytest.fixture(scope="module")
def blob(owner: OpenBaoKeyStore) -> bytes:
    return owner.wrap("one", secret(), CONTEXT)


def released(store: OpenBaoKeyStore, blob: bytes, context: bytes = CONTEXT) -> SecretBytes:
    return store.rewrap_logged("one", blob, context, recipient=recipient(), logged=logged())


def refusal(act: Callable[[], object]) -> Code:
    with pytest.raises(RegaliaError) as caught:
        act()
    assert MODEL_KEY.hex() not in caught.value.explain()
    return caught.value.code


def test_the_broker_gets_the_key_only_wrapped_to_the_runtime(
    broker: OpenBaoKeyStore, blob: bytes
) -> None:
    assert (broker.custody, broker.banner) == ("kms", None)
    with released(broker, blob) as wrapped:
        assert len(wrapped) == 384 + 40
        assert MODEL_KEY not in bytes(wrapped.view())
        with open_wrapped(broker.key_wrapping, wrapped, runtime_key()) as key:
            assert key.matches(secret())


def test_nothing_stays_in_the_mount(server: OpenBao, broker: OpenBaoKeyStore, blob: bytes) -> None:
    released(broker, blob).close()
    assert refusal(lambda: released(broker, blob, OTHER_CONTEXT)) is KeysCode.RECORD_OTHER_MODEL
    keys = server.must("LIST", f"{MOUNT}/keys")["data"]["keys"]
    assert not [name for name in keys if name.startswith("regalia-")]


def test_the_owner_can_recover(owner: OpenBaoKeyStore, blob: bytes) -> None:
    with owner.recover_for_owner("one", blob, CONTEXT) as key:
        assert key.matches(secret())


def test_two_models_of_one_kek_cannot_be_exchanged(owner: OpenBaoKeyStore, blob: bytes) -> None:
    other = owner.wrap("one", secret(b"o" * 32), OTHER_CONTEXT)
    for exchanged, context in ((blob, OTHER_CONTEXT), (other, CONTEXT)):
        act = lambda e=exchanged, c=context: owner.recover_for_owner("one", e, c)  # noqa: E731
        assert refusal(act) is KeysCode.KEY_UNWRAP_FAILED


def test_another_kek_is_named(owner: OpenBaoKeyStore, blob: bytes) -> None:
    code = refusal(lambda: owner.recover_for_owner("two", blob, CONTEXT))
    assert code is KeysCode.KEK_MISMATCH
    assert owner.kek_id("one") != owner.kek_id("two")
    code = refusal(lambda: owner.kek_id("three"))
    assert code is KeysCode.KEK_UNKNOWN
    assert refusal(lambda: owner.wrap("three", secret(), CONTEXT)) is KeysCode.KEK_UNKNOWN


def test_a_kek_is_not_made_twice(server: OpenBao) -> None:
    location = server.location("token-file=owner.token")
    code = refusal(lambda: KIT.make_kek(location, server.folder, None, "one"))
    assert code is KeysCode.KEK_EXISTS


def test_only_logged_releases(broker: OpenBaoKeyStore, blob: bytes) -> None:
    for entry, code in (
        (logged("denial"), KeysCode.RECORD_NO_RELEASE),
        (logged(model_id=OTHER_MODEL), KeysCode.RECORD_OTHER_MODEL),
    ):
        with pytest.raises(KeyAccessError) as caught:
            broker.rewrap_logged("one", blob, CONTEXT, recipient=recipient(), logged=entry)
        assert caught.value.code is code


def test_changed_blobs_are_refused(owner: OpenBaoKeyStore, blob: bytes) -> None:
    generator = secrets.SystemRandom()
    places = [generator.randrange(32, len(blob)) for _ in range(12)]
    changed = [blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :] for at in places]
    changed += [blob[:-4], blob + b"AAAA", blob[:32], b"", blob.replace(b":v1:", b":v9:")]
    for each in changed:
        code = refusal(lambda each=each: owner.recover_for_owner("one", each, CONTEXT))
        assert code is KeysCode.KEY_UNWRAP_FAILED
    other_id = bytes([blob[0] ^ 1]) + blob[1:]
    code = refusal(lambda: owner.recover_for_owner("one", other_id, CONTEXT))
    assert code is KeysCode.KEK_MISMATCH


def test_the_brokers_rules_allow_no_key_in_clear(server: OpenBao) -> None:
    token = (server.folder / "broker.token").read_text().strip()
    server.must("POST", f"{MOUNT}/keys/regalia-key-x", {"type": "aes256-gcm96", "exportable": True})
    for path in (
        "export/encryption-key/regalia-key-x",
        "backup/regalia-key-x",
        "export/encryption-key/one",
    ):
        assert server.ask("GET", f"{MOUNT}/{path}", token=token).status_code == 403
    forbidden = {"plaintext": "AAAA", "context": "AAAA"}
    assert server.ask("POST", f"{MOUNT}/encrypt/one", forbidden, token).status_code == 403
    assert server.ask("POST", f"{MOUNT}/keys/one/config", {}, token).status_code == 403
    assert server.ask("DELETE", f"{MOUNT}/keys/one", token=token).status_code == 403
    server.must("POST", f"{MOUNT}/keys/regalia-key-x/config", {"deletion_allowed": True})
    server.must("DELETE", f"{MOUNT}/keys/regalia-key-x")


def test_the_owners_rules_alone_seal_and_do_not_open(server: OpenBao) -> None:
    server.write_token("sealer.token", server.token("regalia-owner"))
    with opened(server, "sealer.token") as store:
        sealed = store.wrap("one", secret(), CONTEXT)
        code = refusal(lambda: store.recover_for_owner("one", sealed, CONTEXT))
    assert code is KeyServiceCode.KEY_SERVICE_NOT_ALLOWED


def test_rotation_keeps_old_blobs_and_rewraps_inside(server: OpenBao) -> None:
    KIT.make_kek(server.location("token-file=owner.token"), server.folder, None, "turning")
    with opened(server) as store:
        old = store.wrap("turning", secret(), CONTEXT)
        server.must("POST", f"{MOUNT}/keys/turning/rotate")
        new = store.rewrap_under("turning", old, CONTEXT, to="turning")
        moved = store.rewrap_under("turning", old, CONTEXT, to="two")
        assert b":v1:" in old
        assert b":v2:" in new
        for kek, each in (("turning", old), ("turning", new), ("two", moved)):
            with store.recover_for_owner(kek, each, CONTEXT) as key:
                assert key.matches(secret())
        code = refusal(lambda: store.rewrap_under("turning", old, OTHER_CONTEXT, to="turning"))
        assert code is KeysCode.KEY_UNWRAP_FAILED
        server.must("POST", f"{MOUNT}/keys/turning/config", {"min_decryption_version": 2})
        code = refusal(lambda: store.recover_for_owner("turning", old, CONTEXT))
        assert code is KeyServiceCode.KEK_VERSION_RETIRED
        store.recover_for_owner("turning", new, CONTEXT).close()


def test_a_disabled_kek_is_named_and_comes_back(server: OpenBao) -> None:
    KIT.make_kek(server.location("token-file=owner.token"), server.folder, None, "resting")
    with opened(server) as store:
        sealed = store.wrap("resting", secret(), CONTEXT)
        server.must("DELETE", f"{MOUNT}/keys/resting/soft-delete")
        code = refusal(lambda: store.recover_for_owner("resting", sealed, CONTEXT))
        assert code is KeyServiceCode.KEK_DISABLED
        server.must("POST", f"{MOUNT}/keys/resting/soft-delete-restore")
        store.recover_for_owner("resting", sealed, CONTEXT).close()


@pytest.mark.parametrize(
    "members",
    [
        {"type": "aes256-gcm96"},
        {"type": "aes256-gcm96", "derived": True, "exportable": True},
        {"type": "aes256-gcm96", "derived": True, "allow_plaintext_backup": True},
        {"type": "chacha20-poly1305", "derived": True},
    ],
)
def test_keks_that_protect_less_are_refused(
    server: OpenBao, owner: OpenBaoKeyStore, members: dict[str, object]
) -> None:
    name = f"by-hand-{secrets.token_hex(4)}"
    server.must("POST", f"{MOUNT}/keys/{name}", members)
    assert refusal(lambda: owner.wrap(name, secret(), CONTEXT)) is KeyServiceCode.KEK_UNSUITED


def test_what_a_killed_broker_left_is_removed(server: OpenBao) -> None:
    old, young = (f"regalia-key-{int(time.time()) - age:08x}-{'0' * 32}" for age in (900, 5))
    for name in (old, young):
        server.must("POST", f"{MOUNT}/keys/{name}", {"type": "aes256-gcm96", "exportable": True})
    opened(server, "broker.token").close()
    keys = server.must("LIST", f"{MOUNT}/keys")["data"]["keys"]
    assert old not in keys
    assert young in keys
    server.must("POST", f"{MOUNT}/keys/{young}/config", {"deletion_allowed": True})
    server.must("DELETE", f"{MOUNT}/keys/{young}")


def test_a_key_that_cannot_be_deleted_is_not_released(server: OpenBao, blob: bytes) -> None:
    rules = BROKER.replace(', "delete"]', "]")
    server.policy("keeps", rules)
    server.write_token("keeps.token", server.token("keeps"))
    with opened(server, "keeps.token") as store:
        code = refusal(lambda: released(store, blob))
    assert code is KeyServiceCode.KEY_SERVICE_NOT_ALLOWED
    for name in server.must("LIST", f"{MOUNT}/keys")["data"]["keys"]:
        if name.startswith("regalia-"):
            server.must("DELETE", f"{MOUNT}/keys/{name}")


def test_the_doctor_tells_what_a_login_may_do(server: OpenBao) -> None:
    location = server.location("token-file=owner.token")
    found = {each.name: each for each in KIT.examine(location, server.folder, None, "one")}
    lacking = [name for name, each in found.items() if not each.holds]
    assert lacking == ["verifies attestation itself"]
    server.policy(
        "root-like",
        'path "regalia/*" { capabilities = ["create", "read", "update", "delete", "list"] }',
    )
    server.write_token("may.token", server.token("root-like"))
    location = server.location("token-file=may.token")
    found = {each.name: each for each in KIT.examine(location, server.folder, None, "one")}
    assert not found["hands no key out in clear"].holds
    assert found["rewraps inside"].holds


def test_another_mount_opens_nothing(server: OpenBao, blob: bytes) -> None:
    server.must("POST", "sys/mounts/other", {"type": "transit"})
    server.policy(
        "other", BROKER.replace("regalia/", "other/") + OWNER.replace("regalia/", "other/")
    )
    server.write_token("other.token", server.token("other"))
    KIT.make_kek(server.location("token-file=other.token", "other"), server.folder, None, "one")
    with opened(server, "other.token", "other") as store:
        code = refusal(lambda: store.recover_for_owner("one", blob, CONTEXT))
        assert code is KeysCode.KEK_MISMATCH
        # An id that was changed to fit does not help: the ciphertext is of another KEK.
        forged = store.kek_id("one").raw + blob[32:]
        code = refusal(lambda: store.recover_for_owner("one", forged, CONTEXT))
        assert code is KeysCode.KEY_UNWRAP_FAILED
    server.write_token("root.token", server.root_token)
    code = refusal(lambda: opened(server, "root.token", "nowhere"))
    assert code is KeyServiceCode.KEY_SERVICE_PATH_UNKNOWN


def test_an_inner_layer_of_another_mount_is_refused(
    server: OpenBao, owner: OpenBaoKeyStore
) -> None:
    """Whoever may encrypt under the KEK can put anything inside; the server opens only its own."""
    inner = owner._transit.encrypt("one", secrets.token_bytes(552), CONTEXT)
    forged = owner.kek_id("one").raw + inner.encode()
    assert refusal(lambda: owner.recover_for_owner("one", forged, CONTEXT)) is (
        KeysCode.KEY_UNWRAP_FAILED
    )
    keys = server.must("LIST", f"{MOUNT}/keys")["data"]["keys"]
    assert not [name for name in keys if name.startswith("regalia-")]


def test_unreachable_at_the_start_ends_soon(server: OpenBao) -> None:
    location = server.location("token-file=owner.token").replace(f":{server.port}/", ":1/")
    begun = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        KIT.open(location, server.folder, None)
    assert caught.value.code is CoreCode.PEER_UNREACHABLE
    assert time.monotonic() - begun < 5
