"""Settings: what is not known or not possible is refused by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, LocalError, ParseError, UsageError
from regalia.runtime.config import load_config, load_measured
from regalia.wire.runtime_config import FORMAT, Placement, RuntimeConfig

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
store = "sealed"
broker = "http://127.0.0.1:8470"
measured_config = "measured.json"
[evidence]
source = "simulated-snp"
options = { platform = "p", defects = { debug = true } }
"""


def config(folder: Path, text: str) -> Path:
    path = folder / "runtime.toml"
    path.write_text(text)
    return path


def test_defaults_are_the_safe_ones(tmp_path: Path) -> None:
    read = load_config(config(tmp_path, GOOD))
    assert read.dangers() == ()
    assert (read.memory, read.listen, read.engine.name) == (
        "locked",
        "127.0.0.1:8443",
        "transformers",
    )
    assert read.evidence.options == {"platform": "p", "defects": {"debug": True}}
    assert read.evidence.devices == ()
    assert read.limits.queue == 32


def test_dangers_are_named(tmp_path: Path) -> None:
    text = "dangerous_unlocked_memory = true\ndangerous_simulated_tee = true\n" + GOOD
    dangers = load_config(config(tmp_path, text)).dangers()
    assert dangers == ("dangerous_simulated_tee", "dangerous_unlocked_memory")


def test_a_registry_in_clear_is_a_danger(tmp_path: Path) -> None:
    for store, dangers in (
        ("oci://r.example/a?dangerous_http=on", ("store's dangerous_http",)),
        ("oci://r.example/a", ()),
        ("/srv/dangerous_http", ()),
    ):
        text = re.sub("store = .*", f'store = "{store}"', GOOD)
        assert store in text
        assert load_config(config(tmp_path, text)).dangers() == dangers


BAD = {
    "unknown setting": "dangerous_simulated_te = true\n" + GOOD,
    "unknown in a section": GOOD + "\n[limits]\nqueues = 1\n",
    "wrong type": GOOD + "\n[limits]\nqueue = '1'\n",
    "negative": GOOD + "\n[limits]\nqueue = -1\n",
    "zero": GOOD + "\n[limits]\nrequest_bytes = 0\n",
    "no threads": "load_threads = 0\n" + GOOD,
    "a device source twice": GOOD + "devices = ['nvidia-gpu', 'nvidia-gpu']\n",
    "unknown memory": 'memory = "swap"\n' + GOOD,
    "no name": 'served_name = " "\n' + GOOD,
    "unprintable name": 'served_name = "a\\u0000b"\n' + GOOD,
    "missing setting": GOOD.replace('store = "sealed"', ""),
    "missing section": GOOD.split("[evidence]", maxsplit=1)[0],
    "broker without a scheme": GOOD.replace('broker = "http://', 'broker = "'),
    "no TOML": "store = ",
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(config(tmp_path, BAD[name]))
    assert caught.value.code is CoreCode.BAD_CONFIG


def test_the_measured_file_is_found_beside_the_settings(tmp_path: Path) -> None:
    settings = load_config(config(tmp_path, GOOD))
    with pytest.raises(LocalError):
        load_measured(settings, tmp_path)
    measured = RuntimeConfig(
        format=FORMAT,
        model_id="model:" + "00" * 32,
        owner_key="key:" + "00" * 32,
        log_key="x",
        placement=Placement(region="", site="", tier=""),
        egress=[],
    )
    path = tmp_path / "measured.json"
    path.write_bytes(measured.encode())
    assert load_measured(settings, tmp_path) == (measured, measured.encode())
    path.write_bytes(measured.encode() + b"\n")
    with pytest.raises(ParseError):
        load_measured(settings, tmp_path)
