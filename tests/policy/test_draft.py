"""``regalia policy new``: a draft with a comment for every field, which accepts nothing yet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from regalia.cli.main import run
from regalia.core.errors import ParseError
from regalia.policy.documents import Platform, ReleasePolicy
from regalia.policy.draft import new_platform, new_release
from regalia.policy.registry import plugin_for
from regalia.policy.signed import COMMENT, read_draft, read_draft_or_section
from regalia.wire.evidence import Tee
from regalia_testing.policy_scenario import PolicyScenario

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("tee", Tee)
def test_a_draft_is_a_policy_that_accepts_nothing(tee: Tee) -> None:
    policy = read_draft(new_release([tee]))
    assert isinstance(policy, ReleasePolicy)
    plugin = plugin_for(tee)
    section = getattr(policy.platform, plugin.name)
    assert section is not None
    lists = [each for each in plugin.fields if each.value(section) == []]
    assert lists
    assert read_draft_or_section(new_platform([tee])) == policy.platform
    others = {plugin_for(other).name for other in Tee if other is not tee}
    assert all(getattr(policy.platform, name) is None for name in others)


@pytest.mark.parametrize("tee", Tee)
def test_every_field_has_its_comment(tee: Tee) -> None:
    document = json.loads(new_platform([tee]))
    plugin = plugin_for(tee)
    for each in plugin.fields:
        *within, name = each.name.split(".")
        place: dict[str, Any] = document[plugin.name]
        for part in within:
            place = place[part]
        said = place[f"{COMMENT} {name}"]
        assert each.content in said
        assert each.risk in said
        assert list(place).index(name) == list(place).index(f"{COMMENT} {name}") + 1


def test_several_kinds_of_one_policy() -> None:
    found = read_draft_or_section(new_platform([Tee.TDX, Tee.SEV_SNP, Tee.TDX]))
    assert isinstance(found, Platform)
    assert (found.snp is not None, found.tdx is not None) == (True, True)


def test_a_draft_denies_until_it_is_filled() -> None:
    draft = read_draft(new_release([Tee.SEV_SNP]))
    scenario = PolicyScenario().demand("platform.snp", draft.platform.snp)
    assert "EMPTY_RULE" in scenario.codes()


def test_comments_are_read_over_and_mean_nothing() -> None:
    plain = json.loads(PolicyScenario().policy.encode())
    commented = {f"{COMMENT} a": {"b": [1, {"//": 2}]}, f"{COMMENT}": "x", **plain}
    commented["platform"] = {"// snp": "x", **plain["platform"]}
    assert read_draft(json.dumps(commented).encode()) == PolicyScenario().policy
    twice = json.dumps(plain)[:-1] + ', "//": 1, "//": 2, "name": "again"}'
    with pytest.raises(ParseError, match="stands in an object twice"):
        read_draft(twice.encode())
    with pytest.raises(ParseError):
        read_draft(json.dumps({"/ a": 1, **plain}).encode())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "draft.json"
    command = ["policy", "new", "--tee", "tdx", "--tee", "tpm", "--out", str(out)]
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tees"] == ["tdx", "tpm"]
    assert run(["policy", "check", str(out)]) == 0
    assert "platform.tpm.pcrs" in capsys.readouterr().err
    assert run(command) == 9
    assert "FILE_EXISTS" in capsys.readouterr().err
    section = tmp_path / "section.json"
    assert run(["policy", "new", "--tee", "tdx", "--platform-only", "--out", str(section)]) == 0
    assert "accepts  nothing yet" in capsys.readouterr().out
    assert run(["policy", "check", str(section)]) == 0
