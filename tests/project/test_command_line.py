"""The rim of the command line: lazy, documented, and without tracebacks."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import click
import pytest

from regalia.cli.main import COMMANDS, cli, run

HEAVY = (
    "torch",
    "transformers",
    "numpy",
    "cryptography",
    "sqlalchemy",
    "starlette",
    "rich",
    "httpx",
    "cel",
)


def without(modules: tuple[str, ...], program: str) -> str:
    """What a program prints that must load none of these modules."""
    program = f"""
import importlib, sys
{program}
loaded = [name for name in {modules!r} if name in sys.modules]
sys.exit(repr(loaded) if loaded else 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_help_imports_nothing_heavy() -> None:
    shown = without(HEAVY, "from regalia.cli.main import run; assert run(['--help']) == 0")
    assert all(name in shown for name in COMMANDS)


def test_no_command_imports_anything_heavy_before_its_work() -> None:
    """So that the help and the refusals of each come at once; plug-ins are listed when needed."""
    modules = [module for module, _, _ in COMMANDS.values()]
    heavy = (*HEAVY, "msgspec", "importlib.metadata", "tempfile", "regalia.verifier")
    without(heavy, f"for module in {modules!r}: importlib.import_module(module)")


def test_verifying_evidence_imports_no_client() -> None:
    names = ("httpx", "rich", "ssl", "sqlalchemy")
    without(names, "import regalia.cli.attest.verify, regalia.cli.policy.explain")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name: str) -> None:
    module, attribute, text = COMMANDS[name]
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.get_short_help_str(limit=100) == text
    assert any("--json" in p.opts for c in leaves(command) for p in c.params), name


def leaves(command: click.Command) -> list[click.Command]:
    if isinstance(command, click.Group):
        return [leaf for sub in command.commands.values() for leaf in leaves(sub)]
    return [command]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    module, attribute, _ = COMMANDS[name]
    for leaf in leaves(getattr(importlib.import_module(module), attribute)):
        assert leaf.help, leaf.name
        for parameter in leaf.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{leaf.name} {parameter.name}"


def test_a_bug_is_named_as_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "main", broken)
    assert run(["seal"]) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert f"bug: RuntimeError in {__name__}; " in captured.err


def test_usage_errors_are_json_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "BAD_USAGE"
