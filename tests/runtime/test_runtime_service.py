"""A whole runtime against a real broker, a real store and a simulated platform, on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import openai
import pytest
import torch

from regalia.appraisal.policy_codes import PolicyCode
from regalia.core.codec import b64, canonical_json
from regalia.core.errors import (
    CoreCode,
    IntegrityError,
    KeyAccessError,
    LocalError,
    LogError,
    PolicyDenied,
    UnavailableError,
    UsageError,
)
from regalia.crypto.dsse import DsseCode
from regalia.crypto.sign import SigningKey
from regalia.engines.base import GenerationRequest, Message
from regalia.engines.transformers import build_engine
from regalia.runtime import service
from regalia.runtime.codes import RuntimeCode
from regalia.tlog.codes import TlogCode
from regalia.tlog.note import verifier_key_text
from regalia.wire.release import ReleaseResponse
from regalia_testing.models import FilesInMemory
from tests.runtime.stage import PROMPT, client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.wire.release import LogProof
    from tests.runtime.stage import Stage

torch.set_num_threads(1)


def expected(tiny: Path, limit: int) -> str:
    """The answer of the same model, without any of this."""
    engine = build_engine(FilesInMemory.of(tiny), model_name="tiny", options={})
    request = GenerationRequest(
        engine.encode_chat((Message("user", PROMPT),)), limit, (), 0.0, 1.0, None
    )
    return "".join(delta.text for delta in engine.generate(request))


def test_serves_through_the_sealed_path(stage: Stage, tiny: Path) -> None:
    running = stage.start()
    assert running.error is None
    assert running.facts["simulated_tee"] is True
    assert running.facts["model_id"] == str(stage.world.model_id)
    assert running.facts["memory"] == "locked"
    assert any("SIMULATED TEE" in line for line in running.shown), "the banner"
    messages: Any = [{"role": "user", "content": PROMPT}]
    options: Any = {"model": "tiny", "messages": messages, "temperature": 0, "max_tokens": 20}
    with client(stage, running.url) as chat:
        whole = chat.chat.completions.create(**options)
        pieces = list(chat.chat.completions.create(**options, stream=True))
        streamed = "".join(item.choices[0].delta.content or "" for item in pieces)
        assert whole.choices[0].message.content == streamed == expected(tiny, 20)
        assert whole.system_fingerprint == str(stage.world.model_id)
        with pytest.raises(openai.NotFoundError):
            chat.chat.completions.create(**(options | {"model": "nope"}))
    assert running.get("/health").status_code == 200
    refused = running.get("/v1/models")
    assert refused.json()["error"]["code"] == "SEALED_PATH_ONLY"
    metrics = running.get("/metrics").text
    assert 'regalia_requests_total{route="chat",status="200"} 2.0' in metrics
    assert not running.runtime.memory.wiped
    running.stop()
    assert running.error is None
    assert running.runtime.memory.wiped


def test_serves_from_secret_memory(stage: Stage) -> None:
    running = stage.start(text='memory = "secret"')
    if isinstance(running.error, LocalError):
        pytest.skip("this kernel gives no secret memory")
    assert running.facts["memory"] == "secret"
    with client(stage, running.url) as chat:
        chat.completions.create(model="tiny", prompt="hello", max_tokens=3)
    running.stop()
    assert running.runtime.memory.wiped


def test_the_key_is_gone_once_the_model_is_loaded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[Any] = []
    unwrap = service.unwrap

    def watch(*args: Any) -> Any:  # noqa: ANN401
        keys.append(unwrap(*args))
        return keys[-1]

    monkeypatch.setattr(service, "unwrap", watch)
    stage.start()
    (key,) = keys
    with pytest.raises(RuntimeError, match="after close"):
        key.view()
    assert bytes(key._buf) == bytes(32)


def test_no_file_appears_while_it_serves(stage: Stage) -> None:
    before = {path for path in stage.world.folder.rglob("*") if "db" not in path.name}
    running = stage.start()
    with client(stage, running.url) as chat:
        chat.completions.create(model="tiny", prompt="hello", max_tokens=3)
    new = {path for path in stage.world.folder.rglob("*") if "db" not in path.name} - before
    assert {path.name for path in new} == {"runtime.toml", "measured.json"}


# -- refusals before anything is unwrapped ----------------------------------------------------


@pytest.fixture
def no_unwrap(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the key was unwrapped")

    monkeypatch.setattr(service, "unwrap", never)


def answer(change: Callable[[ReleaseResponse], ReleaseResponse]) -> Callable[[bytes], bytes]:
    def rewrite(body: bytes) -> bytes:
        return canonical_json(change(msgspec.json.decode(body, type=ReleaseResponse)))

    return rewrite


def proof_of(stage: Stage, **changes: object) -> LogProof:
    """A genuine proof, in the right log, of a record that says something else."""
    stage.world.ask()
    record = msgspec.structs.replace(stage.world.records()[-1], **changes)
    return stage.world.log.append(record).proof


@pytest.mark.usefixtures("no_unwrap")
def test_a_release_that_is_not_logged_is_refused(stage: Stage) -> None:
    def other_log(response: ReleaseResponse) -> ReleaseResponse:
        signer = SigningKey.generate_ed25519().sign(b"x")
        lines = response.log.checkpoint.rsplit(" ", 1)
        note = f"{lines[0]} {b64(b'abcd' + signer)}\n"
        return msgspec.structs.replace(
            response, log=msgspec.structs.replace(response.log, checkpoint=note)
        )

    stage.between.change = answer(other_log)
    error = stage.refused()
    assert isinstance(error, LogError)
    assert error.code is TlogCode.CHECKPOINT_INVALID


@pytest.mark.usefixtures("no_unwrap")
def test_the_proof_of_another_release_is_refused(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    stage.world.policy = stage.world.make_policy()
    other = proof_of(stage, decision="release", recipient="key:" + "00" * 32)
    stage.between.change = answer(lambda r: msgspec.structs.replace(r, log=other))
    error = stage.refused()
    assert isinstance(error, LogError)
    assert error.code is RuntimeCode.RELEASE_RECORD_MISMATCH


@pytest.mark.usefixtures("no_unwrap")
def test_a_lease_that_the_log_does_not_know_is_refused(stage: Stage) -> None:
    stage.between.change = answer(lambda r: msgspec.structs.replace(r, lease_id="mine"))
    assert stage.refused().code is RuntimeCode.RELEASE_RECORD_MISMATCH
    stage.between.change = answer(lambda r: msgspec.structs.replace(r, lease_s=1 << 20))
    assert stage.refused().code is RuntimeCode.RELEASE_RECORD_MISMATCH


@pytest.mark.usefixtures("no_unwrap")
def test_a_runtime_that_was_measured_with_another_log(make_stage: Callable[..., Stage]) -> None:
    """The broker would refuse it; here the policy lets it pass, and the runtime refuses."""
    stage = make_stage()
    elsewhere = verifier_key_text("log.example/regalia", SigningKey.generate_ed25519().verify_key)
    measured = msgspec.structs.replace(stage.world.runtime_config(), log_key=elsewhere)
    policy = stage.world.policy
    snp = msgspec.structs.replace(policy.platform.snp, host_data="any")
    stage.world.policy = msgspec.structs.replace(
        policy,
        version=policy.version + 1,
        platform=msgspec.structs.replace(policy.platform, snp=snp),
        runtime=msgspec.structs.replace(policy.runtime, log_key="any"),
    )
    stage.world.restart()
    error = stage.refused(measured=measured)
    assert error.code is TlogCode.CHECKPOINT_INVALID
    assert stage.between.releases == 1, "the broker did release"


@pytest.mark.usefixtures("no_unwrap")
def test_a_denial_brings_the_brokers_reasons(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    policy = stage.world.policy
    snp = msgspec.structs.replace(policy.platform.snp, measurements=["00" * 48])
    stage.world.policy = msgspec.structs.replace(
        policy,
        version=policy.version + 1,
        platform=msgspec.structs.replace(policy.platform, snp=snp),
    )
    stage.world.restart()
    error = stage.refused()
    assert isinstance(error, PolicyDenied)
    assert error.code is RuntimeCode.RELEASE_DENIED
    assert [code for code, _ in error.reasons] == [PolicyCode.MEASUREMENT_UNKNOWN]


@pytest.mark.usefixtures("no_unwrap")
def test_another_owners_model_is_refused(stage: Stage) -> None:
    stranger = str(SigningKey.generate_ed25519().verify_key.fingerprint)
    measured = msgspec.structs.replace(stage.world.runtime_config(), owner_key=stranger)
    error = stage.refused(measured=measured)
    assert isinstance(error, IntegrityError)
    assert error.code is DsseCode.SIGNER_UNKNOWN
    assert stage.between.releases == 0


@pytest.mark.usefixtures("no_unwrap")
def test_another_model_is_refused(stage: Stage) -> None:
    measured = msgspec.structs.replace(stage.world.runtime_config(), model_id="model:" + "00" * 32)
    error = stage.refused(measured=measured)
    assert error.code is RuntimeCode.SERVED_MODEL_MISMATCH
    assert stage.between.releases == 0


def test_a_simulated_tee_must_be_asked_for(stage: Stage) -> None:
    error = stage.refused(text="dangerous_unlocked_memory = false")
    assert isinstance(error, UsageError)
    assert error.code is CoreCode.DANGEROUS_NOT_ALLOWED


def test_a_key_that_does_not_open_the_model(stage: Stage) -> None:
    stage.between.change = answer(lambda r: msgspec.structs.replace(r, wrapped_key=b64(bytes(48))))
    error = stage.refused()
    assert isinstance(error, KeyAccessError)
    assert error.code is RuntimeCode.RELEASED_KEY_UNUSABLE


def test_damaged_ciphertext_leaves_nothing_in_memory(stage: Stage) -> None:
    shard = stage.world.sealed / "shard-00000.seal"
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    running = stage.start()
    running.join()
    assert isinstance(running.error, IntegrityError)
    assert running.error.code.name == "CHUNK_FORGED"
    assert running.runtime.memory.size > 0
    assert running.runtime.memory.wiped


@pytest.mark.slow
def test_nobody_answers(stage: Stage) -> None:
    error = stage.refused(text='broker = "http://127.0.0.1:9"')
    assert (error.code, error.exit_status) == (CoreCode.PEER_UNREACHABLE, 8)
    error = stage.refused(text='store = "http://127.0.0.1:9/"')
    assert (error.code, error.exit_status) == (CoreCode.PEER_UNREACHABLE, 8)


def test_a_port_in_use(stage: Stage) -> None:
    running = stage.start()
    taken = running.facts["listen"]
    error = stage.refused(text=f'listen = "{taken}"')
    assert isinstance(error, UnavailableError)
    assert (error.code, error.exit_status) == (CoreCode.PORT_IN_USE, 8)
    assert stage.between.releases == 1, "the address comes first: no key was asked for in vain"
