"""The rule of all key stores: a model key is unwrapped only for a logged release of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.core.codec import lp
from regalia.core.errors import KeyAccessError, ParseError
from regalia.core.types import ModelId
from regalia.keys.codes import KeysCode

if TYPE_CHECKING:
    from regalia.wire.release import LoggedRecord

# The wrapping context of docs/spec/sealed-model.md: domain ‖ lp(model id, u64 version, seal id).
# Stated here again because key stores and sealed models do not import each other.
_CONTEXT_DOMAIN = b"regalia/wrapped-model-key/v1"
_CONTEXT_SIZE = len(_CONTEXT_DOMAIN) + (4 + 32) + (4 + 8) + (4 + 32)  # bytes


def require_release(logged: LoggedRecord, context: bytes) -> None:
    """Check that a record is a release of the model that the wrapping context names.

    The context has one form (docs/spec/sealed-model.md), whose first part is the model id, and a
    wrapped key can be unwrapped only with its exact context. Therefore the record of one model
    cannot be used to obtain the key of another. The id is compared where it stands: a search would
    also find it in the seal id, which whoever seals a model chooses.

    Args:
        logged: record whose inclusion in the log was verified.
        context: associated data of the wrapped key.

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
    begin = _CONTEXT_DOMAIN + lp(model_id.raw)
    if len(context) != _CONTEXT_SIZE or not context.startswith(begin):
        raise KeyAccessError(
            KeysCode.RECORD_OTHER_MODEL, f"log entry {logged.index} is for {model_id}"
        )
