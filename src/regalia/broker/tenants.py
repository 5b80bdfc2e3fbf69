"""What the owners of each tenant have decided, as their statements in the log say.

The log is the only store of statements. A broker follows it: before each decision it compares the
newest statement with the one it knows, and reads what is new. The log itself refuses a release that
names another statement than the newest one, so nothing can come in between.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.broker.codes import BrokerCode
from regalia.control.codes import ControlCode
from regalia.control.findings import ReleaseFacts, findings
from regalia.control.fold import apply, begin
from regalia.control.verify import verify_statement
from regalia.core.clock import parse_rfc3339
from regalia.core.errors import LogError, RegaliaError, UnavailableError
from regalia.tlog.codes import TlogCode
from regalia.wire.release import device_names
from regalia.wire.runtime_config import parse_runtime_config
from regalia.wire.statement import parse_log_statement

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from regalia.appraisal.claims import Claims
    from regalia.broker.models import ServedModel
    from regalia.broker.statement_floors import Floor, StatementFloors
    from regalia.control.state import ControlState
    from regalia.core.errors import Code
    from regalia.core.types import Digest
    from regalia.tlog.log import Log
    from regalia.wire.statement import Owner

_PAGE = 64  # statements that are read at one time


@dataclass(frozen=True, slots=True)
class Standing:
    """What decided about a model when a request came: its tenant's statements, if it has any.

    Attributes:
        tenant: its name; None for a model without a tenant.
        state: what its statements say; None if it has no charter yet.
    """

    tenant: str | None
    state: ControlState | None

    @property
    def digest(self) -> str:
        """Names the newest statement in records; empty if there is none."""
        return "" if self.state is None else str(self.state.head)


NO_TENANT = Standing(None, None)


class Tenants:
    """Follows the statements of all tenants. Thread-safe.

    Args:
        log: that they follow.
        charters: digest of statement 1 by the tenant's name, as configured.
        floors: how far each chain had come before.
    """

    def __init__(self, log: Log, charters: Mapping[str, Digest], floors: StatementFloors) -> None:
        self._log = log
        self._floors = floors
        self._charters = dict(charters)
        self._states: dict[str, ControlState] = {}
        self._remembered: dict[str, str] = {}  # digest of the newest statement by tenant
        self._lock = threading.Lock()

    def charter(self, tenant: str) -> Digest:
        """The digest by which a tenant is known. Raises UnavailableError TENANT_UNKNOWN."""
        found = self._charters.get(tenant)
        if found is None:
            raise UnavailableError(BrokerCode.TENANT_UNKNOWN, f"no tenant {tenant} here")
        return found

    def standing(self, model: ServedModel | None) -> Standing:
        """What decides about a model now. Raises as ``state``."""
        if model is None or model.tenant is None:
            return NO_TENANT
        return Standing(model.tenant, self.state(model.tenant))

    def state(self, tenant: str) -> ControlState | None:
        """What a tenant's statements say, with all that stand in the log; None without a charter.

        Raises:
            UnavailableError: TENANT_UNKNOWN or STATE_UNAVAILABLE.
            LogError: the log cannot be read; STATEMENT_CHAIN_BROKEN, it lost statements; or
                LOG_INCONSISTENT, it holds one that its tenant's owners did not decide.
        """
        charter = self.charter(tenant)
        with self._lock:
            state = self._states.get(tenant)
            head = self._log.reader.head(tenant)
            known = 0 if state is None else state.sequence
            if head.sequence < known or (
                state is not None and head.sequence == known and head.digest != state.head
            ):
                raise LogError(
                    TlogCode.STATEMENT_CHAIN_BROKEN,
                    f"{tenant} had {known} statements, and the log has {head.sequence}",
                )
            floor = self._floors.of(tenant) if known < head.sequence else None
            while known < head.sequence:
                state = self._read(tenant, charter, state, floor)
                known = state.sequence
            newest = "" if state is None else str(state.head)
            if self._remembered.get(tenant) != newest:
                self._floors.raise_to(state, tenant)
                self._remembered[tenant] = newest
            if state is not None:
                self._states[tenant] = state
            return state

    def _read(
        self, tenant: str, charter: Digest, state: ControlState | None, floor: Floor | None
    ) -> ControlState:
        first = 1 if state is None else state.sequence + 1
        for index, data in self._log.statements(tenant, first, _PAGE):
            try:
                entry = parse_log_statement(data)
                at = parse_rfc3339(entry.time)
                signed = verify_statement(entry.signed(), owners_of(state))
                state = begin(signed, charter, at) if state is None else apply(state, signed, at)
            except RegaliaError as exc:
                raise LogError(
                    TlogCode.LOG_INCONSISTENT, f"entry {index}: [{exc.code.name}] {exc.what}"
                ) from exc
            if floor is not None:
                floor.require_on(state)
        if state is None or state.sequence < first:
            raise LogError(
                TlogCode.LOG_INCONSISTENT, f"statement {first} of {tenant} is not in the log"
            )
        return state


def owners_of(state: ControlState | None) -> tuple[Owner, ...]:
    """The owners in force; none without a charter."""
    return () if state is None else tuple(state.charter.owners)


def control_findings(  # noqa: PLR0913 - the facts of one release
    standing: Standing,
    model: ServedModel,
    claims: Claims,
    config: bytes,
    *,
    model_version: int,
    recipient: str,
    now: datetime,
) -> list[tuple[Code, str]]:
    """Reasons why the owners of a model's tenant do not permit a release.

    Args:
        standing: of the model, when the request came.
        model: that is asked for.
        claims: verified, and bound to the request.
        config: the runtime configuration, untrusted; the policy compares it with the claims.
        model_version: that the runtime says it has.
        recipient: fingerprint of the attested key.
        now: the moment of the decision, aware.
    """
    if standing.tenant is None:
        return []
    if standing.state is None:
        what = f"{standing.tenant} has no charter in this log"
        return [(ControlCode.TENANT_WITHOUT_CHARTER, what)]
    parsed = parse_runtime_config(config)
    machines = {*device_names(claims.devices), f"{claims.tee}:{claims.instance.hex()}"}
    facts = ReleaseFacts(
        model_id=str(model.model_id),
        model_version=model_version,
        policy_id=str(model.policy_id),
        measurement=f"{claims.tee}:{claims.measurement.hex()}",
        machines=frozenset(machines),
        runtime=recipient,
        manifest=model.manifest,
        signer=model.signer,
        kek=model.wrapped_key.kek,
        site=parsed.placement.site,
        region=parsed.placement.region,
        tier=parsed.placement.tier,
        adapters=bool(parsed.adapters),
    )
    return findings(standing.state, facts, now)
