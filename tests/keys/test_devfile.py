"""The development key store: what it keeps, and what it refuses."""

from __future__ import annotations

import stat
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from regalia.core.codec import b64, lp, unb64
from regalia.core.errors import KeyAccessError, LocalError, ParseError, RegaliaError
from regalia.core.secret import SecretBytes
from regalia.core.types import ModelId
from regalia.keys import devfile_format as fmt
from regalia.keys.base import Recipient
from regalia.keys.devfile import WRAPPED_SIZE, create_store, open_store
from regalia.seal.format.sealed import SealId, wrap_context
from regalia.wire.release import LoggedRecord
from tests.keys.asking import logged

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.keys.devfile import DevFileKeyStore

MODEL = ModelId(b"m" * 32)
OTHER_MODEL = ModelId(b"x" * 32)
CONTEXT = wrap_context(MODEL, 1, SealId(b"s" * 32))


def secret(data: bytes) -> SecretBytes:
    return SecretBytes(bytearray(data))


PASSPHRASE = b"correct horse battery staple"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("keys") / "store.json"
    with create_store(path, secret(PASSPHRASE)) as store:
        store.add_kek("one")
        store.add_kek("two")
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, original: bytes) -> Path:
    file = tmp_path / "store.json"
    file.write_bytes(original)
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, original: bytes) -> DevFileKeyStore:
    file = tmp_path_factory.mktemp("shared") / "store.json"
    file.write_bytes(original)
    file.chmod(0o600)
    return open_store(file, secret(PASSPHRASE))


RECIPIENT = Recipient(b"nobody wraps to it", "sev-snp", b"")


def rewrapped(
    store: DevFileKeyStore, blob: bytes, context: bytes, entry: LoggedRecord
) -> SecretBytes:
    return store.rewrap_logged("one", blob, context, recipient=RECIPIENT, logged=entry)


def test_file_is_private_and_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    with create_store(path, secret(PASSPHRASE)) as store:
        assert store.custody == "broker"
        assert "DEVELOPMENT" in store.banner
        store.add_kek("k")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert store.banner.encode() in path.read_bytes()
    assert list(tmp_path.iterdir()) == [path]  # no temporary file stays behind


def test_creating_twice_keeps_the_first(path: Path, original: bytes) -> None:
    with pytest.raises(LocalError, match="FILE_EXISTS"):
        create_store(path, secret(PASSPHRASE))
    assert path.read_bytes() == original


def test_round_trip_over_processes(path: Path) -> None:
    with open_store(path, secret(PASSPHRASE)) as store:
        blob = store.wrap("one", secret(b"k" * 32), CONTEXT)
    assert len(blob) == WRAPPED_SIZE == 92
    with open_store(path, secret(PASSPHRASE)) as store:
        assert store.recover_for_owner("one", blob, CONTEXT).matches(secret(b"k" * 32))
        opened = rewrapped(store, blob, CONTEXT, logged())
        assert opened.matches(secret(b"k" * 32))
        assert store.names() == ("one", "two")


def test_wrapping_is_randomized_and_hides_the_key(shared: DevFileKeyStore) -> None:
    blobs = {shared.wrap("one", secret(b"k" * 32), CONTEXT) for _ in range(8)}
    assert len(blobs) == 8
    assert not any(b"kkkk" in blob for blob in blobs)


def test_model_key_of_another_size_is_a_programmers_error(shared: DevFileKeyStore) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        shared.wrap("one", secret(b"k" * 16), CONTEXT)


def refused(call: Any) -> str:  # noqa: ANN401 - any callable
    with pytest.raises(KeyAccessError) as caught:
        call()
    return caught.value.code.name


def test_wrong_kek_context_or_name(shared: DevFileKeyStore) -> None:
    blob = shared.wrap("one", secret(b"k" * 32), CONTEXT)
    assert refused(lambda: shared.recover_for_owner("two", blob, CONTEXT)) == "KEK_MISMATCH"
    assert refused(lambda: shared.recover_for_owner("no", blob, CONTEXT)) == "KEK_UNKNOWN"
    assert refused(lambda: shared.wrap("no", secret(b"k" * 32), CONTEXT)) == "KEK_UNKNOWN"
    other = wrap_context(MODEL, 2, SealId(b"s" * 32))
    assert refused(lambda: shared.recover_for_owner("one", blob, other)) == "KEY_UNWRAP_FAILED"


def test_every_byte_of_a_wrapped_key_matters(shared: DevFileKeyStore) -> None:
    blob = shared.wrap("one", secret(b"k" * 32), CONTEXT)
    for position in range(len(blob)):
        changed = bytearray(blob)
        changed[position] ^= 1
        code = refused(lambda data=bytes(changed): shared.recover_for_owner("one", data, CONTEXT))
        assert code == ("KEK_MISMATCH" if position < 32 else "KEY_UNWRAP_FAILED")
    for size in (0, 31, 91, 93):
        data = (blob + b"\0")[:size]
        assert refused(lambda d=data: shared.recover_for_owner("one", d, CONTEXT)) == (
            "KEY_UNWRAP_FAILED"
        )


def test_only_a_logged_release_of_this_model_opens(shared: DevFileKeyStore) -> None:
    blob = shared.wrap("one", secret(b"k" * 32), CONTEXT)

    def unwrap(entry: LoggedRecord) -> str:
        return refused(lambda: rewrapped(shared, blob, CONTEXT, entry))

    assert unwrap(logged("denial")) == "RECORD_NO_RELEASE"
    assert unwrap(logged(model_id=str(OTHER_MODEL))) == "RECORD_OTHER_MODEL"
    assert unwrap(logged(model_id="")) == "RECORD_OTHER_MODEL"


@pytest.mark.parametrize(
    "context",
    [
        # Who seals a model chooses the seal id: the id of another model in it counts for nothing.
        wrap_context(MODEL, 1, SealId(OTHER_MODEL.raw)),
        CONTEXT + lp(OTHER_MODEL.raw),
        lp(OTHER_MODEL.raw),
        wrap_context(OTHER_MODEL, 1, SealId(b"s" * 32)) + b"\0",
        wrap_context(OTHER_MODEL, 1, SealId(b"s" * 32))[1:],
        b"",
    ],
)
def test_the_model_is_read_from_its_place_in_the_context(
    shared: DevFileKeyStore, context: bytes
) -> None:
    blob = shared.wrap("one", secret(b"k" * 32), context)
    entry = logged(model_id=str(OTHER_MODEL))
    assert refused(lambda: rewrapped(shared, blob, context, entry)) == ("RECORD_OTHER_MODEL")


def test_a_logged_record_cannot_be_made_by_hand() -> None:
    record = logged()
    with pytest.raises(TypeError, match=r"regalia\.tlog"):
        LoggedRecord(record.record, record.entry, 0, record.proof, object())


def test_wrong_passphrase(path: Path) -> None:
    with pytest.raises(KeyAccessError, match="KEY_STORE_LOCKED"):
        open_store(path, secret(b"wrong"))


def test_file_readable_by_others(path: Path) -> None:
    path.chmod(0o640)
    with pytest.raises(LocalError, match="INSECURE_MODE"):
        open_store(path, secret(PASSPHRASE))


def document(path: Path) -> fmt.Document:
    return fmt.parse_document(path.read_bytes())


def rewrite(path: Path, **changes: Any) -> None:  # noqa: ANN401
    path.write_bytes(msgspec.structs.replace(document(path), **changes).encode())


def code_of_open(path: Path) -> str:
    with pytest.raises(RegaliaError) as caught:
        open_store(path, secret(PASSPHRASE))
    return caught.value.code.name


def flipped(text: str) -> str:
    raw = bytearray(unb64(text, what="t"))
    raw[len(raw) // 2] ^= 1
    return b64(raw)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("commitment", "KEY_STORE_LOCKED"),
        ("salt", "KEY_STORE_LOCKED"),
        ("mac", "KEY_STORE_TAMPERED"),
        ("drop_key", "KEY_STORE_TAMPERED"),
        ("rename_key", "KEY_STORE_TAMPERED"),
        ("swap_keys", "KEY_STORE_TAMPERED"),
        ("flip_key", "KEY_STORE_TAMPERED"),
        ("flip_id", "KEY_STORE_TAMPERED"),
    ],
)
def test_tampered_file(path: Path, change: str, code: str) -> None:
    doc = document(path)
    one, two = doc.keys
    swap = msgspec.structs.replace
    changes: dict[str, dict[str, Any]] = {
        "commitment": {"commitment": flipped(doc.commitment)},
        "salt": {"kdf": swap(doc.kdf, salt=flipped(doc.kdf.salt))},
        "mac": {"mac": flipped(doc.mac)},
        "drop_key": {"keys": [one]},
        "rename_key": {"keys": [one, swap(two, name="zwei")]},
        "swap_keys": {"keys": [swap(one, sealed=two.sealed), swap(two, sealed=one.sealed)]},
        "flip_key": {"keys": [swap(one, sealed=flipped(one.sealed)), two]},
        "flip_id": {"keys": [swap(one, id="kek:" + "0" * 64), two]},
    }
    rewrite(path, **changes[change])
    assert code_of_open(path) == code


def test_seal_of_a_kek_is_bound_to_its_name_even_without_the_mac(path: Path) -> None:
    with open_store(path, secret(PASSPHRASE)) as store:
        blob = store.wrap("one", secret(b"k" * 32), CONTEXT)
        one, two = document(path).keys
        swapped = msgspec.structs.replace(one, sealed=two.sealed)
        store._document = msgspec.structs.replace(store._document, keys=[swapped, two])
        code = refused(lambda: store.recover_for_owner("one", blob, CONTEXT))
    assert code == "KEY_STORE_TAMPERED"


@pytest.mark.parametrize(
    "kdf",
    [
        {"memory_kib": 100 * 1024 * 1024},  # 100 GiB
        {"memory_kib": 1},
        {"iterations": 10**9},
        {"iterations": 1},
        {"lanes": 0},
        {"lanes": 10**6},
        {"algorithm": "md5"},
    ],
)
def test_parameters_that_would_hurt_us(path: Path, kdf: dict[str, Any]) -> None:
    rewrite(path, kdf=msgspec.structs.replace(document(path).kdf, **kdf))
    assert code_of_open(path) == "KEY_STORE_PARAMETERS"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff" * 64,
        b"{" * 5000,
        b'{"format":"regalia/development-key-store/v2"}',
    ],
)
def test_no_key_store_at_all(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "f"
    file.write_bytes(data)
    file.chmod(0o600)
    with pytest.raises(ParseError):
        open_store(file, secret(PASSPHRASE))


@pytest.mark.parametrize("name", ["", "UP", "a/b", "../x", "-a", "a" * 65, "a\n"])
def test_names_that_are_not_taken(path: Path, original: bytes, name: str) -> None:
    with open_store(path, secret(PASSPHRASE)) as store, pytest.raises(RegaliaError):
        store.add_kek(name)
    assert path.read_bytes() == original
    one, _ = document(path).keys
    rewrite(path, keys=[msgspec.structs.replace(one, name=name)])
    assert code_of_open(path) == "MALFORMED"


def test_file_is_canonical(original: bytes) -> None:
    assert fmt.parse_document(original).encode() == original
    with pytest.raises(ParseError, match="canonical"):
        fmt.parse_document(original + b"\n")


def test_same_name_twice(path: Path) -> None:
    with open_store(path, secret(PASSPHRASE)) as store:
        assert refused(lambda: store.add_kek("one")) == "KEK_EXISTS"


def test_keys_added_by_two_processes_are_both_kept(path: Path) -> None:
    with open_store(path, secret(PASSPHRASE)) as a, open_store(path, secret(PASSPHRASE)) as b:
        threads = [
            threading.Thread(target=store.add_kek, args=(f"{label}{i}",))
            for i in range(5)
            for label, store in (("a", a), ("b", b))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with open_store(path, secret(PASSPHRASE)) as store:
        assert len(store.names()) == 12


def test_adding_to_a_file_that_somebody_else_replaced(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    create_store(other, secret(b"another")).close()
    with open_store(path, secret(PASSPHRASE)) as store:
        other.replace(path)
        assert refused(lambda: store.add_kek("new")) == "KEY_STORE_LOCKED"


def test_nothing_secret_is_printed(shared: DevFileKeyStore) -> None:
    with pytest.raises(KeyAccessError) as caught:
        shared.recover_for_owner("one", b"\0" * 92, CONTEXT)
    text = repr(shared) + str(vars(shared)) + repr(shared._keys) + caught.value.explain()
    for key in (shared._keys.seal_key, shared._keys.mac_key):
        assert key.view().hex() not in text
        assert repr(key.view().tobytes()) not in text


def test_closed_store_gives_nothing(path: Path) -> None:
    store = open_store(path, secret(PASSPHRASE))
    store.close()
    with pytest.raises(RuntimeError, match="after close"):
        store.wrap("one", secret(b"k" * 32), CONTEXT)


def test_what_comes_out_before_the_tag_fails_is_wiped(
    tmp_path: Path, original: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GCM under another context: the keystream is right, so the plaintext is the key itself."""
    path = tmp_path / "store.json"
    path.write_bytes(original)
    path.chmod(0o600)
    outputs: list[bytearray] = []

    class Watched:
        def __init__(self, key: Any) -> None:  # noqa: ANN401
            self._aead = AESGCM(key)

        def decrypt_into(self, nonce: Any, data: Any, aad: Any, buf: Any) -> int:  # noqa: ANN401
            outputs.append(buf)
            return self._aead.decrypt_into(nonce, data, aad, buf)

    with open_store(path, secret(PASSPHRASE)) as store:
        with secret(b"m" * 32) as key:
            blob = store.wrap("one", key, CONTEXT)
        monkeypatch.setattr("regalia.keys.devfile.AESGCM", Watched)
        with pytest.raises(KeyAccessError, match="KEY_UNWRAP_FAILED"):
            store.recover_for_owner("one", blob, CONTEXT + b"another")
    assert [bytes(output) for output in outputs] == [bytes(32)] * 2  # the KEK and the model key
