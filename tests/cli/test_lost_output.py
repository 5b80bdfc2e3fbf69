"""Output that cannot be written is never lost silently, and never ends in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Mapping

POLICY = Path(__file__).parents[1] / "vectors" / "policy" / "release-policy.json"
LOST = "refused [IO_FAILED] standard output: "
SHOWS_SOMETHING = (
    "--help",
    "--version",
    "attest verify --help",
    "policy explain POLICY",
    "policy explain POLICY --json",
    "policy check POLICY",
)
REFUSALS = {
    "policy explain none": (9, "FILE_MISSING"),
    "policy explain none --json": (9, "FILE_MISSING"),
    "policy explain POLICY --signer POLICY --json": (3, "MALFORMED"),
    "policy explain --nonsense": (2, "--nonsense"),
    "policy explain --nonsense --json": (2, "--nonsense"),
}


def regalia(
    words: str, redirection: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``regalia`` as a shell does it with this redirection."""
    arguments = [str(POLICY) if word == "POLICY" else word for word in words.split()]
    script = f'exec "$@" {redirection}'
    return subprocess.run(
        ["/bin/sh", "-c", script, "sh", sys.executable, "-m", "regalia", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )


@pytest.mark.parametrize("words", SHOWS_SOMETHING)
@pytest.mark.parametrize(
    ("redirection", "why"),
    [(">/dev/full", "No space left on device"), (">&-", "it is closed")],
)
def test_a_result_that_cannot_be_written(words: str, redirection: str, why: str) -> None:
    done = regalia(words, redirection)
    assert done.returncode == 9
    first, *rest = done.stderr.splitlines()
    assert first == LOST + why
    assert [line.split(":")[0] for line in rest] == ["Why it matters", "What to do"]


@pytest.mark.parametrize("words", REFUSALS)
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_a_refusal_is_shown_and_keeps_its_status(words: str, redirection: str) -> None:
    status, said = REFUSALS[words]
    done = regalia(words, redirection)
    assert done.returncode == status
    assert said in done.stderr
    assert (LOST in done.stderr) == ("--json" in words)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", REFUSALS)
@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2>/dev/full >&2", "<&- >&- 2>&-"])
def test_a_refusal_that_nobody_can_read_keeps_its_status(words: str, redirection: str) -> None:
    assert regalia(words, redirection).returncode == REFUSALS[words][0]


def test_what_is_left_at_the_end_is_not_lost_either(tmp_path: Path) -> None:
    """A command that does not flush: Python would write when it ends, and exit with 120."""
    (tmp_path / "quiet.py").write_text(
        "import sys\n"
        "from regalia.cli import main\n"
        "main.run = lambda args: sys.stdout.write('a result') and 0\n"
        "main.main()\n"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >/dev/full', "sh", sys.executable, str(tmp_path / "quiet.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 9
    assert done.stderr.startswith(LOST)
    assert "Exception ignored" not in done.stderr


def test_a_closed_descriptor_is_not_given_to_a_file(tmp_path: Path) -> None:
    """The first file that a command opens would get the number of standard output."""
    script = tmp_path / "opens.py"
    script.write_text(
        "import sys\n"
        "from regalia.cli.streams import Streams\n"
        "Streams()\n"
        "sys.exit(open(sys.argv[1], 'wb').fileno() > 2)\n"
    )
    for redirection in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        command = ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, str(script)]
        done = subprocess.run([*command, str(tmp_path / "file")], check=False)
        assert done.returncode == 1, redirection


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_is_taken_is_as_it_was(unbuffered: str) -> None:
    done = regalia("--version", "", {"PYTHONUNBUFFERED": unbuffered})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("regalia, version ")


def test_a_reader_that_is_gone_at_the_end() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = (
        "import sys\n"
        "from regalia.cli import main\n"
        "main.run = lambda args: sys.stdout.write('a result') and 0\n"
        "main.main()\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (EXIT_INTERRUPTED, b"")
