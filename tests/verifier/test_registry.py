"""Every TEE and every kind of device is whole: one test for each hole that a new one may have."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import pytest

from regalia.appraisal.check_log import CheckLog
from regalia.appraisal.claims import Claims, DeviceClaims
from regalia.core.errors import AttestationError
from regalia.core.types import Digest
from regalia.verifier.anchors import TrustAnchors
from regalia.verifier.collateral import CollateralSet, needs_of
from regalia.verifier.collateral.items import READERS
from regalia.verifier.registry import PLUGINS, VENDORS, plugin_for
from regalia.verifier.verifier import Verifier
from regalia.wire.collateral import CollateralKind
from regalia.wire.evidence import (
    DEVICE_NONCE_SIZE,
    REPORT_DATA_SIZE,
    DeviceKind,
    Evidence,
    Tee,
)
from regalia_testing.accepted_evidence import ACCEPTED_EVIDENCE, NO_LISTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from regalia.appraisal.claims import Unbound
    from regalia.wire.evidence import (
        DeviceEvidence,
    )
    from regalia_testing.accepted_evidence import AcceptedEvidence

    Kind = Tee | DeviceKind
    Found = tuple[AcceptedEvidence, Evidence | DeviceEvidence]

KINDS = (*Tee, *DeviceKind)
OF_ALL = ("collateral/", "composite/")  # checks that are made of every machine
# Checks of what evidence may lack, and the healthy sample does: no other check may be skipped.
OPTIONAL: Mapping[Kind, frozenset[str]] = {
    Tee.TPM: frozenset({"tpm/ak-chain"}),  # an attestation key that was enrolled has no certificate
}
PROTOCOLS = {**dict.fromkeys(Tee, Claims), **dict.fromkeys(DeviceKind, DeviceClaims)}


@pytest.fixture(scope="module")
def accepted_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Found]:
    """A sample with evidence of a kind, and that evidence."""
    folder = tmp_path_factory.mktemp("kinds")
    accepted_evidence = [
        make(folder / str(number)) for number, make in enumerate(ACCEPTED_EVIDENCE.values())
    ]

    def get(kind: Kind) -> Found:
        for accepted in accepted_evidence:
            if accepted.evidence.tee is kind:
                return accepted, accepted.evidence
            for device in accepted.evidence.devices:
                if device.kind is kind:
                    return accepted, device
        pytest.fail(f"no simulated sample has evidence of {kind}")

    return get


def unbound(
    accepted: AcceptedEvidence, evidence: Evidence | DeviceEvidence, log: CheckLog
) -> Unbound[object]:
    how = {"rule": accepted.rule, "now": accepted.now, "check_log": log}
    if isinstance(evidence, Evidence):
        return accepted.verifier.unbound(evidence, **how)
    return accepted.verifier.unbound_device(evidence, **how)


def test_every_kind_has_one_plug_in() -> None:
    kinds = [plugin.kind for plugin in PLUGINS]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) == set(KINDS)
    assert [plugin_for(kind).kind for kind in KINDS] == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_its_roots_are_pinned(kind: Kind) -> None:
    vendor = plugin_for(kind).vendor
    assert vendor in VENDORS
    assert TrustAnchors.production().by_vendor[vendor.name] == vendor.anchors.production()
    assert TrustAnchors().by_vendor.get(vendor.name) is None


def test_no_two_vendors_share_a_name() -> None:
    assert len({vendor.name for vendor in VENDORS}) == len(VENDORS)
    with pytest.raises(TypeError, match="nobody"):
        TrustAnchors(nobody=VENDORS[0].anchors.production())


def test_every_kind_of_collateral_has_one_reader() -> None:
    assert set(READERS) == set(CollateralKind)
    own = [kind for vendor in VENDORS for kind in vendor.items]
    assert len(own) == len(set(own))
    assert {kind for vendor in VENDORS for kind in vendor.formats.values()} <= set(own)
    assert {kind for vendor in VENDORS for kind in vendor.files.values()} <= set(own)


@pytest.mark.parametrize("kind", KINDS)
def test_its_checks_are_those_that_it_makes(
    accepted_of: Callable[[Kind], Found], kind: Kind
) -> None:
    """All that a healthy machine goes through, in the order that is told; the nonce comes last."""
    plugin = plugin_for(kind)
    names = [check.name for check in plugin.checks]
    assert len(names) == len(set(names))
    assert plugin.checks[-1] is plugin.nonce.check
    assert all(check.title and check.meaning for check in plugin.checks)
    accepted, evidence = accepted_of(kind)
    log = CheckLog()
    found = unbound(accepted, evidence, log)
    found.fresh(found.bound_to, log)
    made = [step.check for step in log.steps() if not step.check.name.startswith(OF_ALL)]
    assert made[-1] is plugin.nonce.check
    assert len(made) > 1
    names_made = [check.name for check in made]
    skipped = [name for name in names if name not in names_made]
    optional = OPTIONAL.get(kind, frozenset())
    assert set(skipped) == optional, (
        f"{kind}: CHECKS lists {sorted(set(skipped) - optional)}, and the walk through healthy "
        f"evidence makes none of these: make them, or name them in OPTIONAL if they are about "
        f"what evidence may lack (OPTIONAL names {sorted(optional)})"
    )
    assert names_made == [name for name in names if name in names_made], kind


@pytest.mark.parametrize("kind", KINDS)
def test_it_needs_something(accepted_of: Callable[[Kind], Found], kind: Kind) -> None:
    """No kind of evidence is called complete because nobody wrote down what it takes."""
    accepted, evidence = accepted_of(kind)
    plugin = plugin_for(kind)
    parsed = plugin.parse(evidence, CheckLog())
    needs = list(plugin.needs(parsed, CollateralSet((), ())))
    assert needs
    assert all(need.what and need.where in {"", "evidence"} for need in needs)
    missing = {
        need.kind
        for need in needs_of(accepted.evidence, accepted.verifier.collateral)
        if not need.where
    }
    lists = {CollateralKind.CRL} if accepted.rule is NO_LISTS else set()
    assert missing <= lists  # what the healthy sample is verified with is enough


@pytest.mark.parametrize("kind", KINDS)
def test_without_roots_it_is_refused(accepted_of: Callable[[Kind], Found], kind: Kind) -> None:
    accepted, evidence = accepted_of(kind)
    parsed = plugin_for(kind).parse(evidence, CheckLog())
    assert parsed.raw is evidence
    nobody = replace(accepted, verifier=Verifier(TrustAnchors(), accepted.verifier.collateral))
    with pytest.raises(AttestationError) as refusal:
        unbound(nobody, evidence, CheckLog())
    assert refusal.value.code.name == "ROOT_UNTRUSTED"


@pytest.mark.parametrize("kind", KINDS)
def test_nonces_that_prove_nothing(accepted_of: Callable[[Kind], Found], kind: Kind) -> None:
    """Even of evidence that carries exactly such a nonce."""
    plugin = plugin_for(kind)
    size = REPORT_DATA_SIZE if isinstance(kind, Tee) else DEVICE_NONCE_SIZE
    assert len(plugin.nonce_of(b"\x01" * size)) in plugin.nonce.sizes
    zeros = bytes(plugin.nonce.sizes.stop - 1)
    assert plugin.nonce_of(bytes(size)) in {*plugin.nonce.well_known, bytes(size)}
    found = unbound(*accepted_of(kind), CheckLog())
    for nonce in (b"", zeros, plugin.nonce_of(bytes(size)), *plugin.nonce.well_known):
        with pytest.raises(AttestationError) as refusal:
            found.fresh(nonce)
        assert refusal.value.code.name == "NONCE_WELL_KNOWN"
    for nonce in (found.bound_to[:-1], found.bound_to + b"\x01", b"\x01" * 600):
        with pytest.raises(AttestationError) as refusal:
            found.fresh(nonce)
        assert refusal.value.code.name == "NONCE_MISMATCH"


@pytest.mark.parametrize("kind", KINDS)
def test_its_names_and_its_grace(accepted_of: Callable[[Kind], Found], kind: Kind) -> None:
    """What a deny-list calls it, and what a late bundle does to its claims."""
    plugin = plugin_for(kind)
    claims = unbound(*accepted_of(kind), CheckLog()).dangerous_without_freshness()
    names = plugin.identities(claims)
    assert names[0][0] == kind.value
    assert all(any(identity) for _, identity in names)
    assert plugin.weaken(claims).revocation == "grace"


def _members(protocol: type) -> dict[str, Any]:
    """Types of the attributes that a protocol of claims demands."""
    names = {each.__name__: each for each in (Digest, Tee, DeviceKind)}
    return {
        name: get_type_hints(member.fget, localns=names)["return"]
        for name, member in vars(protocol).items()
        if isinstance(member, property)
    }


def _is(value: object, hint: Any) -> bool:  # noqa: ANN401 - any type
    """Whether a value has a type of the protocols, entries of tuples and mappings included."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is None and hint is DeviceClaims:
        return not list(_claims_holes(value, DeviceClaims))
    if origin is None:
        return isinstance(value, hint)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is(each, inner[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            isinstance(key, inner[0]) and isinstance(each, inner[1]) for key, each in value.items()
        )
    raise TypeError(f"this test does not know the type {hint}")


def _claims_holes(claims: object, protocol: type) -> Iterator[str]:
    """What claims lack of their protocol, in words; nothing if they have all of it."""
    members = _members(protocol)
    assert len(members) > 4, protocol
    for name, hint in members.items():
        said = f"{type(claims).__name__}.{name}, which {protocol.__name__} demands"
        if not hasattr(claims, name):
            yield f"there is no {said}"
        elif not _is(getattr(claims, name), hint):
            yield f"{said} as {hint}, is {getattr(claims, name)!r:.80}"


@pytest.mark.parametrize("kind", KINDS)
def test_its_claims_say_what_all_claims_say(
    accepted_of: Callable[[Kind], Found], kind: Kind
) -> None:
    """Releases, leases and the log read these; what is missing would show there as a crash."""
    claims = unbound(*accepted_of(kind), CheckLog()).dangerous_without_freshness()
    assert list(_claims_holes(claims, PROTOCOLS[kind])) == []


def test_claims_that_lack_something_are_found(accepted_of: Callable[[Kind], Found]) -> None:
    claims = unbound(*accepted_of(Tee.SEV_SNP), CheckLog()).dangerous_without_freshness()
    whole = {name: getattr(claims, name) for name in _members(Claims)}
    assert list(_claims_holes(SimpleNamespace(**whole), Claims)) == []
    for name in whole:
        lacking = SimpleNamespace(**{key: value for key, value in whole.items() if key != name})
        (said,) = _claims_holes(lacking, Claims)
        assert f"there is no SimpleNamespace.{name}, which Claims demands" in said
        (said,) = _claims_holes(SimpleNamespace(**{**whole, name: None}), Claims)
        assert f"{name}, which Claims demands as " in said
