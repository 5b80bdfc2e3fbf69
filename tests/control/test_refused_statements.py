"""Every reason for which a statement is not accepted, each with a statement that deserves it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.control import fold
from regalia.control.fold import apply, begin
from regalia.control.verify import read_unverified, verify_statement
from regalia.core.clock import rfc3339
from regalia.core.errors import RegaliaError
from regalia.core.types import Digest
from regalia.crypto import dsse
from regalia.wire.statement import (
    ENVELOPE_LIMIT,
    PAYLOAD_TYPE,
    ModelVersion,
    PublishPolicy,
    ReferenceValue,
    RegisterModel,
    Resume,
    Revoke,
    Rotate,
    Stop,
    Terms,
)
from regalia_testing.statements import Tenant, charter_of, envelope, owner_key

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = f"model:{'1' * 64}"
OTHER = f"model:{'2' * 64}"
POLICY = f"policy:{'3' * 64}"
OPEN = Terms(ends=None, sites=None, jurisdictions=None, roles=None, derivatives="any")
REGISTER = RegisterModel(manifest=f"sha256:{'4' * 64}", model_id=MODEL, terms=OPEN, version=1)
PUBLISH = PublishPolicy(model_id=MODEL, policy_id=POLICY)
ROTATE = Rotate(new="kek-2", old="kek-1")
IMAGE = "ab" * 48
STOP = Stop(model_id=None)


def reference(transition: Any, until: str | None = None) -> ReferenceValue:  # noqa: ANN401
    return ReferenceValue(measurement=IMAGE, tee="sev-snp", transition=transition, until=until)


def version(transition: Any, until: str | None = None) -> ModelVersion:  # noqa: ANN401
    return ModelVersion(model_id=MODEL, transition=transition, until=until, version=1)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(RegaliaError) as caught:
        call()
    assert caught.value.code.why
    return caught.value.code.name


def altered(tenant: Tenant, /, **fields: Any) -> bytes:  # noqa: ANN401
    """A well-signed statement of which some fields are other ones."""
    return envelope(msgspec.structs.replace(tenant.statement(ROTATE), **fields), ("ann", "ben"))


@pytest.fixture
def tenant() -> Tenant:
    made = Tenant()
    made.found()
    return made


def test_another_tenant(tenant: Tenant) -> None:
    data = altered(tenant, tenant="other")
    assert code_of(lambda: tenant.accept(data)) == "STATEMENT_OTHER_TENANT"


def test_a_gap(tenant: Tenant) -> None:
    data = altered(tenant, sequence=3)
    assert code_of(lambda: tenant.accept(data)) == "STATEMENT_GAP"


def test_two_that_are_swapped(tenant: Tenant) -> None:
    ahead = tenant.copy()
    ahead.act(ROTATE)
    second = ahead.act(STOP)
    assert second.sequence == 3
    assert code_of(lambda: tenant.accept(ahead.chain[2])) == "STATEMENT_GAP"
    tenant.accept(ahead.chain[1])
    assert tenant.accept(ahead.chain[2]) == second


def test_the_same_again(tenant: Tenant) -> None:
    tenant.act(ROTATE)
    assert code_of(lambda: tenant.accept(tenant.chain[1])) == "STATEMENT_STALE"
    assert code_of(lambda: tenant.accept(tenant.chain[0])) == "STATEMENT_STALE"


def test_one_that_a_stop_overtook(tenant: Tenant) -> None:
    pending = envelope(tenant.statement(ROTATE), ("ann", "ben"))
    tenant.act(STOP, "cyd")
    assert code_of(lambda: tenant.accept(pending)) == "STATEMENT_STALE"


def test_another_previous(tenant: Tenant) -> None:
    data = altered(tenant, previous=str(Digest(b"1" * 32)))
    assert code_of(lambda: tenant.accept(data)) == "STATEMENT_OTHER_PREVIOUS"


def test_expiry_is_exact_at_the_second(tenant: Tenant) -> None:
    data = envelope(tenant.statement(ROTATE), ("ann", "ben"))
    late = tenant.copy()
    tenant.wait(3 * 86400 + 0.999)
    tenant.accept(data)
    late.wait(3 * 86400 + 1)
    assert code_of(lambda: late.accept(data)) == "STATEMENT_EXPIRED"


def test_an_earlier_clock_brings_no_time_back(tenant: Tenant) -> None:
    data = envelope(tenant.statement(ROTATE), ("ann", "ben"))
    tenant.wait(4 * 86400)
    tenant.at_now()
    tenant.wait(-4 * 86400)
    assert code_of(lambda: tenant.accept(data)) == "STATEMENT_EXPIRED"


@pytest.mark.parametrize(
    "action",
    [
        REGISTER,
        PUBLISH,
        reference("stage"),
        reference("revoke"),
        version("promote"),
        ROTATE,
        Resume(model_id=None),
    ],
    ids=lambda action: type(action).__name__,
)
def test_one_signature_of_two(tenant: Tenant, action: Any) -> None:  # noqa: ANN401
    for before in (REGISTER, STOP):
        tenant.act(before)
    data = envelope(tenant.statement(action), ("ann",))
    assert code_of(lambda: tenant.accept(data)) == "STATEMENT_TOO_FEW_SIGNATURES"


@pytest.mark.parametrize(
    "action",
    [STOP, Stop(model_id=MODEL), Revoke(subject="chip", value="sev-snp:00")],
    ids=["stop", "stop one", "revoke"],
)
@pytest.mark.parametrize("owner", ["ann", "ben", "cyd"])
def test_each_owner_stops_and_revokes_alone(tenant: Tenant, action: Any, owner: str) -> None:  # noqa: ANN401
    assert tenant.act(action, owner).sequence == 2


def test_a_charter_needs_all_of_its_owners() -> None:
    tenant = Tenant()
    statement = tenant.charter()
    for by in (("ann", "ben"), ("cyd",)):
        signed = verify_statement(envelope(statement, by), ())
        assert (
            code_of(lambda signed=signed: begin(signed, statement.digest(), tenant.now))
            == "STATEMENT_TOO_FEW_SIGNATURES"
        )


@pytest.mark.parametrize(
    ("by", "accepted"),
    [
        (("ann", "ben", "dan", "eve"), True),
        (("ann", "cyd", "dan"), True),  # cyd is an owner of both
        (("ann", "ben"), False),
        (("ann", "ben", "dan"), False),
        (("dan", "eve"), False),
        (("cyd", "dan", "eve"), False),
        (("cyd",), False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_new_charter_needs_old_and_new_owners(
    tenant: Tenant, by: tuple[str, ...], *, accepted: bool
) -> None:
    data = envelope(tenant.statement(charter_of(("cyd", "dan", "eve"), 2)), by)
    if not accepted:
        assert code_of(lambda: tenant.accept(data)) == "STATEMENT_TOO_FEW_SIGNATURES"
        return
    tenant.accept(data)
    assert code_of(lambda: tenant.act(ROTATE, "ann", "ben")) == "SIGNER_UNKNOWN"
    assert tenant.act(ROTATE, "dan", "eve").sequence == 3


def test_a_stranger_who_signs_too(tenant: Tenant) -> None:
    data = envelope(tenant.statement(ROTATE), ("ann", "ben", "eve"))
    assert code_of(lambda: tenant.accept(data)) == "SIGNER_UNKNOWN"


def test_an_owner_of_the_new_charter_signs_nothing_else(tenant: Tenant) -> None:
    tenant.act(
        charter_of(("cyd", "dan"), 1),
        "ann",
        "ben",
        "dan",
        not_before=tenant.now + timedelta(days=1),
    )
    data = envelope(tenant.statement(STOP), ("dan",))
    assert code_of(lambda: tenant.accept(data)) == "SIGNER_UNKNOWN"


def test_nobody_signs(tenant: Tenant) -> None:
    data = dsse.sign(PAYLOAD_TYPE, tenant.statement(STOP).encode(), ()).encode()
    assert code_of(lambda: tenant.accept(data)) == "UNSIGNED"


def test_a_signature_of_another_statement(tenant: Tenant) -> None:
    mine, _ = read_unverified(envelope(tenant.statement(STOP), ("ann",)))
    other, _ = read_unverified(envelope(tenant.statement(Stop(model_id=MODEL)), ("ann",)))
    data = replace(mine, signatures=other.signatures).encode()
    assert code_of(lambda: tenant.accept(data)) == "SIGNATURE_INVALID"


def test_another_payload_type(tenant: Tenant) -> None:
    payload = tenant.statement(STOP).encode()
    data = dsse.sign("application/json", payload, (owner_key("ann"),)).encode()
    assert code_of(lambda: tenant.accept(data)) == "WRONG_PAYLOAD_TYPE"


def test_more_bytes_than_an_envelope_has(tenant: Tenant) -> None:
    assert code_of(lambda: tenant.accept(bytes(ENVELOPE_LIMIT + 1))) == "TOO_LARGE"


def test_a_charter_that_is_not_the_trusted_one() -> None:
    tenant = Tenant()
    signed = verify_statement(envelope(tenant.charter(), tenant.owners), ())
    assert code_of(lambda: begin(signed, Digest(bytes(32)), tenant.now)) == "CHARTER_UNTRUSTED"


def test_a_chain_that_begins_without_a_charter(tenant: Tenant) -> None:
    late = Tenant()
    first = msgspec.structs.replace(late.statement(STOP), sequence=1)
    owners = tuple(charter_of(("ann", "ben"), 1).owners)
    signed = verify_statement(envelope(first, ("ann",)), owners)
    assert code_of(lambda: begin(signed, first.digest(), late.now)) == "CHARTER_EXPECTED"
    later = verify_statement(envelope(tenant.statement(ROTATE), ("ann", "ben")), owners)
    assert code_of(lambda: begin(later, later.digest, late.now)) == "CHARTER_EXPECTED"


def test_a_charter_whose_time_has_not_come() -> None:
    tenant = Tenant()
    at = rfc3339(tenant.now + timedelta(seconds=1))
    first = msgspec.structs.replace(tenant.charter(), not_before=at)
    signed = verify_statement(envelope(first, tenant.owners), ())
    assert code_of(lambda: begin(signed, first.digest(), tenant.now)) == "STATEMENT_LOCKED"
    assert begin(signed, first.digest(), tenant.now + timedelta(seconds=1)).sequence == 1


def locked() -> Tenant:
    tenant = Tenant(delays={"reference-value": 3600})
    tenant.found()
    return tenant


@pytest.mark.parametrize("after", [None, 0, 1, 3599])
def test_a_time_lock_that_is_too_short(after: int | None) -> None:
    tenant = locked()
    at = None if after is None else tenant.now + timedelta(seconds=after)
    assert code_of(lambda: tenant.act(reference("stage"), not_before=at)) == "STATEMENT_LOCKED"
    assert tenant.act(ROTATE).sequence == 2  # a kind without a delay


def test_a_time_lock_is_counted_from_when_it_is_accepted() -> None:
    tenant = locked()
    at = tenant.now + timedelta(seconds=3600)
    data = envelope(tenant.statement(reference("stage"), not_before=at), ("ann", "ben"))
    early = tenant.copy()
    tenant.wait(1)
    assert code_of(lambda: tenant.accept(data)) == "STATEMENT_LOCKED"
    state = early.accept(data)
    assert state.references == {}
    early.wait(3599)
    assert early.at_now().references == {}
    early.wait(1)
    assert list(early.at_now().references) == [f"sev-snp:{IMAGE}"]


def done(tenant: Tenant, *actions: Any) -> Tenant:  # noqa: ANN401
    for action in actions:
        tenant.act(action)
    return tenant


UNTIL = "2027-01-01T00:00:00Z"
NO_WAY_BACK: dict[str, tuple[tuple[Any, ...], Any]] = {
    "promote what is unknown": ((), reference("promote")),
    "retire what is unknown": ((), reference("retire", UNTIL)),
    "stage twice": ((reference("stage"),), reference("stage")),
    "retire what is staged": ((reference("stage"),), reference("retire", UNTIL)),
    "promote twice": ((reference("stage"), reference("promote")), reference("promote")),
    "stage what is current": ((reference("stage"), reference("promote")), reference("stage")),
    "promote what retires": (
        (reference("stage"), reference("promote"), reference("retire", UNTIL)),
        reference("promote"),
    ),
    "retire twice": (
        (reference("stage"), reference("promote"), reference("retire", UNTIL)),
        reference("retire", "2028-01-01T00:00:00Z"),
    ),
    "stage what is revoked": ((reference("revoke"),), reference("stage")),
    "promote what is revoked": (
        (reference("stage"), reference("revoke")),
        reference("promote"),
    ),
    "promote what one owner revoked": (
        (reference("stage"), Revoke(subject="measurement", value=f"sev-snp:{IMAGE}")),
        reference("promote"),
    ),
    "stage what one owner revoked": (
        (Revoke(subject="measurement", value=f"sev-snp:{IMAGE}"),),
        reference("stage"),
    ),
    "promote a version that is unknown": ((), version("promote")),
    "revoke a version that is unknown": ((), version("revoke")),
    "promote a version twice": ((REGISTER, version("promote")), version("promote")),
    "promote a version that is revoked": ((REGISTER, version("revoke")), version("promote")),
    "register a version that is revoked": ((REGISTER, version("revoke")), REGISTER),
    "register a version that one owner revoked": (
        (Revoke(subject="model-version", value=f"{MODEL}@1"),),
        REGISTER,
    ),
    "promote a version that one owner revoked": (
        (REGISTER, Revoke(subject="model-version", value=f"{MODEL}@1")),
        version("promote"),
    ),
    "a policy of a model that is unknown": ((), PUBLISH),
    "a policy of another model": ((REGISTER,), msgspec.structs.replace(PUBLISH, model_id=OTHER)),
    "rotate twice": ((ROTATE,), Rotate(new="kek-3", old="kek-1")),
    "rotate back": ((ROTATE,), Rotate(new="kek-1", old="kek-2")),
    "resume what runs": ((), Resume(model_id=None)),
    "resume a model that runs": ((Stop(model_id=OTHER),), Resume(model_id=MODEL)),
    "resume one model of a stop of everything": ((STOP,), Resume(model_id=MODEL)),
}


@pytest.mark.parametrize("name", NO_WAY_BACK)
def test_there_is_no_way_back(tenant: Tenant, name: str) -> None:
    before, action = NO_WAY_BACK[name]
    done(tenant, *before)
    unchanged = tenant.at_now()
    assert code_of(lambda: tenant.act(action)) == "STATEMENT_NOT_IN_THIS_STATE"
    assert tenant.state == unchanged
    # The same, planned for later: it does not fit what will be then either.
    later = tenant.now + timedelta(days=1)
    assert code_of(lambda: tenant.act(action, not_before=later)) == "STATEMENT_NOT_IN_THIS_STATE"


def test_too_many_wait(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "SCHEDULED_MAX", 2)
    later = tenant.now + timedelta(days=1)
    for number in range(2):
        tenant.act(Rotate(new="new", old=f"old-{number}"), not_before=later)
    third = Rotate(new="new", old="old-2")
    assert code_of(lambda: tenant.act(third, not_before=later)) == "STATEMENT_TOO_MANY_SCHEDULED"
    tenant.act(STOP, "cyd")  # no stop waits
    tenant.act(third)


def test_a_refused_statement_changes_nothing(tenant: Tenant) -> None:
    state = tenant.at_now()
    signed = verify_statement(altered(tenant, sequence=3), tuple(state.charter.owners))
    with pytest.raises(RegaliaError):
        apply(state, signed, tenant.now)
    assert tenant.state == state
