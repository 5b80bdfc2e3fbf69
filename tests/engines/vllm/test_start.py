"""How vLLM is started: from closed lists of arguments and variables, whatever the options say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.hosted import Place
from regalia.engines.hosted_codes import HostedCode
from regalia.engines.vllm import engine as vllm_engine
from regalia.engines.vllm import modes
from regalia.engines.vllm.engine import VllmEngine
from regalia.engines.vllm.options import Options, parse_options
from regalia.engines.vllm.surface import Surface

FOLDER = Path("/run/x")
PLACE = Place(
    model=FOLDER / "model", scratch=FOLDER / "scratch", api=FOLDER / "api", channel=FOLDER / "key"
)
ALL: dict[str, object] = {
    "tensor_parallel_size": 2,
    "pipeline_parallel_size": 2,
    "max_model_len": 4096,
    "dtype": "bfloat16",
    "kv_cache_dtype": "fp8_e4m3",
    "gpu_memory_utilization": 0.5,
    "cpu_kv_cache_gib": 2,
    "cpu_omp_threads_bind": "0-3|4-7",
    "enforce_eager": True,
    "tool_call_parser": "hermes",
    "reasoning_parser": "deepseek_r1",
}
OPTIONS: dict[str, dict[str, object]] = {"none": {}, "all": ALL}


@pytest.fixture(params=[True, False], ids=["on CPUs", "on GPUs"], autouse=True)
def _device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_engine, "runs_on_cpus", lambda: request.param)


def started(options: dict[str, object], name: str = "model") -> tuple[list[str], dict[str, str]]:
    command = VllmEngine().command(options, PLACE, served_name=name, parallel=4)
    assert command.argv[1:3] == ("-m", "regalia.engines.vllm.server")
    assert command.preload
    return list(command.argv[3:]), command.environment


def test_the_options_of_this_test_are_all_there_are() -> None:
    assert set(ALL) == set(Options.__struct_fields__)


@pytest.mark.parametrize("options", OPTIONS)
def test_arguments_are_from_a_closed_list(options: str) -> None:
    argv, _ = started(OPTIONS[options])
    names = [item.partition("=")[0] for item in argv]
    assert set(names) <= modes.ARGUMENTS
    assert len(names) == len(set(names)), "each once"
    assert "--load-format=regalia" in argv
    assert "--uds=/run/x/api" in argv
    assert "--no-trust-remote-code" in argv


def test_every_listed_argument_is_given_at_some_time() -> None:
    given = {item.partition("=")[0] for options in OPTIONS.values() for item in started(options)[0]}
    never = modes.ARGUMENTS - given
    assert never <= {"--gpu-memory-utilization", "--enforce-eager"}, "one on each kind of device"


@pytest.mark.parametrize("options", OPTIONS)
def test_the_environment_is_a_closed_list(options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = {*modes.CLOSED_VARIABLES, *modes.VARIABLES, "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"}
    kept = dict.fromkeys(vllm_engine._INHERITED, "kept")
    monkeypatch.setattr(os, "environ", dict.fromkeys(hostile, "/attacker") | kept)
    _, environment = started(OPTIONS[options])
    assert environment.keys() == modes.VARIABLES
    assert {name for name, value in environment.items() if value == "kept"} == kept.keys()
    assert "/attacker" not in environment.values()
    for name, (value, _) in modes.CLOSED_VARIABLES.items():
        assert environment.get(name) == value


def test_what_is_closed_is_not_what_is_given() -> None:
    assert not modes.ARGUMENTS & modes.CLOSED_ARGUMENTS.keys()
    assert not modes.HARMLESS & (modes.ARGUMENTS | modes.CLOSED_ARGUMENTS.keys())
    assert vllm_engine.LOAD_FORMAT not in modes.CLOSED_LOAD_FORMATS
    assert {name for name, (value, _) in modes.CLOSED_VARIABLES.items() if value} <= modes.VARIABLES
    for expected in (
        "--enable-sleep-mode",
        "--enable-lora",
        "--kv-transfer-config",
        "--worker-extension-cls",
        "--profiler-config",
        "--weight-transfer-config",
    ):
        assert expected in modes.CLOSED_ARGUMENTS
    assert {"ipc_cache", "sharded_state", "tensorizer"} <= modes.CLOSED_LOAD_FORMATS.keys()


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("--uds", "given by the runtime"),
        ("--trust-remote-code", "given by the runtime"),  # switched off
        ("--enable-lora", "never given: adds weights that nobody has measured"),
        ("--log-level", "never given"),
        ("--block-size", "never given"),
        ("--lora-from-anywhere", None),
        ("--weight-mirror", None),
        ("--extra-worker-cls", None),
        ("--request-trace-dir", None),
    ],
)
def test_new_arguments_that_sound_as_if_they_moved_weights_are_named(
    name: str, state: str | None
) -> None:
    assert modes.argument_state(name) == state


NAMES = ("kv_cache_dtype", "tool_call_parser", "reasoning_parser")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value",
    [
        "--enable-lora",
        "-x",
        "",
        " hermes",
        "a b",
        "a=b",
        "a\n--enable-lora",
        "a\x00",
        "../plugin.py",
        "/etc/plugin.py",
        "a,b",
        "é",
        "_x",
        ".x",
        "x" * 65,
        5,
        ["a"],
    ],
)
def test_names_that_could_be_something_else(name: str, value: object) -> None:
    with pytest.raises(UsageError) as caught:
        parse_options({name: value})
    assert caught.value.code is EngineCode.ENGINE_OPTION_UNKNOWN


@pytest.mark.parametrize(
    "options",
    [
        {"tensor_parallel_size": 0},
        {"tensor_parallel_size": -1},
        {"tensor_parallel_size": True},
        {"tensor_parallel_size": 1.5},
        {"tensor_parallel_size": "2"},
        {"tensor_parallel_size": 1 << 40},
        {"tensor_parallel_size": 1000, "pipeline_parallel_size": 1000},
        {"pipeline_parallel_size": 0},
        {"max_model_len": 0},
        {"max_model_len": -1},
        {"cpu_kv_cache_gib": 0},
        {"cpu_kv_cache_gib": -5},
        {"gpu_memory_utilization": 0.0},
        {"gpu_memory_utilization": 1.1},
        {"gpu_memory_utilization": float("nan")},
        {"gpu_memory_utilization": float("inf")},
        {"dtype": "int4"},
        {"cpu_omp_threads_bind": ""},
        {"cpu_omp_threads_bind": "0-3\n"},
        {"cpu_omp_threads_bind": "all"},
        {"cpu_omp_threads_bind": "0" * 1001},
        {"enforce_eager": "yes"},
        {"load_format": "auto"},
        {"trust_remote_code": True},
        {"extra_args": ["--enable-lora"]},
        {"": 1},
    ],
)
def test_options_that_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_options(options)
    assert caught.value.code is EngineCode.ENGINE_OPTION_UNKNOWN


def test_the_name_of_the_model_is_an_argument_and_no_option() -> None:
    argv, _ = started({}, name="--enable-lora")
    assert "--enable-lora" not in argv
    assert "--served-model-name=--enable-lora" in argv


def test_surfaces_that_do_not_exist() -> None:
    with pytest.raises(UsageError) as caught:
        VllmEngine().check({}, ("logprobs", "log-probs"))
    assert caught.value.code is HostedCode.ENGINE_SURFACE_UNKNOWN
    assert "log-probs; known are" in caught.value.what
    assert all(str(surface) in caught.value.what for surface in Surface)


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("config.json", True),
        ("tokenizer.json", True),
        ("tokenizer_config.json", True),
        ("model.safetensors", False),
        ("model.safetensors.index.json", False),
        ("pytorch_model.bin", False),
        ("consolidated.00.pth", False),
        ("model.gguf", False),
        ("modeling_evil.py", False),
        ("tokenizer.py", False),
        ("tokenizer_evil.so", False),
        ("tokenizer.safetensors", False),
        ("vocab.safetensors", False),
        ("vocab.bin", False),
        ("folder/config.json", False),
        ("adapter_config.json", False),
        ("params.json", False),
    ],
)
def test_files_that_vllm_gets(path: str, kept: bool) -> None:  # noqa: FBT001
    assert VllmEngine().keeps(path) is kept
