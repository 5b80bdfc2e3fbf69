"""A model with an adapter, from two sealed folders to tokens, and what is refused on the way."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import openai
import pytest
import torch

from regalia.appraisal.policy_codes import PolicyCode
from regalia.broker.appraise import base_findings
from regalia.broker.codes import BrokerCode
from regalia.core.errors import KeyAccessError, PolicyDenied, RegaliaError
from regalia.core.types import ModelId
from regalia.crypto.dsse import DsseCode
from regalia.crypto.sign import SigningKey
from regalia.engines.base import GenerationRequest, Message
from regalia.engines.codes import EngineCode
from regalia.engines.transformers import build_engine
from regalia.runtime import service
from regalia.runtime.codes import RuntimeCode
from regalia.seal.codes import SealCode
from regalia_testing.adapters import tiny_adapter
from regalia_testing.models import FilesInMemory, tiny_llama
from tests.runtime.adapter_deployment import AdapterDeployment
from tests.runtime.live_deployment import LEASE_S, PROMPT, Between, LiveDeployment, client, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from regalia.core.errors import Code
    from tests.broker.harness import Shared
    from tests.runtime.live_deployment import Running

torch.set_num_threads(1)
TOKENS = 20
OTHER_MODEL = ModelId(b"\xba" * 32)


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_adapter(tmp_path_factory.mktemp("adapters") / "adapter")


@pytest.fixture
def make_tuned(
    shared: Shared, tiny: Path, adapter: Path, tmp_path: Path
) -> Iterator[Callable[..., TunedLive]]:
    with ExitStack() as cleanup:

        def make(**options: Any) -> TunedLive:  # noqa: ANN401
            deployment = AdapterDeployment(tmp_path, shared, tiny, adapter, **options)
            cleanup.callback(deployment.close)
            between = Between(deployment)
            url = cleanup.enter_context(served(between))
            live = TunedLive(deployment, between, url)
            cleanup.callback(lambda: [item.stop() for item in live.started])
            return live

        yield make


@pytest.fixture
def tuned(make_tuned: Callable[..., TunedLive]) -> TunedLive:
    return make_tuned()


class TunedLive(LiveDeployment):
    """Runtimes that are started with the adapter's store, unless a test says otherwise."""

    deployment: AdapterDeployment

    def start(self, *, text: str | None = None, **options: Any) -> Running:  # noqa: ANN401
        store = f'adapter_store = "{self.deployment.sealed_adapter}"'
        return super().start(text=store if text is None else text, **options)

    def refused_unasked(self, code: Code, **options: Any) -> RegaliaError:  # noqa: ANN401
        """Start; demand this refusal, and that nobody was asked for a key."""
        error = self.refused(**options)
        assert error.code is code, error
        assert self.between.releases == 0
        assert self.deployment.records() == []
        return error


def answer(base: Path, adapter: Path | None) -> str:
    """What the plain files answer, without any of this."""
    files = FilesInMemory.of(base)
    engine = (
        build_engine(files, model_name="tiny", options={})
        if adapter is None
        else build_engine.with_adapter(
            files, FilesInMemory.of(adapter), model_name="tiny", options={}
        )
    )
    tokens = engine.encode_chat((Message("user", PROMPT),))
    request = GenerationRequest(tokens, TOKENS, (), 0.0, 1.0, None)
    return "".join(delta.text for delta in engine.generate(request))


def ask(live: LiveDeployment, running: Running) -> str | None:
    messages: Any = [{"role": "user", "content": PROMPT}]
    with client(live, running.url) as chat:
        whole = chat.chat.completions.create(
            model="tiny", messages=messages, temperature=0, max_tokens=TOKENS
        )
    return whole.choices[0].message.content


# Served -------------------------------------------------------------------------------------------


def test_answers_are_those_of_the_merged_model(tuned: TunedLive, tiny: Path, adapter: Path) -> None:
    running = tuned.start()
    assert running.error is None
    deployment = tuned.deployment
    assert running.facts["adapter"] == str(deployment.adapter_id)
    assert ask(tuned, running) == answer(tiny, adapter) != answer(tiny, None)
    released = [(record.decision, record.model_id) for record in deployment.records()]
    assert released == [
        ("release", str(deployment.model_id)),
        ("release", str(deployment.adapter_id)),
    ]
    workload: Any = running.runtime.workload
    assert workload.adapter_memory.size > 0
    assert workload.adapter_memory.wiped, "while the model is served"
    assert not workload.wiped
    running.stop()
    assert running.error is None
    assert workload.wiped
    assert len(deployment.notices()) == 2, "both leases were given back"


def test_a_base_that_is_sealed_again_keeps_its_adapters(
    make_tuned: Callable[..., TunedLive], tiny: Path, adapter: Path
) -> None:
    live = make_tuned()
    deployment = live.deployment
    shutil.rmtree(deployment.sealed)
    again = deployment.seal(tiny, deployment.sealed, version=4)
    assert again.model_id == deployment.model_id
    deployment.manifest = (deployment.sealed / "manifest.json").read_bytes()
    deployment.restart()
    assert ask(live, live.start()) == answer(tiny, adapter)


def test_clients_that_accept_no_adapter_send_no_prompt(tuned: TunedLive) -> None:
    running = tuned.start()
    strict = tuned.deployment.trust()
    rule = msgspec.structs.replace(strict.policy.runtime, adapters=msgspec.UNSET)
    policy = msgspec.structs.replace(strict.policy, runtime=rule)
    tuned.deployment.trust = lambda: replace(strict, policy=policy)  # type: ignore[method-assign] # the test's own
    with pytest.raises(openai.APIConnectionError) as caught:
        ask(tuned, running)
    assert "ADAPTER_DENIED" in str(caught.value.__cause__)


@pytest.mark.slow
def test_losing_the_adapters_lease_wipes_everything(
    make_tuned: Callable[..., TunedLive], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LINGER_S", 1.5)
    live = make_tuned(adapter_policy={"lease_s": LEASE_S})
    running = live.start()
    model, adapter = running.runtime.leases
    live.between.down = True
    began = time.monotonic()
    while running.runtime._lost is None and time.monotonic() - began < 3 * LEASE_S:
        time.sleep(0.02)
    assert running.runtime.workload.wiped
    assert adapter.remaining_s == 0
    assert model.remaining_s > 100
    running.join()
    assert isinstance(running.error, KeyAccessError)
    assert running.error.code is RuntimeCode.LEASE_LOST


# Refused before anybody is asked for a key --------------------------------------------------------


def resealed(live: TunedLive, **options: Any) -> None:  # noqa: ANN401
    """Put another sealing in the adapter's place."""
    deployment = live.deployment
    shutil.rmtree(deployment.sealed_adapter)
    folder = options.pop("folder", deployment.adapter)
    deployment.seal(folder, deployment.sealed_adapter, **options)


def test_an_adapter_of_another_base(tuned: TunedLive) -> None:
    resealed(tuned, base=OTHER_MODEL)
    error = tuned.refused_unasked(RuntimeCode.ADAPTER_OF_ANOTHER_MODEL)
    assert str(OTHER_MODEL) in error.what


def test_an_adapter_that_another_owner_signed(tuned: TunedLive) -> None:
    base = tuned.deployment.model_id
    resealed(tuned, base=base, owner=SigningKey.generate_ed25519())
    tuned.refused_unasked(DsseCode.SIGNER_UNKNOWN)


def test_an_adapter_that_another_tenant_was_measured_for(tuned: TunedLive, tmp_path: Path) -> None:
    folder = tiny_adapter(tmp_path / "of-another-tenant", seed=2)
    resealed(tuned, base=tuned.deployment.model_id, folder=folder)
    tuned.refused_unasked(RuntimeCode.SERVED_MODEL_MISMATCH)


def test_the_folders_are_swapped(tuned: TunedLive) -> None:
    deployment = tuned.deployment
    deployment.sealed, deployment.sealed_adapter = deployment.sealed_adapter, deployment.sealed
    tuned.refused_unasked(RuntimeCode.SERVED_MODEL_MISMATCH)


def test_the_base_was_upgraded(tuned: TunedLive, tmp_path: Path) -> None:
    deployment = tuned.deployment
    newer = tiny_llama(tmp_path / "newer", seed=9, heads=2)
    shutil.rmtree(deployment.sealed)
    model_id = deployment.seal(newer, deployment.sealed, version=9).model_id
    measured = msgspec.structs.replace(deployment.runtime_config(), model_id=str(model_id))
    tuned.refused_unasked(RuntimeCode.ADAPTER_OF_ANOTHER_MODEL, measured=measured)


def test_a_whole_model_in_the_adapters_place(tuned: TunedLive, tmp_path: Path) -> None:
    deployment = tuned.deployment
    shutil.rmtree(deployment.sealed_adapter)
    whole = deployment.seal(tiny_llama(tmp_path / "w", seed=3), deployment.sealed_adapter)
    measured = msgspec.structs.replace(deployment.runtime_config(), adapter=str(whole.model_id))
    error = tuned.refused_unasked(RuntimeCode.ADAPTER_OF_ANOTHER_MODEL, measured=measured)
    assert "a model by itself" in error.what


def test_an_adapter_in_the_models_place(tuned: TunedLive) -> None:
    deployment = tuned.deployment
    measured = msgspec.structs.replace(
        deployment.runtime_config(), model_id=str(deployment.adapter_id), adapter=msgspec.UNSET
    )
    deployment.sealed = deployment.sealed_adapter
    tuned.refused_unasked(RuntimeCode.ADAPTER_ALONE, measured=measured, text="")


def test_a_setting_that_was_not_measured(tuned: TunedLive) -> None:
    measured = msgspec.structs.replace(tuned.deployment.runtime_config(), adapter=msgspec.UNSET)
    error = tuned.refused_unasked(RuntimeCode.ADAPTER_NOT_MEASURED, measured=measured)
    assert "adapter_store" in error.what
    error = tuned.refused_unasked(RuntimeCode.ADAPTER_NOT_MEASURED, text="")
    assert "measured configuration" in error.what


@pytest.mark.usefixtures("engines_of_this_tree")
@pytest.mark.parametrize("engine", ["llama.cpp", "onnxruntime"])
def test_engines_that_merge_no_adapters(
    tuned: TunedLive, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    store = f'adapter_store = "{tuned.deployment.sealed_adapter}"'
    text = f'{store}\n[engine]\nname = "{engine}"'
    # Whether the libraries of these engines are installed is another question.
    for name in (
        "regalia.engines.llama_cpp.builder.LlamaCppBuilder.check",
        "regalia.engines.onnx.builder.OnnxBuilder.check",
    ):
        monkeypatch.setattr(name, lambda *_: None)
    error = tuned.refused_unasked(EngineCode.ENGINE_MERGES_NO_ADAPTERS, text=text)
    assert engine in error.what


# Refused by the broker ----------------------------------------------------------------------------


def test_a_policy_of_the_base_that_accepts_no_adapter(
    make_tuned: Callable[..., TunedLive],
) -> None:
    live = make_tuned()
    deployment = live.deployment
    rule = msgspec.structs.replace(deployment.policy.runtime, adapters=[])
    deployment.policy = msgspec.structs.replace(deployment.policy, runtime=rule, version=6)
    deployment.restart()
    error = live.refused()
    assert isinstance(error, PolicyDenied)
    assert PolicyCode.ADAPTER_DENIED.name in str(error.as_dict())
    assert deployment.store.unwrapped == []


def test_the_broker_knows_the_base_too(tuned: TunedLive) -> None:
    deployment = tuned.deployment
    models = deployment.broker.models
    base, adapter = models[str(deployment.model_id)], models[str(deployment.adapter_id)]
    good = deployment.runtime_config()
    assert base_findings(good.encode(), base) == []
    assert base_findings(good.encode(), adapter) == []
    elsewhere = msgspec.structs.replace(good, model_id=str(OTHER_MODEL))
    alone = msgspec.structs.replace(
        good, model_id=str(deployment.adapter_id), adapter=msgspec.UNSET
    )
    under = msgspec.structs.replace(
        good, model_id=str(OTHER_MODEL), adapter=str(deployment.model_id)
    )
    for config, model in ((elsewhere, adapter), (alone, adapter), (under, base)):
        ((code, _),) = base_findings(config.encode(), model)
        assert code is BrokerCode.ADAPTER_OTHER_BASE


# Refused with the keys at hand --------------------------------------------------------------------


def ended(live: TunedLive) -> RegaliaError:
    """Start; return why it ended. Nothing is left in memory."""
    running = live.start()
    running.join()
    assert isinstance(running.error, RegaliaError), running.error
    assert running.runtime.workload.wiped
    return running.error


def test_an_adapter_that_was_cut_off(tuned: TunedLive) -> None:
    shard = tuned.deployment.sealed_adapter / "shard-00000.seal"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert ended(tuned).code is SealCode.SIZE_CHANGED


def test_an_adapter_that_does_not_fit(tuned: TunedLive, tmp_path: Path) -> None:
    folder = tmp_path / "unfit"
    shutil.copytree(tuned.deployment.adapter, folder)
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 4', '"r": 5'))
    deployment = tuned.deployment
    shutil.rmtree(deployment.sealed_adapter)
    deployment.adapter_id = deployment.seal(
        folder, deployment.sealed_adapter, base=deployment.model_id
    ).model_id
    pinned = deployment.make_policy()
    deployment.policy = msgspec.structs.replace(pinned, version=6)
    deployment.restart()
    assert ended(tuned).code is EngineCode.ENGINE_ADAPTER_MISFIT
