"""The example of docs/howto/add-a-tee.md is really added, from outside of the package.

A copy of the repository gets the files of ``examples/accelerator`` and the lines of its diffs,
and must then pass what any TEE must pass. Without any one of these lines a test says what is
missing.
"""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "accelerator"
PAGE = ROOT / "docs" / "howto" / "add-a-tee.md"
BIN = Path(sys.executable).parent
COPIED = ("src", "testing", "demo", "tests", "docs", "scripts", "examples")
OVERLAID = ("src", "testing", "tests", "docs")
PRODUCT, SIMULATOR, TABLES = "lines.diff", "simulator.diff", "tables.diff"
DIFFS = (PRODUCT, SIMULATOR, TABLES)

VERIFIER = "tests/verifier/test_registry.py"
POLICY = "tests/policy/test_registry.py"
SECTIONS = "tests/policy/test_sections_every_tee.py"
RULES = "tests/policy/test_rules_every_tee.py"
LINKS = "tests/project/test_links.py"
DISTRIBUTIONS = "tests/project/test_distributions.py"
RELEASE = "tests/release/test_release_every_tee.py"
SUM = re.compile(r"SHA-256 [0-9a-f]{64}|\(\d+ more as above; all: [0-9a-f]{16}\)")
WHOLE = f"{POLICY}::test_every_tee_has_a_whole_policy_half[example-accelerator]"
# The line that is forgotten, the test that notices, what it says.
FORGOTTEN = {
    "member": ("    EXAMPLE_ACCELERATOR = ", POLICY, "AttributeError: EXAMPLE_ACCELERATOR"),
    "section": ("    accelerator: Accelerator", WHOLE, "no optional member accelerator"),
    "section's import": (".policy.section import Accelerator", POLICY, "'Accelerator' is not def"),
    "policy plug-in": (
        "policy/registry.py:    ACCELERATOR,",
        WHOLE,
        "no policy plug-in for example-accelerator",
    ),
    "its import": (".policy.plugin import", POLICY, "'ACCELERATOR' is not defined"),
    "evidence plug-in": (
        "verifier/registry.py:    ACCELERATOR,",
        f"{VERIFIER}::test_every_kind_has_one_plug_in",
        "EXAMPLE_ACCELERATOR",
    ),
    "its import as well": (".evidence.plugin import", VERIFIER, "'ACCELERATOR' is not defined"),
    "sample": (
        '        "Accelerator": ',
        f"{VERIFIER}::test_it_needs_something",
        "no simulated sample has evidence of example-accelerator",
    ),
    "scenario": ("        Tee.EXAMPLE_ACCELERATOR: ", WHOLE, "KeyError: <Tee.EXAMPLE_ACCELERATOR"),
    "rules": (
        "Tee.EXAMPLE_ACCELERATOR: Rules(",
        f"{RULES}::test_every_tee_has_its_rules_here",
        "EXAMPLE_ACCELERATOR",
    ),
    "name of its source": (
        'test_distributions.py:            "simulated-accelerator",',
        f"{DISTRIBUTIONS}::test_plug_ins_of_each_wheel",
        "simulated-accelerator",
    ),
    "page in the index": (
        "docs/spec/README.md:",
        f"{LINKS}::test_every_page_can_be_reached_from_the_readme",
        "accelerator-appraisal.md",
    ),
    "machine": (
        '        "example-accelerator": ',
        f"{RELEASE}::test_there_is_a_machine_of_every_tee",
        "example-accelerator",
    ),
}


@dataclass(frozen=True)
class Tree:
    """A copy of the repository."""

    root: Path

    def run(self, *command: str) -> tuple[int, str]:
        """The exit status of a command, and what it said."""
        packages = (self.root / name for name in ("src", "testing", "demo", ""))
        done = subprocess.run(
            command,
            cwd=self.root,
            env={
                "PYTHONPATH": ":".join(map(str, packages)),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PATH": "/usr/bin:/bin",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def test(self, *arguments: str) -> tuple[int, str]:
        """Run tests."""
        return self.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)

    def announce(self) -> None:
        """What installing regalia-testing does for the plug-ins that it announces."""
        project = tomllib.loads((self.root / "testing/pyproject.toml").read_text())["project"]
        metadata = self.root / "testing" / "regalia_testing-0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Name: regalia-testing\nVersion: 0\n")
        points = "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in found.items())
            for group, found in project["entry-points"].items()
        )
        (metadata / "entry_points.txt").write_text(points)


def added(diff: str) -> dict[str, list[str]]:
    """Lines that a diff of the example adds, by file."""
    found: dict[str, list[str]] = {}
    path = ""
    for line in (EXAMPLE / diff).read_text(encoding="utf-8").splitlines():
        if line.startswith("+++ b/"):
            path = line.removeprefix("+++ b/")
        elif line.startswith("+"):
            found.setdefault(path, []).append(line[1:])
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    root = tmp_path_factory.mktemp("copy") / "regalia"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in COPIED:
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for name in ("pyproject.toml", "LICENSE", *(path.name for path in ROOT.glob("*.md"))):
        shutil.copy(ROOT / name, root)
    for name in OVERLAID:
        new = [path for path in (EXAMPLE / name).rglob("*") if path.is_file()]
        assert [path for path in new if (root / path.relative_to(EXAMPLE)).exists()] == []
        shutil.copytree(EXAMPLE / name, root / name, ignore=ignored, dirs_exist_ok=True)
    for diff in DIFFS:
        status, said = Tree(root).run("git", "apply", str(EXAMPLE / diff))
        assert status == 0, said
    copy = Tree(root)
    copy.announce()
    return copy


def test_the_product_does_not_contain_the_example() -> None:
    for folder in ("src", "testing", "demo"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "accelerator" not in str(path.relative_to(ROOT)), path
            assert "EXAMPLE_ACCELERATOR" not in path.read_text(encoding="utf-8"), path


def test_the_lines_elsewhere_are_as_few_as_the_page_says() -> None:
    """Four that name the TEE, in four files, and the imports of three of them; then tables."""
    product = added(PRODUCT)
    assert {path: len(lines) for path, lines in product.items()} == {
        "src/regalia/wire/evidence.py": 1,
        "src/regalia/policy/documents.py": 2,
        "src/regalia/policy/registry.py": 2,
        "src/regalia/verifier/registry.py": 2,
    }
    lines = [line for each in product.values() for line in each]
    assert len([line for line in lines if line.startswith("from ")]) == 3
    assert all(path.startswith("testing/") for path in added(SIMULATOR))
    tables = [added(SIMULATOR), added(TABLES)]
    files = [path for each in (product, *tables) for path in each]
    count = sum(len(each) for table in tables for each in table.values())
    page = PAGE.read_text(encoding="utf-8")
    assert (
        f"seven lines in {len(product)} files of the product, and {count} lines in "
        f"{len(files) - len(product)} others" in " ".join(page.split())
    )
    assert f"lines in {len(files)} files" in " ".join(
        (ROOT / "CONTRIBUTING.md").read_text().split()
    )
    for diff in DIFFS:
        text = (EXAMPLE / diff).read_text(encoding="utf-8")
        assert re.findall(r"^-(?!-- a/).*", text, re.MULTILINE) == []


def test_the_page_shows_the_files() -> None:
    """Each block of code on the page stands in the file that the page names above it."""
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(
        r"^<!-- from ([\w./-]+) -->\n```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL
    )
    assert len(blocks) > 8
    assert len(blocks) == len(re.findall(r"^```(?:python|diff)$", page, re.MULTILINE))
    for name, code in blocks:
        assert code in (EXAMPLE / name).read_text(encoding="utf-8"), name


def test_what_the_page_names_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:tests|scripts|src|examples)/[\w./-]+)`", page):
        assert (ROOT / name).exists() or (EXAMPLE / name).exists(), name


@pytest.mark.slow
def test_the_example_passes_its_own_tests(tree: Tree) -> None:
    status, said = tree.test("tests/tees/accelerator")
    assert status == 0, said


@pytest.mark.slow
def test_the_example_passes_the_tests_over_every_tee(tree: Tree) -> None:
    status, said = tree.test(VERIFIER, POLICY, SECTIONS, "tests/policy/test_policy_docs.py")
    assert status == 0, said
    status, said = tree.test("tests/cli/test_attest_words.py", "tests/policy/test_conditions.py")
    assert status == 0, said
    status, said = tree.test("tests/cli/test_every_tee.py", RULES)
    assert status == 0, said


@pytest.mark.slow
def test_the_example_passes_the_tests_of_the_project(tree: Tree) -> None:
    status, said = tree.test(
        LINKS, "tests/project/test_docstrings.py", f"{DISTRIBUTIONS}::test_plug_ins_of_each_wheel"
    )
    assert status == 0, said


@pytest.mark.slow
def test_the_golden_files_gain_lines_and_change_only_sums(tree: Tree) -> None:
    """A policy with a section more has another digest, and a longer list another count.

    The other parts are left out: they are slow, or need real evidence, and change alike.
    """
    folder = tree.root / "tests/golden/files/policies"
    before = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    status, said = tree.run(sys.executable, "scripts/make_golden.py", "policies")
    assert status == 0, said
    after = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert set(before) <= set(after)
    gone = [
        line.removeprefix("- ")
        for name, text in before.items()
        for line in difflib.ndiff(text.splitlines(), after[name].splitlines())
        if line.startswith("- ")
    ]
    assert [line for line in gone if not SUM.fullmatch(line)] == []
    assert "platform.accelerator" in "".join(after.values())


@pytest.mark.slow
def test_the_example_is_released_to(tree: Tree) -> None:
    """Through the broker, the log and a client, with every attack of the other TEEs."""
    status, said = tree.test(RELEASE, "-k", "example-accelerator")
    assert status == 0, said
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed[1]) > 15


@pytest.mark.slow
def test_the_example_keeps_the_contracts(tree: Tree) -> None:
    status, said = tree.run(str(BIN / "lint-imports"), "--no-cache")
    assert status == 0, said


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_example_is_typed_and_clean(tree: Tree) -> None:
    status, said = tree.run(str(BIN / "ruff"), "check", "--no-cache", ".")
    assert status == 0, said
    cache = ROOT / ".mypy_cache"
    if cache.exists():  # what `make check` left: most files are the same
        shutil.copytree(cache, tree.root / ".mypy_cache")
    status, said = tree.run(sys.executable, "-m", "mypy")
    assert status == 0, said


@pytest.mark.slow
@pytest.mark.parametrize("name", FORGOTTEN)
def test_a_forgotten_line_is_noticed(tree: Tree, name: str) -> None:
    wanted, test, words = FORGOTTEN[name]
    path, line = the_line(wanted)
    file = tree.root / path
    whole = file.read_text(encoding="utf-8")
    file.write_text(without(whole, line), encoding="utf-8")
    try:
        status, said = tree.test(test)
    finally:
        file.write_text(whole, encoding="utf-8")
    assert status != 0
    assert words in said, said


def test_every_line_is_forgotten_once() -> None:
    forgotten = [the_line(wanted) for wanted, _, _ in FORGOTTEN.values()]
    assert len(set(forgotten)) == len(forgotten)
    product = {(path, line) for path, lines in added(PRODUCT).items() for line in lines}
    assert product <= set(forgotten)


def the_line(wanted: str) -> tuple[str, str]:
    """The one added line that ``wanted`` names, and its file; it may begin with the file."""
    every = [
        (path, line) for diff in DIFFS for path, lines in added(diff).items() for line in lines
    ]
    found = [(path, line) for path, line in every if wanted in f"{path}:{line}"]
    assert len(found) == 1, (wanted, found)
    return found[0]


def without(text: str, line: str) -> str:
    """A file without a line, and without those that only continue it."""
    lines = text.splitlines(keepends=True)
    start = lines.index(f"{line}\n")
    end = start + 1
    if line.endswith("("):
        indent = line[: len(line) - len(line.lstrip())]
        end = start + 1 + next(i for i, each in enumerate(lines[end:]) if each == f"{indent}),\n")
        end += 1
    return "".join(lines[:start] + lines[end:])
