"""An SEV-SNP report whose fields somebody wrote out in JSON, put together again.

CoCo's guest components send the report so, as the Rust crate ``sev`` serializes its structure;
newer releases of that crate gave some fields other names. The signature covers the report's bytes,
so a field that is wrong here is found when it is verified.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError
from regalia.tees.snp.claims import Tcb
from regalia.tees.snp.evidence.wire import FIELDS, Product, SnpReport, encode_tcb
from regalia.wire.spelling import from_json_value

if TYPE_CHECKING:
    from collections.abc import Mapping

# Paths of members by field; the field's own name goes first.
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "signature_algo": ("sig_algo",),
    "platform_info": ("plat_info",),
    "key_info": ("author_key_en", "_author_key_en"),
    "signature_r": ("signature.r",),
    "signature_s": ("signature.s",),
    **{
        f"{which}_{part}": (f"{which}.{part}",)
        for which in ("current", "committed")
        for part in ("build", "minor", "major")
    },
}
# Reports of older versions have zeros there, and writers leave the members out.
_OPTIONAL = frozenset(
    {"cpuid_fam_id", "cpuid_mod_id", "cpuid_step", "launch_mit_vector", "current_mit_vector"}
)
_TCBS = ("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb")
_TURIN_FAMILY = 0x1A


def report_of_fields(members: Mapping[str, object]) -> tuple[bytes, tuple[str, ...]]:
    """The report's bytes, and the fields that are missing; without all fields there are no bytes.

    Args:
        members: of the JSON object, untrusted.

    Raises:
        ParseError: MALFORMED, a field is not of its type.
    """
    found: dict[str, int | bytes] = {}
    missing: list[str] = []
    for _, code, name in FIELDS:
        if not name:
            continue
        value = _lookup(members, name)
        if value is None and name in _OPTIONAL:
            value = 0
        if value is None:
            missing.append(name)
        elif name in _TCBS:
            found[name] = _tcb(value, name, members)
        else:
            found[name] = _field(value, name, code)
    if missing:
        return b"", tuple(missing)
    return SnpReport(**found).encode(), ()  # type: ignore[arg-type] # by name


def _lookup(members: Mapping[str, object], name: str) -> object:
    for path in (name, *_OTHER_NAMES.get(name, ())):
        value: object = members
        for step in path.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def _field(value: object, name: str, code: str) -> int | bytes:
    size = struct.calcsize(f"<{code}")
    if not code.endswith("s"):
        if type(value) is not int or not 0 <= value < 1 << 8 * size:
            raise _malformed(name, f"want a number of {size} bytes")
        return value
    raw = from_json_value(value)
    # A scalar of a signature is written with or without the zeros that fill its field.
    if raw is None or (len(raw) != size and not (name.startswith("signature") and len(raw) < size)):
        raise _malformed(name, f"want {size} bytes")
    return raw.ljust(size, b"\x00")


def _tcb(value: object, name: str, members: Mapping[str, object]) -> bytes:
    """TCB_VERSION: its bytes, its number, or its components."""
    if type(value) is int and 0 <= value < 1 << 64:
        return value.to_bytes(8, "little")
    if not isinstance(value, dict):
        raw = from_json_value(value)
        if raw is None or len(raw) != 8:  # noqa: PLR2004 - bytes of a TCB_VERSION
            raise _malformed(name, "want the components of a TCB_VERSION, or its 8 bytes")
        return raw
    parts = {part: value.get(part) or 0 for part in Tcb.__dataclass_fields__}
    if not all(type(part) is int and 0 <= part < 1 << 8 for part in parts.values()):
        raise _malformed(name, "a component is no number of one byte")
    turin = value.get("fmc") is not None or _lookup(members, "cpuid_fam_id") == _TURIN_FAMILY
    return encode_tcb(Tcb(**parts), Product.TURIN if turin else Product.MILAN)


def _malformed(name: str, why: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"SNP report in JSON: {name}: {why}")
