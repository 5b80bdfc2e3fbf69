"""The commands of the how-tos about statements are run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.broker.config import load_config
from regalia.core.secret import SecretBytes
from regalia.core.types import Digest
from regalia.host.numbered import read_numbered
from regalia.wire.statement import ENVELOPE_LIMIT
from regalia_testing.pages import blocks_of, run_blocks
from regalia_testing.statements import owner_key
from tests.broker.harness import MEASUREMENT, Deployment, Shared
from tests.broker.owners import Owners

if TYPE_CHECKING:
    from collections.abc import Iterator

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
NAMES = ("ann", "ben", "cyd")


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path, Shared(tmp_path))
    yield made
    made.close()


def secrets(folder: Path, *, keys: bool) -> None:
    for name in NAMES:
        path = folder / f"{name}.pass"
        path.write_text(f"passphrase of {name}\n")
        path.chmod(0o600)
        if keys:
            with SecretBytes(bytearray(f"passphrase of {name}".encode())) as passphrase:
                pem = owner_key(name).to_pem(passphrase)
            (folder / f"{name}.key").write_bytes(pem)
            (folder / f"{name}.key").chmod(0o600)
    (folder / "image.hex").write_text(MEASUREMENT.hex())


@pytest.mark.slow
def test_two_of_three_as_written(deployment: Deployment) -> None:
    folder = deployment.folder
    secrets(folder, keys=False)
    (folder / "sealed").mkdir()
    (folder / "sealed" / "manifest.json").write_bytes(deployment.manifest)
    page = (HOWTO / "quorum.md").read_text(encoding="utf-8")
    done = run_blocks(folder, blocks_of(page))
    assert "Sign this?" not in done.stderr
    assert "STOP: no key of EVERYTHING is released or renewed" in done.stderr + done.stdout
    # A broker takes the folder's statements, and what is still missing is the policy.
    charter = (folder / "acme.charter").read_text().strip()
    deployment.charters = {"acme": Digest.parse(charter)}
    deployment.tenant = "acme"
    deployment.pass_time(600)
    deployment.restart()
    statements = read_numbered(folder / "acme", limit=ENVELOPE_LIMIT)
    assert len(statements) == 7
    for data in statements[:-1]:
        assert deployment.broker.administration.take(data, deployment.now).accepted
    assert deployment.denied(deployment.ask()) == ["EMERGENCY_STOPPED", "POLICY_UNPUBLISHED"]
    assert deployment.broker.administration.take(statements[-1], deployment.now).accepted
    assert deployment.denied(deployment.ask()) == ["POLICY_UNPUBLISHED"]


@pytest.mark.slow
def test_a_revocation_as_written(deployment: Deployment) -> None:
    folder = deployment.folder
    owners = Owners(deployment)
    owners.serve()
    lease = deployment.granted(deployment.ask())
    secrets(folder, keys=True)
    (folder / "log.vkey").write_text(deployment.shared.log_key + "\n")
    (folder / "acme.charter").write_text(str(owners.first.digest()))
    (folder / "acme").mkdir()
    for number, entry in enumerate(deployment.statements(), start=1):
        (folder / "acme" / f"{number}.json").write_bytes(entry.signed())
    page = (HOWTO / "revoke-a-measurement.md").read_text(encoding="utf-8")
    done = run_blocks(folder, blocks_of(page))
    assert "1 of 1 live leases would not be renewed:" in done.stdout
    assert f"{lease.lease_id} (entry 6, Genoa, " in done.stdout
    assert re.search(r"MEASUREMENT_REVOKED: sev-snp:[0-9a-f]+ is revoked", done.stdout)
    deployment.store.unwrapped.clear()
    owners.submitted((folder / "acme" / "7.json").read_bytes())
    assert deployment.denied(deployment.ask()) == ["MEASUREMENT_REVOKED"]


def test_the_page_shows_a_configuration_that_is_one(deployment: Deployment) -> None:
    """The tables of the page, in a broker's file, with the digest of a real charter."""
    page = (HOWTO / "quorum.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    tenants = block.replace("sha256:…", str(Owners(deployment).first.digest()))
    path = deployment.write_config(deployment.folder / "etc")
    head, _, _ = path.read_text().partition("[[models]]")
    path.write_text(head + tenants)

    config = load_config(path)
    assert [each.name for each in config.tenants] == ["acme"]
    assert [each.tenant for each in config.models] == ["acme"]
