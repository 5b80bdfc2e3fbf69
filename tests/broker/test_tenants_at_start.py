"""A broker's configuration with tenants: what it takes from a folder, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia.broker.assemble import Assembler
from regalia.broker.config import load_config
from regalia.core.errors import RegaliaError
from regalia.core.secret import SecretBytes
from regalia.host.clock import system_clock
from regalia.wire.statement import ENVELOPE_LIMIT
from regalia_testing.statements import Tenant, envelope
from tests.broker.owners import STOP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from regalia.broker.assemble import ReadyBroker
    from tests.broker.harness import Deployment


@pytest.fixture
def tenant() -> Tenant:
    made = Tenant(now=system_clock())
    made.found()
    made.act(STOP, "cyd")
    return made


@pytest.fixture
def start(deployment: Deployment) -> Iterator[Callable[[Path], ReadyBroker]]:
    """Starts brokers; the one before is stopped first."""
    running: list[ReadyBroker] = []

    def ask(_: str, path: Path | None) -> SecretBytes:
        assert path is not None
        return SecretBytes(bytearray(deployment.shared.passphrase))

    def started(path: Path) -> ReadyBroker:
        while running:
            running.pop().close()
        running.append(Assembler(load_config(path), path.parent, ask).assemble())
        return running[-1]

    yield started
    for each in running:
        each.close()


def configured(
    deployment: Deployment, tenant: Tenant, *, charter: str = "", of: str = "acme"
) -> Path:
    path = deployment.write_config(deployment.folder / "etc")
    folder = path.parent / "acme"
    folder.mkdir()
    for number, data in enumerate(tenant.chain, start=1):
        (folder / f"{number}.json").write_bytes(data)
    assert tenant.state is not None
    lines = ['[[tenants]]\nname = "acme"\nstatements = "acme"']
    lines += [f'charter = "{charter or tenant.state.founded}"', ""]
    text = path.read_text().replace("[[models]]", "\n".join(lines) + f'[[models]]\ntenant = "{of}"')
    path.write_text(text)
    return path


def test_statements_of_a_folder_are_taken_once(
    deployment: Deployment, tenant: Tenant, start: Callable[[Path], ReadyBroker]
) -> None:
    path = configured(deployment, tenant)
    for _ in range(2):
        broker = start(path).broker
        assert broker.administration.status("acme").sequence == 2
        assert broker.log.reader.size() == 2
    tenant.now = system_clock()
    further = envelope(tenant.statement(STOP), ("ann",))
    (path.parent / "acme" / "3.json").write_bytes(further)
    assert start(path).broker.administration.status("acme").sequence == 3


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(RegaliaError) as caught:
        call()
    return caught.value.code.name


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"charter": f"sha256:{'1' * 64}"}, "CHARTER_UNTRUSTED"),
        ({"charter": "sha256:11"}, "BAD_CONFIG"),
        ({"of": "other"}, "BAD_CONFIG"),
    ],
)
def test_configurations_that_are_refused(
    deployment: Deployment,
    tenant: Tenant,
    start: Callable[[Path], ReadyBroker],
    options: dict[str, str],
    code: str,
) -> None:
    path = configured(deployment, tenant, **options)
    assert code_of(lambda: start(path)) == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda folder: (folder / "1.json").unlink(), "FILE_MISSING"),
        (lambda folder: (folder / "2.json").write_bytes(b"{}"), "MALFORMED"),
        (lambda folder: (folder / "2.json").write_bytes(bytes(ENVELOPE_LIMIT + 1)), "TOO_LARGE"),
    ],
    ids=["a gap", "no statement", "a large file"],
)
def test_folders_that_are_refused(
    deployment: Deployment,
    tenant: Tenant,
    start: Callable[[Path], ReadyBroker],
    change: Callable[[Path], object],
    code: str,
) -> None:
    path = configured(deployment, tenant)
    change(path.parent / "acme")
    assert code_of(lambda: start(path)) == code


def test_two_tenants_of_one_name(deployment: Deployment, tenant: Tenant) -> None:
    path = configured(deployment, tenant)
    assert tenant.state is not None
    twice = f'[[tenants]]\nname = "acme"\ncharter = "{tenant.state.founded}"\n'
    path.write_text(path.read_text().replace("[[models]]", f"{twice}[[models]]"))
    assert code_of(lambda: load_config(path)) == "BAD_CONFIG"
