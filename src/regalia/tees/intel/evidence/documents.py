"""Intel's signed JSON documents: TCB info version 3 and enclave identity version 2.

Intel PCS API version 4, "Get TCB Info" and "Get (TD) QE Identity". The signature covers the exact
bytes of the inner object, so these are never re-encoded. Members that are not known here are
ignored: Intel signs them, and raises the version when the meaning of the known ones changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from regalia.core.clock import parse_rfc3339
from regalia.core.codec import MIB, exact
from regalia.core.errors import CoreCode, ParseError
from regalia.tees.intel.evidence.bodies import SVN_COUNT
from regalia.tees.intel.names import TcbStatus
from regalia.wire.evidence_codes import EvidenceCode, unsupported_version

if TYPE_CHECKING:
    from datetime import datetime

T = TypeVar("T")

DOCUMENT_MAX = 1 * MIB  # bytes; seen: 7 KiB
TCB_INFO_VERSION = 3
IDENTITY_VERSION = 2
LEVELS_MAX = 1024
_ISV_STATUSES = (TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED)
_DERIVED_STATUSES = (
    TcbStatus.TD_RELAUNCH_ADVISED,
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
)
_U8_MAX = 0xFF
_U16_MAX = 0xFFFF


class TcbInfoId(StrEnum):
    """Which kind of TEE a TCB info is for."""

    SGX = "SGX"
    TDX = "TDX"


class EnclaveId(StrEnum):
    """Which enclave an identity is of. Others (QVE) are of no use here."""

    QE = "QE"
    TD_QE = "TD_QE"


@dataclass(frozen=True, slots=True)
class IsvLevel:
    """A level of an enclave or of a TDX module, by its ISVSVN."""

    isv_svn: int
    status: TcbStatus
    date: str  # as Intel wrote it
    advisories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TcbLevel:
    """A level of the platform."""

    sgx_svns: tuple[int, ...]  # 16
    pce_svn: int
    tdx_svns: tuple[int, ...]  # 16; empty for SGX
    status: TcbStatus
    date: str
    advisories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModuleIdentity:
    """What a TDX module of one major version must be."""

    name: str  # TDX_01, ...; empty for the module of version 0
    mr_signer: bytes  # 48
    attributes: bytes  # 8
    attributes_mask: bytes  # 8
    levels: tuple[IsvLevel, ...]


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """A TCB info. Untrusted until its signature is verified."""

    id: TcbInfoId
    fmspc: bytes  # 6
    pce_id: bytes  # 2
    issue_date: datetime
    next_update: datetime
    evaluation_data_number: int
    levels: tuple[TcbLevel, ...]  # best first, as Intel lists them
    module: ModuleIdentity | None
    module_identities: tuple[ModuleIdentity, ...]


@dataclass(frozen=True, slots=True)
class EnclaveIdentity:
    """A quoting enclave's identity. Untrusted until its signature is verified."""

    id: EnclaveId
    issue_date: datetime
    next_update: datetime
    evaluation_data_number: int
    misc_select: int
    misc_select_mask: int
    attributes: int  # 128 bits
    attributes_mask: int
    mr_signer: bytes  # 32
    isv_prod_id: int
    levels: tuple[IsvLevel, ...]


class _IsvTcb(msgspec.Struct, frozen=True):
    isvsvn: int


class _IsvLevel(msgspec.Struct, frozen=True, rename="camel"):
    tcb: _IsvTcb
    tcb_date: str
    tcb_status: str
    advisory_ids: list[str] = msgspec.field(default_factory=list, name="advisoryIDs")


class _Component(msgspec.Struct, frozen=True):
    svn: int


class _PlatformTcb(msgspec.Struct, frozen=True):
    sgxtcbcomponents: list[_Component]
    pcesvn: int
    tdxtcbcomponents: list[_Component] = msgspec.field(default_factory=list)


class _TcbLevel(msgspec.Struct, frozen=True, rename="camel"):
    tcb: _PlatformTcb
    tcb_date: str
    tcb_status: str
    advisory_ids: list[str] = msgspec.field(default_factory=list, name="advisoryIDs")


class _Module(msgspec.Struct, frozen=True, rename="camel"):
    mrsigner: str
    attributes: str
    attributes_mask: str


class _ModuleIdentity(_Module, frozen=True, rename="camel"):
    id: str
    tcb_levels: list[_IsvLevel]


class _TcbInfo(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    version: int
    issue_date: str
    next_update: str
    fmspc: str
    pce_id: str
    tcb_type: int
    tcb_evaluation_data_number: int
    tcb_levels: list[_TcbLevel]
    tdx_module: _Module | None = None
    tdx_module_identities: list[_ModuleIdentity] = msgspec.field(default_factory=list)


class _Identity(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    version: int
    issue_date: str
    next_update: str
    tcb_evaluation_data_number: int
    miscselect: str
    miscselect_mask: str
    attributes: str
    attributes_mask: str
    mrsigner: str
    isvprodid: int
    tcb_levels: list[_IsvLevel]


def parse_tcb_info(body: bytes) -> TcbInfo:
    """Parse the inner object of a TCB info, as signed.

    Raises:
        ParseError: TOO_LARGE, MALFORMED or UNSUPPORTED_VERSION.
    """
    what = "TCB info"
    _require_version(body, TCB_INFO_VERSION, what)
    wire = _decode(body, _TcbInfo, what)
    if wire.id not in set(TcbInfoId) or wire.tcb_type != 0:
        raise _unsupported(what, f"{wire.id[:20]!r} type {wire.tcb_type}")
    kind = TcbInfoId(wire.id)
    if kind is TcbInfoId.TDX and wire.tdx_module is None:
        raise _malformed(what, "has no tdxModule")
    return TcbInfo(
        id=kind,
        fmspc=_hex(wire.fmspc, 6, what),
        pce_id=_hex(wire.pce_id, 2, what),
        issue_date=_date(wire.issue_date, what),
        next_update=_date(wire.next_update, what),
        evaluation_data_number=_number(wire.tcb_evaluation_data_number, _U16_MAX, what),
        levels=tuple(_platform_level(level, kind) for level in _some(wire.tcb_levels, what)),
        module=None if wire.tdx_module is None else _module(wire.tdx_module, "", ()),
        module_identities=tuple(
            _module(each, each.id.upper(), _isv_levels(each.tcb_levels, what))
            for each in wire.tdx_module_identities
        ),
    )


def parse_identity(body: bytes) -> EnclaveIdentity:
    """Parse the inner object of an enclave identity, as signed.

    Raises:
        ParseError: TOO_LARGE, MALFORMED or UNSUPPORTED_VERSION.
    """
    what = "QE identity"
    _require_version(body, IDENTITY_VERSION, what)
    wire = _decode(body, _Identity, what)
    if wire.id not in set(EnclaveId):
        raise _unsupported(what, f"{wire.id[:20]!r}")
    return EnclaveIdentity(
        id=EnclaveId(wire.id),
        issue_date=_date(wire.issue_date, what),
        next_update=_date(wire.next_update, what),
        evaluation_data_number=_number(wire.tcb_evaluation_data_number, _U16_MAX, what),
        # Bytes as they stand in a report: little endian.
        misc_select=int.from_bytes(_hex(wire.miscselect, 4, what), "little"),
        misc_select_mask=int.from_bytes(_hex(wire.miscselect_mask, 4, what), "little"),
        attributes=int.from_bytes(_hex(wire.attributes, 16, what), "little"),
        attributes_mask=int.from_bytes(_hex(wire.attributes_mask, 16, what), "little"),
        mr_signer=_hex(wire.mrsigner, 32, what),
        isv_prod_id=_number(wire.isvprodid, _U16_MAX, what),
        levels=_isv_levels(wire.tcb_levels, what),
    )


class _Versioned(msgspec.Struct, frozen=True):
    version: int


def _require_version(body: bytes, known: int, what: str) -> None:
    """Ask before the members are read: those of another version are other ones."""
    version = _decode(body, _Versioned, what).version
    if version != known:
        raise unsupported_version(f"{what}: version", version, (known,))


def _decode(body: bytes, kind: type[T], what: str) -> T:
    if len(body) > DOCUMENT_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: {len(body)} bytes, at most {DOCUMENT_MAX}")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise _malformed(what, str(exc)) from exc


def _platform_level(wire: _TcbLevel, kind: TcbInfoId) -> TcbLevel:
    what = "TCB info"
    tdx = wire.tcb.tdxtcbcomponents
    if (kind is TcbInfoId.TDX) != bool(tdx):
        raise _malformed(what, f"a level for {kind} with {len(tdx)} TDX components")
    return TcbLevel(
        sgx_svns=_svns(wire.tcb.sgxtcbcomponents, what),
        pce_svn=_number(wire.tcb.pcesvn, _U16_MAX, what),
        tdx_svns=_svns(tdx, what) if tdx else (),
        status=_status(wire.tcb_status, what),
        date=_dated(wire.tcb_date, what),
        advisories=tuple(wire.advisory_ids),
    )


def _isv_levels(wire: list[_IsvLevel], what: str) -> tuple[IsvLevel, ...]:
    return tuple(
        IsvLevel(
            isv_svn=_number(level.tcb.isvsvn, _U16_MAX, what),
            status=_isv_status(level.tcb_status, what),
            date=_dated(level.tcb_date, what),
            advisories=tuple(level.advisory_ids),
        )
        for level in _some(wire, what)
    )


def _module(wire: _Module, name: str, levels: tuple[IsvLevel, ...]) -> ModuleIdentity:
    what = "TCB info"
    return ModuleIdentity(
        name=name,
        mr_signer=_hex(wire.mrsigner, 48, what),
        attributes=_hex(wire.attributes, 8, what),
        attributes_mask=_hex(wire.attributes_mask, 8, what),
        levels=levels,
    )


def _svns(components: list[_Component], what: str) -> tuple[int, ...]:
    if len(components) != SVN_COUNT:
        raise _malformed(what, f"{len(components)} TCB components, want {SVN_COUNT}")
    return tuple(_number(component.svn, _U8_MAX, what) for component in components)


def _some(levels: list[Any], what: str) -> list[Any]:
    """An empty list would accept nothing, and a huge one is no list of Intel's."""
    if not 0 < len(levels) <= LEVELS_MAX:
        raise _malformed(what, f"{len(levels)} levels, want 1 to {LEVELS_MAX}")
    return levels


def _status(text: str, what: str) -> TcbStatus:
    if text not in set(TcbStatus) or TcbStatus(text) in _DERIVED_STATUSES:
        raise _malformed(what, f"the status {text[:40]!r} is not known")
    return TcbStatus(text)


def _isv_status(text: str, what: str) -> TcbStatus:
    """Enclaves and modules have no configuration: other statuses would have no meaning here."""
    status = _status(text, what)
    if status not in _ISV_STATUSES:
        raise _malformed(what, f"the status {status} is not one of an enclave or a module")
    return status


def _number(value: int, largest: int, what: str) -> int:
    if not 0 <= value <= largest:
        raise _malformed(what, f"{value} is not a number from 0 to {largest}")
    return value


def _hex(text: str, size: int, what: str) -> bytes:
    """Intel writes digits in either case; the signature covers them as they are."""
    try:
        return exact(bytes.fromhex(text), size, what=what)
    except ValueError as exc:
        raise _malformed(what, f"{text[:20]!r} is not hex") from exc


def _date(text: str, what: str) -> datetime:
    try:
        return parse_rfc3339(text)
    except ValueError as exc:
        raise _malformed(what, f"{text[:40]!r} is not a time") from exc


def _dated(text: str, what: str) -> str:
    _date(text, what)
    return text


def _malformed(what: str, detail: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"{what}: {detail}")


def _unsupported(what: str, detail: str) -> ParseError:
    return ParseError(EvidenceCode.UNSUPPORTED_VERSION, f"{what}: {detail}")
