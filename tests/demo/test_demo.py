"""`regalia demo --json`, as a program reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def test_the_demo_shows_what_it_promises(tmp_path: Path, model_cache: Path) -> None:
    folder = tmp_path / "demo"
    done = subprocess.run(
        # The README's command, with flags that make its result readable for this test.
        [
            "/usr/bin/make",
            "--silent",
            "demo",
            f"DEMO_FLAGS=--json --dir {folder} --cache {model_cache}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["ok"] is True
    assert result["hardware"] == "simulated"
    assert "Paris" in result["answer"]
    assert result["model_id"].startswith("model:")
    assert result["streamed_events"] > 2
    attacks = {attack["id"]: attack for attack in result["attacks"]}
    assert len(attacks) >= 10
    for attack in attacks.values():
        assert attack["control"] == "stolen", attack
        assert attack["regalia"] in {"refused", "not protected: simulated TEE"}, attack
    assert [a["id"] for a in attacks.values() if a["regalia"] != "refused"] == ["host-memory"]
    codes = {name: attack["code"] for name, attack in attacks.items()}
    assert codes["other-measurement"] == "MEASUREMENT_UNKNOWN"
    assert codes["debug-tee"] == "DEBUG_ENABLED"
    assert codes["replay"] == codes["other-key"] == "NONCE_MISMATCH"
    assert codes["unwritable-log"] == "LOG_UNWRITABLE"
    assert codes["relay-cuts"] == "OHTTP_TRUNCATED"
    assert codes["old-version"] == "MODEL_VERSION_TOO_OLD"


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "regalia", "demo", "--json", "--dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 9
    assert json.loads(done.stdout)["error"]["code"] == "FILE_EXISTS"
