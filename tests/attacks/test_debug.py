"""A debug mode, in which the host reads memory, and a debugger: no word of a policy opens them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from regalia.core.errors import ParseError
from regalia.policy.device_set import device_findings
from regalia.policy.documents import SECTIONS, Platform, parse_client_policy
from regalia_testing.policy_scenario import changed
from regalia_testing.tees.nvidia.policy import gpu_entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.policy.documents import ClientPolicy
    from regalia_testing.relying_party import RelyingParty
    from regalia_testing.tees.nvidia.testbed import NvidiaTestbed

TEES = ("snp", "tdx", "sgx", "nitro")
OPEN_WORDS: tuple[object, ...] = ("any", "allow", 0, [])


@pytest.fixture(params=TEES)
def relying_party(request: pytest.FixtureRequest) -> RelyingParty:
    found: RelyingParty = request.getfixturevalue(request.param)
    return found


def open_everything(policy: ClientPolicy) -> ClientPolicy:
    """Every field of the platform's section at the widest value that policies accept."""
    for path in _leaves(policy.platform, "platform"):
        for word in OPEN_WORDS:
            wider = changed(policy, path, word)
            try:
                policy = parse_client_policy(wider.encode())
            except ParseError:
                continue
            break
    return policy


def _leaves(document: msgspec.Struct, path: str) -> Iterator[str]:
    for name in document.__struct_fields__:
        value = getattr(document, name)
        if isinstance(value, msgspec.Struct):
            yield from _leaves(value, f"{path}.{name}")
        elif name not in ("hardware", "devices"):
            yield f"{path}.{name}"


def test_debug_bit_or_zero_pcr(relying_party: RelyingParty) -> None:
    """SNP guest policy bit 19, TDATTRIBUTES.DEBUG, SGX's DEBUG, Nitro's PCR0 to PCR2 at zero."""
    assert relying_party.against() == []
    assert "DEBUG_ENABLED" in relying_party.against(debug=True)


def test_no_word_opens_debug(relying_party: RelyingParty) -> None:
    wide = replace(relying_party, policy=open_everything(relying_party.policy))
    assert "DEBUG_ENABLED" in wide.against(debug=True)
    assert "DEBUG_ENABLED" not in wide.against()
    assert "MEASUREMENT_UNKNOWN" not in wide.against(wrong_measurement=True)  # it is wide indeed
    changes = [path for path in _leaves(wide.policy.platform, "platform") if "debug" in path]
    assert changes == []


@pytest.mark.parametrize("tee", ["snp", "tdx"])
def test_no_word_opens_migration(request: pytest.FixtureRequest, tee: str) -> None:
    """A migration agent may carry the memory away as a debugger does."""
    relying_party: RelyingParty = request.getfixturevalue(tee)
    wide = replace(relying_party, policy=open_everything(relying_party.policy))
    field = {"snp": "migrate", "tdx": "migratable"}[tee]
    assert "MIGRATION_ALLOWED" in wide.against(**{field: True})
    assert "MIGRATION_ALLOWED" not in wide.against()


def test_any_bit_of_a_tds_debug_group(tdx: RelyingParty) -> None:
    """TUD as a whole is untrusted debug: PERF_PROF too."""
    assert "DEBUG_ENABLED" in tdx.against(profiling=True)


def test_debug_below_a_paravisor(azure_vm: RelyingParty) -> None:
    assert azure_vm.against() == []
    assert "DEBUG_ENABLED" in azure_vm.against(debug=True)


def test_debug_firmware_of_a_gpu(blackwell_testbed: NvidiaTestbed) -> None:
    entry = gpu_entry(
        count=1,
        models=["GB100"],
        features="any",
        driver_versions="any",
        driver_minimum="any",
        vbios_versions="any",
        identities="any",
        rim="any",
        revocation="any",
    )
    platform = Platform(hardware="dangerous_simulated", devices=[entry])
    for debug in (False, True):
        claims = blackwell_testbed.verify(blackwell_testbed.evidence(debug=debug))
        codes = [each.code.name for each in device_findings(platform.devices, [claims])]
        assert codes == (["DEBUG_ENABLED"] if debug else [])


def test_no_section_has_a_word_for_debug() -> None:
    """Nor for migration: what cannot be said cannot be said by mistake."""
    for name in SECTIONS.values():
        hints = [word for word in _names(Platform, name) if "debug" in word or "migrat" in word]
        assert hints == []


def _names(kind: type[msgspec.Struct], section: str) -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        if field.name != section:
            continue
        stack = [field.type]
        while stack:
            each = stack.pop()
            stack += getattr(each, "__args__", ())
            if isinstance(each, type) and issubclass(each, msgspec.Struct):
                inner = msgspec.structs.fields(each)
                yield from (one.name for one in inner)
                stack += [one.type for one in inner]
