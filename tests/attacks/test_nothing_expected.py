"""Expected values that are missing: the hole of GHSA-4px3-wj2x-xx47 and GHSA-4r6g-mp48-j2rw.

There a comparison was left out, or was made only if somebody had configured something. Here an
expected value is an argument without a default, and an empty list of accepted values denies.
"""

from __future__ import annotations

import inspect
import typing
from typing import TYPE_CHECKING

import msgspec
import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.claims import Unbound
from regalia.core.errors import ParseError
from regalia.policy.documents import SECTIONS, Platform, parse_client_policy
from regalia.policy.evaluate import evaluate_client, evaluate_release
from regalia.verifier.composite import verify_composite
from regalia.verifier.registry import PLUGINS
from regalia.verifier.verifier import Verifier
from regalia_testing.composite_testbed import BINDING
from regalia_testing.policy_scenario import changed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.verifier.registry import Plugin
    from regalia_testing.relying_party import RelyingParty

VERIFIERS: tuple[Callable[..., object], ...] = (
    verify_composite,
    Verifier.verify,
    Verifier.verify_cpu,
    Verifier.verify_device,
    Unbound.fresh,
)
EXPECTED = {"report_data", "nonce", "binding", "expected"}
# What a caller may leave out: it decides nothing.
OPTIONAL = {"check_log", "check"}
TEES = ("snp", "tdx", "sgx", "nitro", "azure_snp_vm", "azure_tdx_vm", "tpm")


@pytest.mark.parametrize("verify", VERIFIERS, ids=lambda each: each.__qualname__)
def test_expected_values_are_required_arguments(verify: Callable[..., object]) -> None:
    parameters = inspect.signature(verify).parameters
    assert EXPECTED & set(parameters), "it expects nothing"
    for name, parameter in parameters.items():
        if name in OPTIONAL:
            continue
        assert parameter.default is inspect.Parameter.empty, name
        assert "None" not in str(parameter.annotation), name


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda each: each.kind)
def test_what_expects_nothing_vouches_for_no_freshness(plugin: Plugin) -> None:
    """A plug-in is asked for genuineness alone, and its answer says so in its type."""
    parameters = inspect.signature(plugin.genuine).parameters
    assert set(parameters) == {"parsed", "anchors", "collateral", "at"}
    for name, parameter in parameters.items():
        assert parameter.default is inspect.Parameter.empty, name
        assert "None" not in str(parameter.annotation), name
    assert str(inspect.signature(plugin.genuine).return_annotation).startswith("Unbound[")


def test_circumstances_are_required_arguments() -> None:
    """What a verifier learns from ``at`` is not left out there either."""
    parameters = inspect.signature(AppraisalContext).parameters
    assert set(parameters) == {"now", "rule", "cache", "check_log"}
    for name, parameter in parameters.items():
        if name in OPTIONAL:
            continue
        assert parameter.default is inspect.Parameter.empty, name
        assert "None" not in str(parameter.annotation), name


@pytest.mark.parametrize("evaluate", [evaluate_client, evaluate_release])
def test_policy_and_context_are_required_arguments(evaluate: Callable[..., object]) -> None:
    for name, parameter in inspect.signature(evaluate).parameters.items():
        assert parameter.default is inspect.Parameter.empty, name
        assert "None" not in str(parameter.annotation), name


def test_a_binding_has_no_part_that_may_be_left_out() -> None:
    assert all(
        parameter.default is inspect.Parameter.empty
        for parameter in inspect.signature(type(BINDING)).parameters.values()
    )


def _sections() -> Iterator[tuple[str, type[msgspec.Struct]]]:
    for field in msgspec.structs.fields(Platform):
        if field.name in SECTIONS.values():
            yield from (
                (field.name, each)
                for each in typing.get_args(field.type)
                if isinstance(each, type) and issubclass(each, msgspec.Struct)
            )


def _nested(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    yield kind
    for field in msgspec.structs.fields(kind):
        for each in (field.type, *typing.get_args(field.type)):
            if isinstance(each, type) and issubclass(each, msgspec.Struct):
                yield from _nested(each)


@pytest.mark.parametrize(("name", "section"), list(_sections()), ids=[n for n, _ in _sections()])
def test_no_field_of_a_section_may_be_left_out(name: str, section: type[msgspec.Struct]) -> None:
    for kind in _nested(section):
        for field in msgspec.structs.fields(kind):
            assert field.required, f"{name}: {kind.__name__}.{field.name}"
            assert type(None) not in typing.get_args(field.type), field.name


def test_a_policy_without_a_section_accepts_no_tee(request: pytest.FixtureRequest) -> None:
    for tee in TEES:
        relying_party: RelyingParty = request.getfixturevalue(tee)
        assert relying_party.against() == []
        claims = relying_party.claims(relying_party.make())
        (path,) = _closed(relying_party)
        assert relying_party.but(path, None).judge(claims) == ["TEE_NOT_ACCEPTED"]


def _closed(relying_party: RelyingParty) -> list[str]:
    """The sections of a pinned policy: there is one."""
    platform = relying_party.policy.platform
    return [f"platform.{n}" for n in SECTIONS.values() if getattr(platform, n) is not None]


def _lists(document: msgspec.Struct, path: str) -> Iterator[str]:
    """Every list and every table of accepted values, or where one may stand."""
    for field in msgspec.structs.fields(document):
        value = getattr(document, field.name)
        if isinstance(value, msgspec.Struct):
            yield from _lists(value, f"{path}.{field.name}")
        elif any(
            typing.get_origin(each) is list for each in (field.type, *typing.get_args(field.type))
        ):
            yield f"{path}.{field.name}"


# Lists of what is demanded or refused: to demand nothing is said with an empty list.
DEMANDS = ("platform_info_required", "advisories_denied")
# Lists about one way of several, which is not the way of the platform here.
OTHER_WAYS = ("csp_ids", "id_blocks")


@pytest.mark.parametrize("tee", TEES)
def test_an_empty_list_denies(request: pytest.FixtureRequest, tee: str) -> None:
    """Of every list of accepted values, in every section."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    claims = relying_party.claims(relying_party.make())
    assert relying_party.judge(claims) == []
    (section,) = _closed(relying_party)
    document = getattr(relying_party.policy.platform, section.removeprefix("platform."))
    paths = [
        path
        for path in _lists(document, section)
        if not path.endswith(DEMANDS) and not path.endswith(OTHER_WAYS)
    ]
    assert paths
    for path in paths:
        assert relying_party.but(path, []).judge(claims), f"{path} = [] was taken for consent"


@pytest.mark.parametrize("tee", TEES)
def test_nothing_is_not_a_word(request: pytest.FixtureRequest, tee: str) -> None:
    """null and the empty text are no wildcards: the parser refuses them everywhere."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    (section,) = _closed(relying_party)
    document = getattr(relying_party.policy.platform, section.removeprefix("platform."))
    for name in document.__struct_fields__:
        for nothing in (None, ""):
            policy = changed(relying_party.policy, f"{section}.{name}", nothing)
            with pytest.raises(ParseError):
                parse_client_policy(policy.encode())
