"""Well-formedness of policy documents beyond types and ranges. Spec: docs/spec/policy.md.

Every refusal names the field by its path. A list of accepted values may be empty: such a
policy is well-formed, says nothing is accepted, and denies everything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeVar

from regalia.core.codec import unhex
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import KeyFingerprint, ModelId
from regalia.formats.snp_names import PRODUCTS, PlatformInfoBit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from regalia.formats.policy import (
        Approvals,
        ClientPolicy,
        PlacementRule,
        Platform,
        ReleasePolicy,
        RuntimeRule,
        Snp,
    )

T = TypeVar("T")

ENTRIES_MAX = 1024  # of any list
WORD_MAX = 128  # characters of a name, region, site, tier, CSP id
CONDITIONS_MAX = 32
EXPRESSION_MAX = 1024  # characters

_WORD = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_LOG_KEY = re.compile(r"[\x21-\x2a\x2c-\x7e]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]+={0,2}")
_HOST_PORT = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9a-f:.]+\]):([0-9]{1,5})")
_PORT_MAX = 65535


def check_release(policy: ReleasePolicy) -> None:
    """Raise ParseError MALFORMED at the first rule that a release policy breaks."""
    _check_common(policy)
    _each(policy.custody, "custody", _any_text)
    _check_approvals(policy.approvals)


def check_client(policy: ClientPolicy) -> None:
    """Raise ParseError MALFORMED at the first rule that a client policy breaks."""
    _check_common(policy)


def _check_common(policy: ReleasePolicy | ClientPolicy) -> None:
    _word(policy.name, "name")
    _model_id(policy.model.id, "model.id")
    _check_platform(policy.platform)
    _check_placement(policy.placement)
    _check_runtime(policy.runtime)
    if len(policy.conditions) > CONDITIONS_MAX:
        raise _bad("conditions", f"{len(policy.conditions)} entries, at most {CONDITIONS_MAX}")
    _each(policy.conditions, "conditions", _expression)


def _check_platform(platform: Platform) -> None:
    _each(platform.devices, "platform.devices", _word)
    _check_snp(platform.snp)


def _check_snp(snp: Snp) -> None:
    path = "platform.snp"
    _each(snp.products, f"{path}.products", _product)
    _each(snp.measurements, f"{path}.measurements", _hex(48))
    _each(snp.host_data, f"{path}.host_data", _hex(32))
    _each(snp.id_keys, f"{path}.id_keys", _hex(48))
    _each(snp.vmpl, f"{path}.vmpl", _any_number)
    _each(snp.platform_info_required, f"{path}.platform_info_required", _platform_bit)
    if snp.tcb_minimum != "any":
        _each(tuple(snp.tcb_minimum), f"{path}.tcb_minimum", _product)
    _each(snp.signing_keys, f"{path}.signing_keys", _any_text)
    _each(snp.csp_ids, f"{path}.csp_ids", _word)
    _each(snp.chip_ids, f"{path}.chip_ids", _chip_id)


def _check_placement(rule: PlacementRule) -> None:
    _each(rule.regions, "placement.regions", _word)
    _each(rule.sites, "placement.sites", _word)
    _each(rule.tiers, "placement.tiers", _word)


def _check_runtime(rule: RuntimeRule) -> None:
    if rule.owner_key != "any":
        _fingerprint(rule.owner_key, "runtime.owner_key")
    if rule.log_key != "any" and _LOG_KEY.fullmatch(rule.log_key) is None:
        raise _bad("runtime.log_key", "want a signed-note key, <origin>+<8 hex>+<base64>")
    _each(rule.egress, "runtime.egress", _host_port)


def _check_approvals(approvals: Approvals) -> None:
    _each(approvals.approvers, "approvals.approvers", _fingerprint)
    if approvals.threshold > len(approvals.approvers):
        raise _bad(
            "approvals.threshold",
            f"{approvals.threshold} of {len(approvals.approvers)} approvers can never be reached",
        )


def _bad(path: str, why: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"policy, {path}: {why}")


def _each(values: Sequence[T] | Literal["any"], path: str, check: Callable[[T, str], None]) -> None:
    """Check every entry of a list, its length, and that nothing stands in it twice."""
    if values == "any":
        return
    if len(values) > ENTRIES_MAX:
        raise _bad(path, f"{len(values)} entries, at most {ENTRIES_MAX}")
    for index, value in enumerate(values):
        check(value, f"{path}[{index}]")
        if value in values[:index]:
            raise _bad(f"{path}[{index}]", "stands in the list twice")


def _any_text(value: str, path: str) -> None:
    """The type already allows only a few words."""


def _any_number(value: int, path: str) -> None:
    """The type already bounds it."""


def _word(value: str, path: str) -> None:
    if value == "any":
        raise _bad(path, 'in a list "any" is no wildcard; write "any" in place of the list')
    if len(value) > WORD_MAX or _WORD.fullmatch(value) is None:
        raise _bad(path, f"want 1 to {WORD_MAX} printable ASCII characters, no space at the ends")


def _expression(value: str, path: str) -> None:
    if not 0 < len(value) <= EXPRESSION_MAX:
        raise _bad(path, f"want 1 to {EXPRESSION_MAX} characters, got {len(value)}")


def _product(value: str, path: str) -> None:
    if value not in PRODUCTS:
        raise _bad(path, f"{value[:WORD_MAX]!r} is no product; known are {', '.join(PRODUCTS)}")


def _platform_bit(value: str, path: str) -> None:
    if value not in PlatformInfoBit.__members__:
        known = ", ".join(PlatformInfoBit.__members__)
        raise _bad(path, f"{value[:WORD_MAX]!r} is no PLATFORM_INFO bit; known are {known}")


def _hex(size: int) -> Callable[[str, str], None]:
    def check(value: str, path: str) -> None:
        unhex(value, what=f"policy, {path}", size=size)

    return check


def _chip_id(value: str, path: str) -> None:
    if not any(unhex(value, what=f"policy, {path}", size=64)):
        raise _bad(path, "all zero is what every VLEK-signed report says, so it names no chip")


def _model_id(value: str, path: str) -> None:
    try:
        ModelId.parse(value)
    except ParseError as exc:
        raise _bad(path, exc.what) from exc


def _fingerprint(value: str, path: str) -> None:
    try:
        KeyFingerprint.parse(value)
    except ParseError as exc:
        raise _bad(path, exc.what) from exc


def _host_port(value: str, path: str) -> None:
    match = _HOST_PORT.fullmatch(value)
    if match is None or not 0 < int(match[1]) <= _PORT_MAX:
        raise _bad(path, f"want host:port, got {value[:WORD_MAX]!r}")
