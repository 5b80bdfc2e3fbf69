"""The rule that every key store shares: no model key without a logged release of that model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.core.codec import lp
from regalia.core.errors import KeyAccessError, ParseError
from regalia.core.types import ModelId
from regalia.keys.codes import KeysCode

if TYPE_CHECKING:
    from regalia.wire.release import LoggedRecord


def require_release(logged: LoggedRecord, context: bytes) -> None:
    """Return if ``logged`` is a release of the model that the wrapping context names.

    The context carries the model id as a length-prefixed part (docs/spec/sealed-model.md), and
    the wrapped key opens under its exact context only. So a record of one model cannot fetch
    the key of another.

    Args:
        logged: a record that is proved to stand in the log.
        context: of the wrapped key that is asked for.

    Raises:
        KeyAccessError: RECORD_NO_RELEASE or RECORD_OTHER_MODEL.
    """
    record = logged.record
    if record.decision != "release":
        raise KeyAccessError(
            KeysCode.RECORD_NO_RELEASE, f"log entry {logged.index} is a {record.decision}"
        )
    try:
        model_id = ModelId.parse(record.model_id)
    except ParseError as exc:
        raise KeyAccessError(
            KeysCode.RECORD_OTHER_MODEL, f"log entry {logged.index} names no model"
        ) from exc
    if lp(model_id.raw) not in context:
        raise KeyAccessError(
            KeysCode.RECORD_OTHER_MODEL, f"log entry {logged.index} is for {model_id}"
        )
