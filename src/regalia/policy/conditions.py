"""Evaluation of conditions: all must be true. Anything else is a finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.finding import finding, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.core.errors import ParseError
from regalia.policy.condition_fields import CLIENT_FIELDS, RELEASE_FIELDS
from regalia.policy.condition_grammar import check_condition
from regalia.policy.documents import ReleasePolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.condition_types import Fields, Values
    from regalia.appraisal.finding import Finding
    from regalia.policy.documents import ClientPolicy

TEXT_MAX = 1024  # characters of any text that conditions see


def check_conditions(policy: ReleasePolicy | ClientPolicy) -> None:
    """Raise ParseError CONDITION_ERROR at the first condition that cannot be decided."""
    fields = RELEASE_FIELDS if isinstance(policy, ReleasePolicy) else CLIENT_FIELDS
    for index, source in enumerate(policy.conditions):
        try:
            _check(source, fields)
        except ParseError as exc:
            raise ParseError(exc.code, f"conditions[{index}], {exc.what}") from exc


def unmet_conditions(policy: ReleasePolicy | ClientPolicy, values: Values) -> Iterator[Finding]:
    """(30) Every condition is checked and then evaluated; what is not ``true`` denies.

    Args:
        policy: whose conditions.
        values: of the fields, for one case.
    """
    fields = RELEASE_FIELDS if isinstance(policy, ReleasePolicy) else CLIENT_FIELDS
    for index, source in enumerate(policy.conditions):
        where = f"conditions[{index}], {shown(source)}"
        try:
            _check(source, fields)
            met = evaluate(source, values)
        except ParseError as exc:
            yield finding(PolicyCode.CONDITION_ERROR, f"{where}: {exc.what}")
            continue
        if not met:
            yield finding(PolicyCode.CONDITION_FALSE, f"{where} is not true")


def _check(source: str, fields: Fields) -> None:
    for pattern in check_condition(source, fields):
        # A pattern that is no regular expression would be an error that "||" may swallow.
        evaluate(f"''.matches({pattern})", {})


def _fits(value: object) -> bool:
    """Whether every number is a CEL int (the library makes doubles of larger ones) and every
    text short, so that matching it ends soon. A runtime configuration is an attester's text.
    """
    if isinstance(value, dict):
        return all(_fits(member) for member in value.values())
    if isinstance(value, list):
        return all(_fits(member) for member in value)
    if isinstance(value, str):
        return len(value) <= TEXT_MAX
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def evaluate(source: str, values: Values) -> bool:
    """The value of an expression that was checked.

    Args:
        source: the expression.
        values: of the fields.

    Raises:
        ParseError: CONDITION_ERROR, it is neither true nor false.
    """
    if not _fits(values):
        raise ParseError(PolicyCode.CONDITION_ERROR, "a number or a text is too large")
    # The library's package imports a terminal toolkit, so only policies with conditions pay.
    import cel  # noqa: PLC0415

    try:
        result: object = cel.evaluate(source, values)
    except Exception as exc:
        raise ParseError(PolicyCode.CONDITION_ERROR, shown(str(exc))) from exc
    except BaseException as exc:
        # A panic in the library's Rust code is no Exception.
        if type(exc).__name__ != "PanicException":
            raise
        raise ParseError(PolicyCode.CONDITION_ERROR, "the CEL library failed") from exc
    if result is True:
        return True
    if result is False:
        return False
    raise ParseError(
        PolicyCode.CONDITION_ERROR, f"gives {type(result).__name__}, not true or false"
    )
