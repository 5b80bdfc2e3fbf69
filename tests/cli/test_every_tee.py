"""The command line asks the registry about a TEE: a new one needs no line in it."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from regalia.appraisal.online_collateral import CollateralService, OnlineCollateral
from regalia.appraisal.policy_field import PinChoices
from regalia.cli.attest.input import read_rules
from regalia.cli.collateral import fetch
from regalia.cli.collateral.input import collateral_services
from regalia.cli.main import run
from regalia.core.errors import UsageError
from regalia.policy import registry as policies
from regalia.tees.nitro.evidence.plugin import NITRO
from regalia.verifier.registry import PLUGINS, plugin_for
from regalia.wire.evidence import DeviceKind, Evidence, Tee
from regalia_testing.policy_scenarios import POLICY_SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.online_collateral import FetchContext
    from regalia.verifier.registry import Plugin

SOURCES = Path(fetch.__file__).parents[1]
TEES = SOURCES.parent / "tees"
# Commands that are about one TEE by their nature: a recipe for each launch, and a TPM's enrolment.
OF_ONE_TEE = (
    "measure/",
    "attest/enroll.py",
    # The table of device readers, and words for people on which nothing depends.
    "attest/collect.py",
    "attest/compact.py",
)
ONLINE = [plugin for plugin in PLUGINS if plugin.online is not None]


# -- machines --------------------------------------------------------------------------------


@pytest.mark.parametrize("tee", Tee)
def test_a_machine_is_named_as_its_policy_names_it(tee: Tee) -> None:
    """What `attest verify` shows can be put into a policy, and after --machine."""
    policy, claims = policies.plugin_for(tee), POLICY_SCENARIOS[tee]().claims
    pinned = policy.pin(claims, PinChoices(machine=True, config=True))
    if not any(claims.instance):
        pytest.skip("this evidence names no machine")
    name = plugin_for(tee).machine_names.show(claims.instance)
    assert attrgetter(policy.machines)(pinned) == [name]
    rules = read_rules("baseline", signers=(), revocation=None, machines=[name], simulated=False)
    assert rules.name == "baseline"


@pytest.mark.parametrize("slip", ["", "0", "0g", "i-", "i-XY", "machine", "a1b2 "])
def test_what_no_machine_is_called_is_refused(slip: str) -> None:
    with pytest.raises(UsageError, match="hex digits, two for each byte, or the i-"):
        read_rules("baseline", signers=(), revocation=None, machines=[slip], simulated=False)


# -- collateral ------------------------------------------------------------------------------


@pytest.mark.parametrize("plugin", ONLINE, ids=lambda plugin: plugin.kind)
def test_the_function_that_fetches_is_there(plugin: Plugin) -> None:
    assert plugin.online is not None
    assert callable(fetch.load_fetch(plugin))
    assert plugin.online.services


def test_every_module_that_fetches_is_named_by_a_plug_in() -> None:
    named = {plugin.online.fetch.partition(":")[0] for plugin in ONLINE if plugin.online}
    rooms = {f"regalia.tees.{path.parent.name}.fetch" for path in TEES.glob("*/fetch.py")}
    assert rooms == named


def test_each_service_has_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["collateral", "fetch", "--help"]) == 0
    shown = "".join(capsys.readouterr().out.split())
    services = collateral_services()
    assert len({service.option for service in services}) == len(services)
    for service in services:
        line = f"--{service.option} URL {service.about} ({service.public})."
        assert "".join(line.split()) in shown


EXAMPLE = CollateralService("example", "A service that nobody has", public="https://example.org")


def fetch_example(every: list[Evidence], at: FetchContext[Any]) -> dict[str, bytes]:
    """What a new TEE's function would do; there is nothing to verify in no file."""
    assert [evidence.tee for evidence in every] == [Tee.NITRO]
    at.ask(EXAMPLE)
    return {}


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Evidence of a TEE whose plug-in has just got a service."""
    online = OnlineCollateral((EXAMPLE,), fetch=f"{__name__}:fetch_example")
    plugin = replace(NITRO, online=online)
    monkeypatch.setattr("regalia.cli.collateral.input.PLUGINS", (plugin,))
    monkeypatch.setattr(fetch, "plugin_for", {Tee.NITRO: plugin}.__getitem__)
    path = tmp_path / "evidence.json"
    path.write_bytes(Evidence(Tee.NITRO, b"document", (), b"").encode())
    return path


def options_for(evidence: Path, address: str | None) -> fetch.FetchOptions:
    return fetch.FetchOptions(
        evidence=(evidence,),
        into=evidence.with_name("files"),
        addresses={"example": address},
        dangerous_simulated_anchor=None,
        as_json=True,
    )


def test_a_new_service_is_asked(added: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert collateral_services() == (EXAMPLE,)
    fetch.fetch_for(options_for(added, "http://127.0.0.1:1"))
    assert json.loads(capsys.readouterr().out)["ok"]


def test_a_new_service_is_asked_at_no_address_of_its_own(added: Path) -> None:
    with pytest.raises(UsageError, match=r"--example https://example\.org, or a mirror"):
        fetch.fetch_for(options_for(added, None))


# -- the sources -----------------------------------------------------------------------------


def named_in(text: str) -> Iterator[str]:
    """TEEs that a module names: members of the enumerations, and modules of a room."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            members = {"Tee": Tee, "DeviceKind": DeviceKind}.get(node.value.id)
            if members is not None and node.attr in members.__members__:
                yield f"{node.value.id}.{node.attr}"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("regalia.tees."):
            yield str(node.module)


def test_the_command_line_names_no_tee() -> None:
    found = {
        f"{name}: {named}"
        for path in SOURCES.rglob("*.py")
        if not (name := path.relative_to(SOURCES).as_posix()).startswith(OF_ONE_TEE)
        for named in named_in(path.read_text(encoding="utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    "hole",
    ["x = tee is Tee.SEV_SNP", "from regalia.tees.snp import fetch", "d = DeviceKind.NVIDIA_GPU"],
)
def test_a_module_that_names_one_is_found(hole: str) -> None:
    assert len(list(named_in(hole))) == 1
