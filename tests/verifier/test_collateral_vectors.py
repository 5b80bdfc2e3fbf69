"""The published bundle verifies, its siblings do not, and the script still writes them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from regalia.appraisal.collateral_rule import NO_GRACE
from regalia.core.clock import parse_rfc3339
from regalia.crypto.sign import VerifyKey
from regalia.verifier.collateral import Floor, verify_bundle
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from regalia.verifier.collateral import VerifiedBundle

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "vectors" / "collateral"
FACTS: dict[str, Any] = json.loads((FOLDER / "refused.json").read_bytes())
SIGNERS = tuple(VerifyKey.from_pem(path.read_bytes()) for path in sorted(FOLDER.glob("*.pub")))


def verify(name: str) -> VerifiedBundle:
    return verify_bundle(
        (FOLDER / f"{name}.json").read_bytes(),
        name=FACTS["name"],
        signers=SIGNERS,
        threshold=FACTS["threshold"],
        floor=Floor(**FACTS["floor"]),
        now=parse_rfc3339(FACTS["now"]),
        grace=NO_GRACE,
    )


def test_the_published_bundle() -> None:
    found = verify("bundle")
    assert found.document.serial == 7
    assert [item.kind.value for item in found.items] == [
        "certificate",
        "crl",
        "device-deny-list",
        "intel-tcb-info",
    ]


@pytest.mark.parametrize("name", FACTS["refused"])
def test_refused(name: str) -> None:
    refused(FACTS["refused"][name], verify, name=f"refused/{name}")


def test_every_file_is_listed() -> None:
    assert {path.stem for path in (FOLDER / "refused").iterdir()} == set(FACTS["refused"])


def test_the_script_writes_them() -> None:
    script = ROOT / "scripts" / "make_collateral_vectors.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
