"""Replay an event log and hold it against registers that the hardware signed.

Spec: docs/spec/event-logs.md. PCRs follow the TPM 2.0 Library (part 1, section 17) and the TCG PC
Client Platform Firmware Profile 1.05 (PFP); RTMRs follow UEFI 2.10 (chapter 38) and the Intel TDX
module (TDG.MR.RTMR.EXTEND).
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from hashlib import sha384
from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.appraisal.codes import AttestCode
from regalia.core.errors import AttestationError
from regalia.tees.boot.evidence.digests import Standing, appraise_event, hasher
from regalia.tees.boot.evidence.kinds import EventKind, kind_name
from regalia.tees.boot.evidence.log import Algorithm
from regalia.wire.evidence_codes import EvidenceCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.tees.boot.evidence.log import Event, EventLog

STARTUP_LOCALITY = b"StartupLocality\x00"
_LOCALITIES = (0, 3, 4)  # PFP 10.4.5.3; 4 stands for an H-CRTM
# PCRs that start at zero and that a static boot may extend. 17 to 22 belong to a dynamic launch.
STATIC_PCRS = (*range(17), 23)
RTMRS = (0, 1, 2, 3)
_RTMR_OF_INDEX = {1: 0, 2: 1, 3: 2, 4: 3}  # EFI_CC_MR_INDEX; 0 is MRTD, which nothing extends
_BANKS = (Algorithm.SHA256, Algorithm.SHA384, Algorithm.SHA512)

# Keeps logs from being declared verified by hand; no wall against code in the same process.
_MINT = object()


@dataclass(frozen=True, slots=True)
class VerifiedEvent:
    """One event of a register whose value the hardware signed.

    Attributes:
        number: position in the log, from 0.
        register: PCR index, or RTMR number (not the index of EFI_CC_EVENT).
        kind: eventType, the log's word: no digest covers it.
        digest: what the register was extended with, proven; empty if UNMEASURED.
        standing: see ``Standing``.
        proven: the bytes that the digest covers; empty unless PROVEN.
        asserted: the event's data, the log's word beyond what ``proven`` holds.
    """

    number: int
    register: int
    kind: int
    digest: bytes
    standing: Standing
    proven: bytes
    asserted: bytes


@dataclass(frozen=True, slots=True)
class VerifiedLog:
    """A log that leads to the signed values of ``registers``; holds their events only.

    Made by ``require_pcrs`` and ``require_rtmrs``.
    """

    algorithm: Algorithm
    registers: Mapping[int, bytes]  # by PCR index or RTMR number
    events: tuple[VerifiedEvent, ...]
    rtmrs: bool  # whether the registers are RTMRs
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("verified logs come from require_pcrs or require_rtmrs")


def replay_pcrs(log: EventLog, algorithm: Algorithm) -> dict[int, bytes]:
    """The values that the log says the PCRs of one bank have, all of ``STATIC_PCRS``.

    Args:
        log: parsed, untrusted.
        algorithm: of the bank.

    Raises:
        AttestationError: EVENTLOG_MISMATCH if no boot could have written this log.
        ValueError: ``algorithm`` cannot be computed.
    """
    if algorithm not in log.spec_id.algorithms:
        raise _mismatch(f"the log has no digests of the {algorithm.name} bank")
    values = {index: bytes(algorithm.size) for index in STATIC_PCRS}
    values[0] = _initial_pcr0(log.events, algorithm.size)
    extend = hasher(algorithm)
    for number, event in enumerate(log.events):
        if event.kind == EventKind.EV_NO_ACTION:
            continue
        if event.register not in values:
            raise _mismatch(f"event {number} extends PCR {event.register}, which no boot extends")
        values[event.register] = extend(values[event.register] + event.digest(algorithm)).digest()
    return values


def replay_rtmrs(log: EventLog) -> dict[int, bytes]:
    """The values that a CCEL says RTMR0 to RTMR3 have.

    Raises:
        AttestationError: EVENTLOG_MISMATCH if no boot could have written this log.
    """
    if log.spec_id.algorithms != (Algorithm.SHA384,):
        raise _mismatch("the log of a TD has SHA-384 digests and no others")
    values = {number: bytes(Algorithm.SHA384.size) for number in RTMRS}
    for number, event in enumerate(log.events):
        if event.kind == EventKind.EV_NO_ACTION:
            continue
        rtmr = _RTMR_OF_INDEX.get(event.register)
        if rtmr is None:
            raise _mismatch(f"event {number} names register {event.register}, which is no RTMR")
        values[rtmr] = sha384(values[rtmr] + event.digest(Algorithm.SHA384)).digest()
    return values


def require_pcrs(
    log: EventLog,
    quoted: Mapping[int, bytes],
    *,
    algorithm: Algorithm,
    shared: Mapping[int, bytes] = MappingProxyType({}),
) -> VerifiedLog:
    """Demand that the log leads to every quoted PCR.

    Args:
        log: parsed, untrusted.
        quoted: values that a verified quote vouches for, by index: those that this log is to
            explain. Registers that something extends after the boot do not belong here.
        algorithm: the quote's bank.
        shared: likewise, of registers that something may have extended since: what the log says
            of them counts where it leads to their value, and no word of it where it does not.

    Raises:
        AttestationError: EVENTLOG_MISMATCH, or EVENTLOG_SHA1_ONLY for a bank of SHA-1.
    """
    if algorithm not in _BANKS:
        raise AttestationError(
            EvidenceCode.EVENTLOG_SHA1_ONLY, f"the quote is of the {algorithm.name} bank"
        )
    replayed = replay_pcrs(log, algorithm)
    _require_equal(replayed, quoted, "PCR ")
    more = {index: value for index, value in shared.items() if replayed.get(index) == value}
    quoted = {**quoted, **more}
    return _verified(log, quoted, algorithm, {index: index for index in quoted}, rtmrs=False)


def require_rtmrs(log: EventLog, quoted: Mapping[int, bytes]) -> VerifiedLog:
    """Demand that a CCEL leads to every quoted RTMR. As ``require_pcrs``; keys are 0 to 3."""
    replayed = replay_rtmrs(log)
    _require_equal(replayed, quoted, "RTMR")
    numbers = {index: rtmr for index, rtmr in _RTMR_OF_INDEX.items() if rtmr in quoted}
    return _verified(log, quoted, Algorithm.SHA384, numbers, rtmrs=True)


def _require_equal(replayed: Mapping[int, bytes], quoted: Mapping[int, bytes], name: str) -> None:
    if not quoted:
        raise _mismatch("no register is quoted, so the log is held against nothing")
    for index, wanted in sorted(quoted.items()):
        seen = replayed.get(index)
        if seen is None:
            raise _mismatch(f"{name}{index} is quoted, and no boot log can explain it")
        if seen != wanted:
            raise _mismatch(f"the log leads to {seen.hex()} in {name}{index}, want {wanted.hex()}")


def _verified(
    log: EventLog,
    quoted: Mapping[int, bytes],
    algorithm: Algorithm,
    numbers: Mapping[int, int],
    *,
    rtmrs: bool,
) -> VerifiedLog:
    events = []
    for number, event in enumerate(log.events):
        if event.register not in numbers:
            continue
        standing, proven = appraise_event(event, algorithm, number)
        unmeasured = standing is Standing.UNMEASURED
        events.append(
            VerifiedEvent(
                number=number,
                register=numbers[event.register],
                kind=event.kind,
                digest=b"" if unmeasured else event.digest(algorithm),
                standing=standing,
                proven=proven,
                asserted=event.data,
            )
        )
    registers = MappingProxyType(dict(quoted))
    return VerifiedLog(algorithm, registers, tuple(events), rtmrs, _MINT)


def require_known(log: VerifiedLog) -> None:
    """Refuse a log with events of unknown type.

    Raises:
        AttestationError: EVENTLOG_UNKNOWN_EVENT, with the first of them.
    """
    for event in log.events:
        if event.standing is Standing.UNKNOWN:
            raise AttestationError(
                AttestCode.EVENTLOG_UNKNOWN_EVENT,
                f"event {event.number} in register {event.register} has {kind_name(event.kind)}",
            )


def _initial_pcr0(events: tuple[Event, ...], size: int) -> bytes:
    """PCR 0 starts at the locality of TPM2_Startup; an H-CRTM makes that 4 (PFP 10.4.5.3)."""
    locality: int | None = None
    for event in events:
        if event.register != 0:
            continue
        if event.kind != EventKind.EV_NO_ACTION:
            if locality is None and event.kind == EventKind.EV_EFI_HCRTM_EVENT:
                locality = 4
            break
        if event.data.startswith(STARTUP_LOCALITY):
            value = event.data[len(STARTUP_LOCALITY) :]
            if locality is not None or len(value) != 1 or value[0] not in _LOCALITIES:
                raise _mismatch(f"StartupLocality is {value.hex()}, or is there twice")
            locality = value[0]
    return bytes(size - 1) + bytes([locality or 0])


def _mismatch(what: str) -> AttestationError:
    return AttestationError(AttestCode.EVENTLOG_MISMATCH, what)
