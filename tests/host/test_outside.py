"""Configuration, files, events and plug-ins: where the outside comes in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.core.errors import CoreCode, LocalError, UsageError
from regalia.host import plugins
from regalia.host.config import load_toml
from regalia.host.events import ServiceEvent, emit
from regalia.host.localfs import read_file, read_private_file, write_new

if TYPE_CHECKING:
    from pathlib import Path


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    listen: str
    limit: int = 5


def test_config_is_read(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('listen = "127.0.0.1:1"\n')
    assert load_toml(tmp_path / "c.toml", Settings) == Settings("127.0.0.1:1", 5)


@pytest.mark.parametrize(
    "text",
    ['listen = "x"\nlimt = 1\n', "listen = 5\n", "", "listen = \n", 'listen = "x"\nlimit = "1"\n'],
)
def test_unknown_or_ill_typed_settings_are_errors(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_toml(tmp_path / "c.toml", Settings)
    assert caught.value.code is CoreCode.BAD_CONFIG
    assert "c.toml" in caught.value.what


def test_files_fail_with_our_codes(tmp_path: Path) -> None:
    for path, code in [
        (tmp_path / "missing", CoreCode.FILE_MISSING),
        (tmp_path, CoreCode.IO_FAILED),
    ]:
        with pytest.raises(LocalError) as caught:
            read_file(path, limit=10)
        assert caught.value.code is code
    (tmp_path / "big").write_bytes(bytes(11))
    with pytest.raises(LocalError) as caught:
        read_file(tmp_path / "big", limit=10)
    assert caught.value.code is CoreCode.TOO_LARGE


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    write_new(tmp_path / "a", b"1", mode=0o600)
    with pytest.raises(LocalError) as caught:
        write_new(tmp_path / "a", b"2")
    assert caught.value.code is CoreCode.FILE_EXISTS
    assert (tmp_path / "a").read_bytes() == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_secret_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"x")
    path.chmod(0o640)
    with pytest.raises(LocalError) as caught:
        read_private_file(path, limit=10)
    assert caught.value.code is CoreCode.INSECURE_MODE
    path.chmod(0o600)
    assert read_private_file(path, limit=10) == b"x"


def test_events_are_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    emit(ServiceEvent.SERVICE_STARTED, service="broker", port=1)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["service"], line["port"]) == ("service.started", "broker", 1)


def test_bytes_cannot_be_logged() -> None:
    with pytest.raises(TypeError):
        emit(ServiceEvent.SERVICE_STARTED, key=b"secret")  # type: ignore[arg-type]


def test_an_unknown_plugin_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        plugins.load(plugins.KEY_STORES, "nosuch")
    assert caught.value.code is CoreCode.PLUGIN_UNKNOWN


def announce(folder: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution in a folder, with one engine."""
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{plugins.ENGINES}]\nmine = {module}:build\n")
    monkeypatch.syspath_prepend(folder)


def test_a_plugin_whose_entry_point_names_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(tmp_path, "engine_without_builder", monkeypatch)
    (tmp_path / "engine_without_builder.py").write_text("builder = None\n")
    with pytest.raises(UsageError, match="engine_without_builder:build") as caught:
        plugins.load(plugins.ENGINES, "mine")
    assert caught.value.code is CoreCode.PLUGIN_UNKNOWN


def test_a_plugins_own_mistake_is_not_called_a_missing_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(tmp_path, "engine_with_mistake", monkeypatch)
    (tmp_path / "engine_with_mistake.py").write_text("import json\njson.no_such_name\n")
    with pytest.raises(AttributeError):
        plugins.load(plugins.ENGINES, "mine")


@pytest.mark.parametrize(
    "text",
    [
        "2026-1-2T3:4:5Z",
        "2026-01-02t03:04:05z",
        "\N{ARABIC-INDIC DIGIT TWO}026-01-02T03:04:05Z",
        "2026-01-02T03:04:05+00:00",
        "2026-01-02T03:04:05.0Z",
        "2026-01-02 03:04:05Z",
        " 2026-01-02T03:04:05Z",
        "2026-02-30T03:04:05Z",
        "",
    ],
)
def test_a_time_has_one_spelling(text: str) -> None:
    good = "2026-01-02T03:04:05Z"
    assert rfc3339(parse_rfc3339(good)) == good
    with pytest.raises(ValueError, match=r"one form of a time|does not match|day is out of range"):
        parse_rfc3339(text)
