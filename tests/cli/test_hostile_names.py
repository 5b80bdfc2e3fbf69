"""Names and texts that others choose cannot steer a terminal, nor forge a line of a result."""

from __future__ import annotations

import ast
import contextlib
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from regalia.cli import output
from regalia.cli.main import run
from regalia.core.errors import CoreCode, LocalError, PolicyDenied
from regalia.core.tame import tame
from regalia_testing.attest_files import WHEN, make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORGED = "VERIFIED genuine hardware"
EVIL = f"\x1b]0;owned\x07\x1b[31mX\u202e\n{FORGED}"
PHRASE = ("--passphrase-file", "phrase")
CLI = Path(output.__file__).parent
# The first prints on; the second prints what a model says, line breaks included; the last says
# "interrupted", and must not import anything when it does.
PRINTS_ITSELF = {"output.py", "chat.py", "main.py"}


def require_tame(text: str) -> None:
    assert text
    assert all(char.isprintable() or char == "\n" for char in text), ascii(text)
    assert not any(line.startswith(FORGED) for line in text.split("\n"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    with contextlib.chdir(folder):
        Path("phrase").touch(mode=0o600)
        Path("phrase").write_text(secrets.token_hex(8))
        Path("model").mkdir()
        Path("model/config.json").write_text("{}")
        shutil.copytree("model", "infected")
        (Path("infected") / EVIL).write_text("")
        Path("tee").mkdir()
        evidence = make(Path("tee"), "sev-snp")["healthy"]
        (Path("tee") / EVIL).write_bytes(evidence.encode())
        for args in (
            ["keygen", "sign", "--out", "own", *PHRASE],
            ["keygen", "kek", "--key", "dev-file:keys.json#kek", *PHRASE],
            seal(EVIL),
        ):
            assert run(args) == 0, args
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "work"
    shutil.copytree(made, folder)
    with contextlib.chdir(folder):
        yield folder


def seal(out: str, model: str = "model") -> list[str]:
    key = ("--key", "dev-file:keys.json#kek", "--version", "1")
    return [*("seal", model, "--out", out, *key), *PHRASE, *("--sign", "own.key"), *SIGN]


SIGN = ("--sign-passphrase-file", "phrase")
OPEN = ("--key", "dev-file:keys.json#kek", "--signer", "own.pub", *PHRASE, "--yes")
TRUST = ("--collateral", "tee/collateral", "--dangerous-simulated-anchor", "tee/collateral/ark.der")
ASKED = ("--challenge", "any", "--now", WHEN)
PIN = ("policy", "pin", "--platform-only", "--evidence", f"tee/{EVIL}", *ASKED, *TRUST)
COMMANDS = {
    "attest inspect": ["attest", "inspect", f"tee/{EVIL}"],
    "inspect": ["inspect", EVIL],
    "verify": ["verify", EVIL, "--signer", "own.pub"],
    "open": ["open", EVIL, "--out", f"{EVIL}.out", *OPEN],
    "keygen sign": ["keygen", "sign", "--out", f"{EVIL}.own", *PHRASE],
    "keygen sign in clear": ["keygen", "sign", "--out", f"{EVIL}2", "--dangerous-no-passphrase"],
    "keygen log": ["keygen", "log", "--origin", "a", "--out", f"{EVIL}.log", *PHRASE],
    "keygen kek": ["keygen", "kek", "--key", f"dev-file:{EVIL}.json#kek", *PHRASE],
    "seal": seal(f"{EVIL}.sealed"),
    "seal such a file": seal("infected-out", "infected"),
    "policy pin": [*PIN, "--out", f"{EVIL}.pin"],
    "policy new": ["policy", "new", "--out", f"{EVIL}.new", "--tee", "sev-snp"],
    "collateral show": ["collateral", "show", EVIL],
    "no command": [EVIL],
    "no option": ["inspect", f"--{EVIL}"],
    "no value": ["keygen", "sign", "--algorithm", EVIL, "--out", "x"],
    "too many values": ["inspect", EVIL, EVIL],
}


@pytest.mark.parametrize("args", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.usefixtures("here")
def test_no_command_prints_a_name_as_it_is(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(args) in {0, 2, 9, 3}
    shown = capsys.readouterr()
    require_tame(shown.out + shown.err)


@pytest.mark.parametrize("more", [(), ("--explain",)])
@pytest.mark.usefixtures("here")
def test_a_policy_cannot_forge_the_verdict_with_its_name(
    more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*PIN, "--out", EVIL + ".pin"]) == 0
    capsys.readouterr()
    verify = ["attest", "verify", f"tee/{EVIL}", "--policy", EVIL + ".pin", *ASKED, *TRUST, *more]
    assert run(verify) in {0, 11}
    shown = capsys.readouterr()
    assert "Rules of " in shown.out
    require_tame(shown.out + shown.err)


def refused() -> None:
    output.show_error(LocalError(CoreCode.IO_FAILED, EVIL), as_json=False)


def denied() -> None:
    reasons = [(CoreCode.IO_FAILED, EVIL)]
    output.show_error(PolicyDenied(CoreCode.IO_FAILED, EVIL, reasons), as_json=False)


PRINTERS: dict[str, Callable[[], object]] = {
    "facts": lambda: output.show_facts(
        EVIL, [(EVIL, EVIL), ("list", [EVIL]), ("path", Path(EVIL))]
    ),
    "columns": lambda: output.show_columns({"name": EVIL}),
    "warning": lambda: output.warn(EVIL),
    "record": lambda: output.show_record(("name",), [EVIL]),
    "table": lambda: output.show_table(("name",), [(EVIL,), ((EVIL, "bold"),)]),
    "line": lambda: output.say(EVIL, output.Styled(EVIL, "red")),
    "report": lambda: output.report(EVIL, {"name": EVIL}, as_json=False),
    "serving": lambda: output.show_serving(EVIL, {"name": EVIL}, as_json=False),
    "usage": lambda: output.show_click_error(click.UsageError(EVIL), as_json=False),
    "refusal": refused,
    "denial": denied,
}


@pytest.mark.parametrize("printer", PRINTERS.values(), ids=PRINTERS)
def test_whatever_prints_for_a_person_tames(
    printer: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    printer()
    shown = capsys.readouterr()
    require_tame(shown.out + shown.err)


def test_a_style_is_put_on_what_is_tame_already(capsys: pytest.CaptureFixture[str]) -> None:
    with click.Context(click.Command("test"), color=True):
        output.say(output.Styled("a\x1b[0mb", "red", bold=True))
    assert capsys.readouterr().out == "\x1b[31m\x1b[1ma\\x1b[0mb\x1b[0m\n"


def test_a_document_is_itself_for_programs_and_tame_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = '{"product":"\x9b31m\u202e"}'
    output.show_document(document)
    assert capsys.readouterr().out == f"{document}\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    output.show_document(document)
    require_tame(capsys.readouterr().out)


def test_the_command_line_prints_through_one_module() -> None:
    printing = {
        path.name
        for path in CLI.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        if ast.unparse(node.func) in {"click.echo", "click.secho", "click.style", "print"}
    }
    assert printing <= PRINTS_ITSELF


def test_what_is_printable_stays() -> None:
    assert tame("Größe 数 \\n") == "Größe 数 \\n"
    assert tame("\udcff\x00") == "\\udcff\\x00"
