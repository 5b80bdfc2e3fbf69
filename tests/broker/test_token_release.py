"""Releases from a real PKCS#11 token, from sealing to opening, and what the broker sees of it."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.cli.main import run
from regalia.core.secret import SecretBytes
from regalia.crypto.key_wrapping import open_wrapped
from regalia.keys.devfile_format import FileKeys, parse_document
from regalia.seal.manifest import peek_manifest, verify_manifest
from regalia.seal.progress import no_progress
from regalia.seal.recover import recover_files
from regalia.store.local import LocalBlobs
from regalia.wire.release import ChallengeResponse
from regalia_testing.soft_token import PIN, SoftToken
from tests.broker.harness import KEK, MODEL_KEY, Deployment
from tests.broker.test_broker_command import post, serving
from tests.engines.memory_scan import memory_blocks
from tests.keys.pkcs11.records import runtime
from tests.keys.pkcs11.tokens import add_kek, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.broker.harness import Shared


@pytest.fixture
def token() -> SoftToken:
    token = SoftToken.make(f"b{os.urandom(6).hex()}")
    add_kek(token, KEK)
    return token


def pin_file(folder: Path) -> Path:
    path = folder / "pin"
    path.touch(mode=0o600)
    path.write_bytes(PIN)
    return path


class SealedDeployment(Deployment):
    """A deployment of a model that the owner has sealed with the command."""

    sealed: Path

    def make_manifest(self, version: int) -> bytes:
        data = (self.sealed / "manifest.json").read_bytes()
        content = peek_manifest(data)
        assert content.version == version
        self.model_id = content.model_id
        return data


def test_a_model_is_sealed_released_and_opened(
    shared: Shared, token: SoftToken, tmp_path: Path
) -> None:
    model, sealed = tmp_path / "model", tmp_path / "sealed"
    model.mkdir()
    (model / "config.json").write_bytes(b"{}")
    (model / "weights.bin").write_bytes(os.urandom(100_000))
    owner = tmp_path / "owner.key"
    owner.touch(mode=0o600)
    owner.write_bytes(shared.owner.to_pem(None))
    args = ["seal", str(model), "--out", str(sealed), "--key", f"pkcs11:{token.location}#{KEK}"]
    args += ["--version", "3", "--sign", str(owner), "--passphrase-file", str(pin_file(tmp_path))]
    assert run(args) == 0

    SealedDeployment.sealed = sealed
    (tmp_path / "broker").mkdir()
    with opened(token) as store:
        deployment = SealedDeployment(tmp_path / "broker", shared, store=store)
        deployment.wrap_key = runtime().spki
        answer = deployment.ask()
        response = deployment.granted(answer)
        wrapped = SecretBytes(bytearray(deployment.open(answer)))
        (record,) = deployment.records()
        deployment.close()
    assert (response.custody, response.key_wrapping) == ("hsm", "rsa-oaep-sha1")
    assert (record.custody, record.key_wrapping) == ("hsm", "rsa-oaep-sha1")
    assert len(wrapped) == 384

    manifest = verify_manifest(
        deployment.manifest, signers=(shared.owner.verify_key,), minimum_version=1
    )
    with (
        open_wrapped(response.key_wrapping, wrapped, runtime().private) as key,
        LocalBlobs(sealed) as blobs,
    ):
        out = tmp_path / "out"
        recover_files(blobs, manifest, key, out, threads=1, progress=no_progress)
    assert (out / "weights.bin").read_bytes() == (model / "weights.bin").read_bytes()


def test_a_token_that_is_gone_releases_nothing_and_the_broker_goes_on(
    shared: Shared, token: SoftToken, tmp_path: Path
) -> None:
    with opened(token) as store:
        deployment = Deployment(tmp_path, shared, store=store)
        deployment.wrap_key = runtime().spki
        away = token.remove()
        for code in ("KEK_UNKNOWN", "TOKEN_NOT_FOUND"):
            answer = deployment.ask()
            assert answer.status_code == 503
            assert deployment.refused(answer).code == code
            assert token.label not in answer.text  # details are for the broker's own log
        token.put_back(away)
        assert len(deployment.open(deployment.ask())) == 384
        deployment.close()


@contextmanager
def releasing(deployment: Deployment, config: Path) -> Iterator[tuple[int, Callable[[], None]]]:
    """A broker's process, and a function that has it release once."""
    with serving(config) as (process, facts):

        def release() -> None:
            body = post(facts, "/v1/challenge", {"model_id": str(deployment.model_id)})
            asked = msgspec.json.decode(body, type=ChallengeResponse)
            post(facts, "/v1/release", deployment.request(asked))

        yield process.pid, release


def copies_in(pid: int, *secrets: bytes) -> list[int]:
    """How often each secret stands in the memory of a process, which is stopped meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        _, memory = memory_blocks(pid, [])
    finally:
        os.kill(pid, signal.SIGCONT)
    return [sum(block.count(secret) for block in memory) for secret in secrets]


@pytest.mark.parametrize(
    "releases", [pytest.param(40, id="40"), pytest.param(1000, id="1000", marks=pytest.mark.slow)]
)
def test_the_broker_keeps_no_model_key(
    shared: Shared, token: SoftToken, tmp_path: Path, releases: int
) -> None:
    """Between releases there is no copy of it, nor a trace of one; but the PIN is there.

    SoftHSM runs in the broker's own process, so during a release its own code has the key there
    for a moment, as a hardware token has it in its own memory. This cannot be tested away.
    """
    with opened(token) as store:
        deployment = Deployment(tmp_path, shared, store=store)
    deployment.wrap_key = runtime().spki
    settings: dict[str, Any] = {
        "keys.store": f'"pkcs11:{token.location}"',
        "keys.passphrase_file": '"pin"',
    }
    config = deployment.write_config(tmp_path / "config", **settings)
    pin_file(config.parent)
    with releasing(deployment, config) as (pid, release):
        for turn in range(releases):
            release()
            if (turn + 1) % (releases // 10) == 0:
                model_key, pin = copies_in(pid, MODEL_KEY, PIN)
                assert model_key == 0, turn
                assert pin > 0, "the search does not find what is there"
    log = (config.parent / "stderr").read_text()
    assert log.count("broker.release.granted") == releases
    assert "SOFTWARE TOKEN" in log
    assert "Traceback" not in log
    deployment.close()


def test_a_broker_with_a_file_store_has_what_opens_its_keks(
    deployment: Deployment, tmp_path: Path
) -> None:
    """The same search, where a key of the store lies in memory all the time."""
    config = deployment.write_config(tmp_path / "config")
    document = parse_document(deployment.shared.store_path.read_bytes())
    with SecretBytes(bytearray(deployment.shared.passphrase)) as passphrase:
        seal_key = FileKeys(passphrase, document.kdf).seal_key.view().tobytes()
    with releasing(deployment, config) as (pid, release):
        release()
        (found,) = copies_in(pid, seal_key)
    assert found > 0
