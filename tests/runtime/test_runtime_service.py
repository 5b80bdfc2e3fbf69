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
from regalia.runtime import grant
from regalia.runtime.codes import RuntimeCode
from regalia.tlog.codes import TlogCode
from regalia.tlog.note import verifier_key_text
from regalia.wire.release import ReleaseResponse
from regalia_testing.models import FilesInMemory
from tests.runtime.live_deployment import PROMPT, client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.wire.release import LogProof
    from tests.runtime.live_deployment import LiveDeployment

torch.set_num_threads(1)


def expected(tiny: Path, limit: int) -> str:
    """The answer of the same model, without any of this."""
    engine = build_engine(FilesInMemory.of(tiny), model_name="tiny", options={})
    request = GenerationRequest(
        engine.encode_chat((Message("user", PROMPT),)), limit, (), 0.0, 1.0, None
    )
    return "".join(delta.text for delta in engine.generate(request))


def test_serves_through_the_sealed_path(live: LiveDeployment, tiny: Path) -> None:
    running = live.start()
    assert running.error is None
    assert running.facts["simulated_tee"] is True
    assert running.facts["model_id"] == str(live.deployment.model_id)
    assert running.facts["memory"] == "locked"
    assert any("SIMULATED TEE" in line for line in running.shown), "the banner"
    messages: Any = [{"role": "user", "content": PROMPT}]
    options: Any = {"model": "tiny", "messages": messages, "temperature": 0, "max_tokens": 20}
    with client(live, running.url) as chat:
        whole = chat.chat.completions.create(**options)
        pieces = list(chat.chat.completions.create(**options, stream=True))
        streamed = "".join(item.choices[0].delta.content or "" for item in pieces)
        assert whole.choices[0].message.content == streamed == expected(tiny, 20)
        assert whole.system_fingerprint == str(live.deployment.model_id)
        with pytest.raises(openai.NotFoundError):
            chat.chat.completions.create(**(options | {"model": "nope"}))
    assert running.get("/health").status_code == 200
    refused = running.get("/v1/models")
    assert refused.json()["error"]["code"] == "SEALED_PATH_ONLY"
    metrics = running.get("/metrics").text
    assert 'regalia_requests_total{route="chat",status="200"} 2.0' in metrics
    assert not running.runtime.workload.wiped
    running.stop()
    assert running.error is None
    assert running.runtime.workload.wiped


def test_serves_from_secret_memory(live: LiveDeployment) -> None:
    running = live.start(text='memory = "secret"')
    if isinstance(running.error, LocalError):
        pytest.skip("this kernel gives no secret memory")
    assert running.facts["memory"] == "secret"
    with client(live, running.url) as chat:
        chat.completions.create(model="tiny", prompt="hello", max_tokens=3)
    running.stop()
    assert running.runtime.workload.wiped


def test_the_key_is_gone_once_the_model_is_loaded(
    live: LiveDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[Any] = []
    unwrap = grant.unwrap

    def watch(*args: Any) -> Any:  # noqa: ANN401
        keys.append(unwrap(*args))
        return keys[-1]

    monkeypatch.setattr(grant, "unwrap", watch)
    live.start()
    (key,) = keys
    with pytest.raises(RuntimeError, match="after close"):
        key.view()
    assert bytes(key._buf) == bytes(32)


def test_no_file_appears_while_it_serves(live: LiveDeployment) -> None:
    before = {path for path in live.deployment.folder.rglob("*") if "db" not in path.name}
    running = live.start()
    with client(live, running.url) as chat:
        chat.completions.create(model="tiny", prompt="hello", max_tokens=3)
    new = {path for path in live.deployment.folder.rglob("*") if "db" not in path.name} - before
    assert {path.name for path in new} == {"runtime.toml", "measured.json"}


# -- refusals before anything is unwrapped ----------------------------------------------------


@pytest.fixture
def no_unwrap(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the key was unwrapped")

    monkeypatch.setattr(grant, "unwrap", never)


def answer(change: Callable[[ReleaseResponse], ReleaseResponse]) -> Callable[[bytes], bytes]:
    def rewrite(body: bytes) -> bytes:
        return canonical_json(change(msgspec.json.decode(body, type=ReleaseResponse)))

    return rewrite


def proof_of(live: LiveDeployment, **changes: object) -> LogProof:
    """A genuine proof, in the right log, of a record that says something else."""
    live.deployment.ask()
    record = msgspec.structs.replace(live.deployment.records()[-1], **changes)
    return live.deployment.log.append(record).proof


@pytest.mark.usefixtures("no_unwrap")
def test_a_release_that_is_not_logged_is_refused(live: LiveDeployment) -> None:
    def other_log(response: ReleaseResponse) -> ReleaseResponse:
        signer = SigningKey.generate_ed25519().sign(b"x")
        lines = response.log.checkpoint.rsplit(" ", 1)
        note = f"{lines[0]} {b64(b'abcd' + signer)}\n"
        return msgspec.structs.replace(
            response, log=msgspec.structs.replace(response.log, checkpoint=note)
        )

    live.between.change = answer(other_log)
    error = live.refused()
    assert isinstance(error, LogError)
    assert error.code is TlogCode.CHECKPOINT_INVALID


@pytest.mark.usefixtures("no_unwrap")
def test_the_proof_of_another_release_is_refused(make_live: Callable[..., LiveDeployment]) -> None:
    live = make_live()
    live.deployment.policy = live.deployment.make_policy()
    other = proof_of(live, decision="release", recipient="key:" + "00" * 32)
    live.between.change = answer(lambda r: msgspec.structs.replace(r, log=other))
    error = live.refused()
    assert isinstance(error, LogError)
    assert error.code is RuntimeCode.RELEASE_RECORD_MISMATCH


@pytest.mark.usefixtures("no_unwrap")
def test_a_lease_that_the_log_does_not_know_is_refused(live: LiveDeployment) -> None:
    live.between.change = answer(lambda r: msgspec.structs.replace(r, lease_id=f"lease:{32 * '7'}"))
    assert live.refused().code is RuntimeCode.RELEASE_RECORD_MISMATCH
    live.between.change = answer(lambda r: msgspec.structs.replace(r, lease_s=1 << 20))
    assert live.refused().code is RuntimeCode.RELEASE_RECORD_MISMATCH


@pytest.mark.usefixtures("no_unwrap")
def test_a_runtime_that_was_measured_with_another_log(
    make_live: Callable[..., LiveDeployment],
) -> None:
    """The broker would refuse it; here the policy lets it pass, and the runtime refuses."""
    live = make_live()
    elsewhere = verifier_key_text("log.example/regalia", SigningKey.generate_ed25519().verify_key)
    measured = msgspec.structs.replace(live.deployment.runtime_config(), log_key=elsewhere)
    policy = live.deployment.policy
    snp = msgspec.structs.replace(policy.platform.snp, host_data="any")
    live.deployment.policy = msgspec.structs.replace(
        policy,
        version=policy.version + 1,
        platform=msgspec.structs.replace(policy.platform, snp=snp),
        runtime=msgspec.structs.replace(policy.runtime, log_key="any"),
    )
    live.deployment.restart()
    error = live.refused(measured=measured)
    assert error.code is TlogCode.CHECKPOINT_INVALID
    assert live.between.releases == 1, "the broker did release"


@pytest.mark.usefixtures("no_unwrap")
def test_a_denial_brings_the_brokers_reasons(make_live: Callable[..., LiveDeployment]) -> None:
    live = make_live()
    policy = live.deployment.policy
    snp = msgspec.structs.replace(policy.platform.snp, measurements=["00" * 48])
    live.deployment.policy = msgspec.structs.replace(
        policy,
        version=policy.version + 1,
        platform=msgspec.structs.replace(policy.platform, snp=snp),
    )
    live.deployment.restart()
    error = live.refused()
    assert isinstance(error, PolicyDenied)
    assert error.code is RuntimeCode.RELEASE_DENIED
    assert [code for code, _ in error.reasons] == [PolicyCode.MEASUREMENT_UNKNOWN]


@pytest.mark.usefixtures("no_unwrap")
def test_another_owners_model_is_refused(live: LiveDeployment) -> None:
    stranger = str(SigningKey.generate_ed25519().verify_key.fingerprint)
    measured = msgspec.structs.replace(live.deployment.runtime_config(), owner_key=stranger)
    error = live.refused(measured=measured)
    assert isinstance(error, IntegrityError)
    assert error.code is DsseCode.SIGNER_UNKNOWN
    assert live.between.releases == 0


@pytest.mark.usefixtures("no_unwrap")
def test_another_model_is_refused(live: LiveDeployment) -> None:
    measured = msgspec.structs.replace(
        live.deployment.runtime_config(), model_id="model:" + "00" * 32
    )
    error = live.refused(measured=measured)
    assert error.code is RuntimeCode.SERVED_MODEL_MISMATCH
    assert live.between.releases == 0


def test_a_simulated_tee_must_be_asked_for(live: LiveDeployment) -> None:
    error = live.refused(text="dangerous_unlocked_memory = false")
    assert isinstance(error, UsageError)
    assert error.code is CoreCode.DANGEROUS_NOT_ALLOWED


def test_a_key_that_does_not_open_the_model(live: LiveDeployment) -> None:
    live.between.change = answer(lambda r: msgspec.structs.replace(r, wrapped_key=b64(bytes(48))))
    error = live.refused()
    assert isinstance(error, KeyAccessError)
    assert error.code is RuntimeCode.RELEASED_KEY_UNUSABLE


def test_damaged_ciphertext_leaves_nothing_in_memory(live: LiveDeployment) -> None:
    shard = live.deployment.sealed / "shard-00000.seal"
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    running = live.start()
    running.join()
    assert isinstance(running.error, IntegrityError)
    assert running.error.code.name == "CHUNK_FORGED"
    assert running.runtime.workload.size > 0
    assert running.runtime.workload.wiped


@pytest.mark.slow
def test_nobody_answers(live: LiveDeployment) -> None:
    error = live.refused(text='broker = "http://127.0.0.1:9"')
    assert (error.code, error.exit_status) == (CoreCode.PEER_UNREACHABLE, 8)
    error = live.refused(text='store = "http://127.0.0.1:9/"')
    assert (error.code, error.exit_status) == (CoreCode.PEER_UNREACHABLE, 8)


def test_a_port_in_use(live: LiveDeployment) -> None:
    running = live.start()
    taken = running.facts["listen"]
    error = live.refused(text=f'listen = "{taken}"')
    assert isinstance(error, UnavailableError)
    assert (error.code, error.exit_status) == (CoreCode.PORT_IN_USE, 8)
    assert live.between.releases == 1, "the address comes first: no key was asked for in vain"
