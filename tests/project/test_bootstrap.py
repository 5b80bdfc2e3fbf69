"""scripts/bootstrap.sh on machines that lack something, with a recorder in the place of pip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
INDEX = "https://index.example/cpu"

# Writes its arguments down. There is a local wheel of torch if the file ``local`` exists, and one
# in an index if ``remote`` does.
PIP = """#!/bin/sh
printf '%s\\n' "$*" >>"$0.calls"
here=$(dirname "$0")
case "$*" in
  *--no-index*torch*) test -e "$here/local" ;;
  *--index-url*torch*) test -e "$here/remote" ;;
esac
"""

# Answers the questions of the script as a Python of another version would.
PYTHON = """#!/bin/sh
case "$2" in
  *platform.machine*) exit {known} ;;
  *) exec {python} "$@" ;;
esac
"""


class Machine:
    """A folder with a pip, a Python and as many commands as the script finds."""

    def __init__(self, folder: Path, *, hash_known: bool = True) -> None:
        self.folder = folder
        self.pip = self._script("pip", PIP)
        python = PYTHON.format(known=0 if hash_known else 1, python=sys.executable)
        self.python = self._script("python", python)
        (folder / "venv/bin").mkdir(parents=True)
        (folder / "venv/bin/python").symlink_to(self.python)

    def _script(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.write_text(text)
        file.chmod(0o755)
        return file

    def lacks_debian_packages(self) -> Path:
        """A PATH with the shell's own commands only, for somebody who is not root."""
        tools = self.folder / "tools"
        tools.mkdir()
        for name in ("sh", "dirname", "printf", "test"):
            found = shutil.which(name)
            assert found is not None
            (tools / name).symlink_to(found)
        (tools / "id").write_text("#!/bin/sh\necho 1000\n")
        (tools / "id").chmod(0o755)
        return tools

    def run(self, purpose: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "REGALIA_TORCH_INDEX": INDEX}
        if path is not None:
            environment["PATH"] = path
        return subprocess.run(
            [
                "/bin/sh",
                "scripts/bootstrap.sh",
                self.python,
                self.folder / "venv",
                self.pip,
                purpose,
            ],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls(self) -> list[str]:
        """What pip was asked for."""
        return (self.folder / "pip.calls").read_text().splitlines()

    def torch_calls(self) -> list[str]:
        return [call for call in self.calls() if "torch" in call]


def test_a_local_wheel_of_torch_comes_first(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "local").touch()
    assert machine.run("demo").returncode == 0
    (call,) = machine.torch_calls()
    assert "--no-index" in call
    assert "--require-hashes" in call


def test_without_a_wheel_torch_comes_from_the_index_by_its_hash(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "remote").touch()
    done = machine.run("demo")
    assert done.returncode == 0
    call = machine.torch_calls()[-1]
    assert f"--index-url {INDEX}" in call
    assert "--require-hashes" in call
    assert f"torch 2.13.0 comes from {INDEX}\n" in done.stderr


def test_for_another_python_torch_is_pinned_by_version_and_it_says_so(tmp_path: Path) -> None:
    machine = Machine(tmp_path, hash_known=False)
    (tmp_path / "remote").touch()
    done = machine.run("demo")
    assert done.returncode == 0
    (call,) = machine.torch_calls()
    assert call == f"--quiet --index-url {INDEX} --no-deps torch==2.13.0"
    assert "pinned by version: no hash is known for this Python" in done.stderr


@pytest.mark.parametrize("hash_known", [True, False])
def test_without_any_torch_it_says_what_to_set(tmp_path: Path, *, hash_known: bool) -> None:
    done = Machine(tmp_path, hash_known=hash_known).run("demo")
    assert done.returncode == 1
    assert "PIP_FIND_LINKS" in done.stderr
    assert "REGALIA_TORCH_INDEX" in done.stderr
    assert "ready" not in done.stderr


def test_the_demo_installs_less_than_the_tests(tmp_path: Path) -> None:
    files: dict[str, set[str]] = {}
    for purpose in ("demo", "develop"):
        (tmp_path / purpose).mkdir()
        machine = Machine(tmp_path / purpose)
        (machine.folder / "local").touch()
        assert machine.run(purpose).returncode == 0
        words = " ".join(machine.calls()).split()
        files[purpose] = {word for word in words if word.startswith("requirements/")}
    more = {"requirements/develop.txt", "requirements/test-models.txt"}
    assert files["develop"] - files["demo"] == more


def test_debian_packages_are_named_before_anything_is_installed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    path = str(machine.lacks_debian_packages())
    demo, develop = machine.run("demo", path), machine.run("develop", path)
    assert (demo.returncode, develop.returncode) == (1, 1)
    line = "regalia: these Debian packages are missing, please install them: apt-get install"
    assert demo.stderr == f"{line} gdb\n"
    assert f"{line} gdb gcc libc6-dev" in develop.stderr
    assert "swtpm" in develop.stderr
    assert not (tmp_path / "pip.calls").exists()
