"""Records, keys and logs for the tests of the transparency log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from regalia.crypto.sign import SigningKey
from regalia.tlog.database import open_engine
from regalia.tlog.log import Log
from regalia.wire.release import RECORD_FORMAT, ReleaseRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

ORIGIN = "log.example/regalia"


def build_record(number: int = 0, **changes: Any) -> ReleaseRecord:  # noqa: ANN401
    fields: dict[str, Any] = {
        "format": RECORD_FORMAT,
        "decision": "release",
        "time": "2026-11-22T10:00:00Z",
        "broker": ORIGIN,
        "model_id": "model:" + "1" * 64,
        "model_version": 3,
        "policy_id": "policy:" + "2" * 64,
        "policy_version": 4,
        "hardware": "simulated",
        "tee": "sev-snp",
        "product": "Genoa",
        "measurement": "3" * 96,
        "chip_id": "4" * 128,
        "devices": [],
        "revocation": "checked",
        "evidence_digest": "sha256:" + "5" * 64,
        "recipient": "key:" + "6" * 64,
        "custody": "broker",
        "key_wrapping": "none",
        "control": "",
        "lease_id": f"lease:{number:032x}",
        "lease_until": "2026-11-22T10:10:00Z",
        "wildcards": [],
        "reasons": [],
    }
    return ReleaseRecord(**(fields | changes))


@pytest.fixture(scope="session")
def make_record() -> Callable[..., ReleaseRecord]:
    return build_record


@pytest.fixture(scope="session")
def origin() -> str:
    return ORIGIN


@pytest.fixture(scope="session")
def signer() -> SigningKey:
    return SigningKey.generate_ed25519()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path}/log.db")
    yield engine
    engine.dispose()


@pytest.fixture
def log(engine: Engine, signer: SigningKey) -> Log:
    return Log(engine, origin=ORIGIN, key=signer)
