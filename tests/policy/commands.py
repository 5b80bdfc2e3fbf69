"""What the tests of ``regalia policy`` run it on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regalia.cli.main import run
from regalia.core.types import ModelId
from regalia.crypto.sign import SigningKey
from regalia.wire.runtime_config import FORMAT, Placement, RuntimeConfig
from regalia_testing.tees.snp.defects import HEALTHY

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from regalia.wire.evidence import Evidence
    from regalia_testing.tees.snp.defects import SnpDefects
    from regalia_testing.tees.snp.simulator import SnpSimulator

MODEL = ModelId(b"\x07" * 32)
REPORT_DATA = bytes(range(64))
MEASUREMENT = b"\x5a" * 48
OWNER = SigningKey.generate_ed25519()
SECOND = SigningKey.generate_ed25519()
Json = dict[str, Any]


@dataclass
class PolicyTestbed:
    """A simulated platform, an owner's keys and a folder; ``run`` is the command line."""

    folder: Path
    platform: SnpSimulator
    capsys: pytest.CaptureFixture[str]

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def config(self, **changes: Any) -> RuntimeConfig:  # noqa: ANN401 - any field
        fields: Json = {
            "format": FORMAT,
            "model_id": str(MODEL),
            "owner_key": str(OWNER.verify_key.fingerprint),
            "log_key": "log.example+0badc0de+AQID",
            "placement": Placement(region="eu", site="hall-1", tier="own"),
            "egress": [],
        }
        return RuntimeConfig(**{**fields, **changes})

    def evidence(
        self,
        defects: SnpDefects = HEALTHY,
        report_data: bytes = REPORT_DATA,
        **config: Any,  # noqa: ANN401
    ) -> Evidence:
        measurement = bytes(48) if defects.wrong_measurement else MEASUREMENT
        return self.platform.evidence(
            report_data,
            measurement=measurement,
            runtime_config=self.config(**config).encode(),
            defects=defects,
        )

    def write(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return self.path(name)

    def run(self, *args: str) -> tuple[int, str, str]:
        status = run(["policy", *args])
        out, err = self.capsys.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    def json(self, *args: str, status: int = 0) -> Json:
        got, out, err = self.run(*args, "--json")
        assert got == status, out + err
        body = json.loads(out)
        assert isinstance(body, dict)
        return body

    def refused(self, *args: str, status: int) -> str:
        """The code of a refusal, which people and programs must see alike."""
        code = str(self.json(*args, status=status)["error"]["code"])
        got, _, err = self.run(*args)
        assert got == status
        assert code in err
        return code

    def verify_with(self) -> list[str]:
        collateral = self.platform.collateral_directory
        anchor = collateral / "ark.der"
        return ["--collateral", str(collateral), "--dangerous-simulated-anchor", str(anchor)]

    def pin(self, *more: str, source: str | None = None, out: str = "policy.json") -> list[str]:
        if source is None:
            source = self.write("evidence.json", self.evidence().encode())
        model = [] if "--model" in more else ["--model", str(MODEL), "--minimum-version", "3"]
        freshness = [] if "--challenge" in more else ["--challenge", REPORT_DATA.hex()]
        return [
            *("pin", "--evidence", source, "--signer", self.path("owner.pub"), *model, *freshness),
            *("--out", self.path(out), *self.verify_with(), *more),
        ]

    def pinned(self) -> str:
        """A signed policy, pinned from healthy evidence."""
        self.json(*self.pin("--sign", self.path("owner.key")))
        return self.path("policy.json")
