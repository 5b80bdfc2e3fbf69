"""The engine of docs/howto/add-an-engine.md is installed, and asked through the sealed path."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import UsageError
from regalia.engines.base import ChecksOptions, Embedder
from regalia.host import plugins
from regalia_testing.models import FilesInMemory
from tests.runtime.live_deployment import client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runtime.live_deployment import LiveDeployment

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/add-an-engine.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
(_, PROJECT), (_, CODE), (_, TRIAL), (_, SETTINGS) = BLOCK.findall(PAGE)
TEXT = b"The parrot says: good morning, captain. Nobody answers."


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed what is on the page."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "parrot.py").write_text(CODE)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-index", "--no-deps", "--no-build-isolation", "--target", target, source],
        check=True, capture_output=True,
    )  # fmt: skip
    return target


def test_it_is_a_page_of_code() -> None:
    assert len(CODE.splitlines()) < 90
    ast.parse(CODE)


@pytest.fixture
def _installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()


@pytest.mark.usefixtures("_installed")
def test_what_it_refuses() -> None:
    builder = plugins.load(plugins.ENGINES, "parrot")
    assert isinstance(builder, ChecksOptions)
    with pytest.raises(UsageError, match="loud"):
        builder.check({"loud": True})
    with pytest.raises(UsageError, match=r"parrot\.txt"):
        builder(FilesInMemory({"x": b""}), model_name="m", options={})  # type: ignore[operator]
    engine = builder(FilesInMemory({"parrot.txt": TEXT}), model_name="m", options={})  # type: ignore[operator]
    assert not isinstance(engine, Embedder)
    with pytest.raises(UsageError):
        engine.encode_text("x" * 5000)
    with pytest.raises(UsageError):
        engine.check_tokens((0,))


@pytest.mark.usefixtures("_installed")
def test_it_is_tried_without_a_sealed_model(capsys: pytest.CaptureFixture[str]) -> None:
    exec(TRIAL, {})  # noqa: S102 - it stands on our own page
    assert capsys.readouterr().out == ", cap\n"


@pytest.mark.usefixtures("_installed")
def test_it_answers_through_the_sealed_path(
    deploy: Callable[[dict[str, bytes]], LiveDeployment],
) -> None:
    live = deploy({"parrot.txt": TEXT})
    running = live.start(text=SETTINGS)
    assert running.error is None
    with client(live, running.url) as api:
        answer = api.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "Well, good morning"}]
        )
        assert answer.choices[0].message.content == ", captain. Nobody answers."
        assert answer.choices[0].finish_reason == "stop"
        stream = api.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "captain"}],
            max_tokens=3,
            stream=True,
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert said == ". N"
