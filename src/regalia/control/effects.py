"""What each kind of act changes. An act that does not fit what holds is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from regalia.control.codes import StatementCode
from regalia.control.lifecycle import Life, Stage, moved
from regalia.control.state import EVERYTHING, Registered
from regalia.core.clock import parse_rfc3339
from regalia.core.errors import PolicyDenied
from regalia.core.types import Digest
from regalia.wire.statement import (
    Charter,
    ModelVersion,
    PublishPolicy,
    ReferenceValue,
    RegisterModel,
    Resume,
    Revoke,
    Rotate,
    Stop,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from regalia.control.state import ControlState
    from regalia.wire.statement import Action


def effect_of(state: ControlState, sequence: int, action: Action) -> ControlState:
    """The state after an act. Signatures and times were checked before.

    Args:
        state: before it.
        sequence: of the statement.
        action: the act.

    Raises:
        PolicyDenied: STATEMENT_NOT_IN_THIS_STATE.
    """
    return _EFFECTS[type(action)](state, sequence, action)


def _charter(state: ControlState, _: int, action: Charter) -> ControlState:
    return replace(state, charter=action)


def _register(state: ControlState, _: int, action: RegisterModel) -> ControlState:
    key = (action.model_id, action.version)
    known = state.models.get(key)
    life = Life(Stage.STAGED) if known is None else known.life
    if life.stage is Stage.REVOKED or _is_revoked(state, *key):
        raise _refused(f"version {action.version} of {action.model_id} is revoked")
    found = Registered(Digest.parse(action.manifest), action.terms, life)
    return replace(state, models={**state.models, key: found})


def _publish(state: ControlState, _: int, action: PublishPolicy) -> ControlState:
    if not any(model_id == action.model_id for model_id, _ in state.models):
        raise _refused(f"{action.model_id} is not registered")
    return replace(state, policies={**state.policies, action.model_id: action.policy_id})


def _reference(state: ControlState, _: int, action: ReferenceValue) -> ControlState:
    name = f"{action.tee}:{action.measurement}"
    revoked = ("measurement", name) in state.revoked
    life = Life(Stage.REVOKED) if revoked else state.references.get(name)
    after = moved(life, action.transition, _moment(action.until), name)
    return replace(state, references={**state.references, name: after})


def _model_version(state: ControlState, _: int, action: ModelVersion) -> ControlState:
    key = (action.model_id, action.version)
    known = state.models.get(key)
    if known is None:
        raise _refused(f"version {action.version} of {action.model_id} is not registered")
    life = Life(Stage.REVOKED) if _is_revoked(state, *key) else known.life
    what = f"version {action.version} of {action.model_id}"
    after = moved(life, action.transition, _moment(action.until), what)
    return replace(state, models={**state.models, key: replace(known, life=after)})


def _rotate(state: ControlState, _: int, action: Rotate) -> ControlState:
    for name in (action.old, action.new):
        if name in state.rotated:
            raise _refused(f"{name} was replaced by {state.rotated[name]}")
    return replace(state, rotated={**state.rotated, action.old: action.new})


def _revoke(state: ControlState, _: int, action: Revoke) -> ControlState:
    # Revoking twice is no error: whoever is in a hurry must not be refused.
    return replace(state, revoked=state.revoked | {(action.subject, action.value)})


def _stop(state: ControlState, sequence: int, action: Stop) -> ControlState:
    return replace(state, stops={**state.stops, action.model_id or EVERYTHING: sequence})


def _resume(state: ControlState, sequence: int, action: Resume) -> ControlState:
    """Lift the stops that were there when it was signed; a later one holds."""
    lifted = {
        target
        for target, stopped in state.stops.items()
        if stopped < sequence and action.model_id in (None, target)
    }
    if not lifted:
        raise _refused("nothing that this could resume is stopped")
    return replace(state, stops={t: n for t, n in state.stops.items() if t not in lifted})


def _is_revoked(state: ControlState, model_id: str, version: int) -> bool:
    return ("model-version", f"{model_id}@{version}") in state.revoked


def _moment(until: str | None) -> datetime | None:
    return None if until is None else parse_rfc3339(until)


def _refused(what: str) -> PolicyDenied:
    return PolicyDenied(StatementCode.STATEMENT_NOT_IN_THIS_STATE, what)


_EFFECTS: dict[type, Callable[[ControlState, int, Any], ControlState]] = {
    Charter: _charter,
    RegisterModel: _register,
    PublishPolicy: _publish,
    ReferenceValue: _reference,
    ModelVersion: _model_version,
    Rotate: _rotate,
    Revoke: _revoke,
    Stop: _stop,
    Resume: _resume,
}
