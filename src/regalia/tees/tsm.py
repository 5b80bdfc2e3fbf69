"""Evidence source plug-ins ``snp`` and ``tdx``: Linux's configfs-tsm.

Linux, Documentation/ABI/testing/configfs-tsm-report. A request is a directory; the kernel fills it
with attributes. ``generation`` counts writes to it: if it is not what our own writes make it,
somebody else wrote too, and the report may be over their data.
"""

from __future__ import annotations

import errno
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from regalia.core.codec import MIB, exact
from regalia.core.errors import CoreCode, LocalError, UnavailableError, UsageError
from regalia.host.localfs import read_file
from regalia.tees.nvidia.source import collect_gpus
from regalia.tees.snp.evidence.certificate_table import parse_certificate_table
from regalia.tees.source_codes import CollectCode
from regalia.wire.evidence import REPORT_DATA_SIZE, Evidence, Tee

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.wire.evidence import DeviceEvidence, EvidenceSource

ROOT = Path("/sys/kernel/config/tsm/report")
CCEL = Path("/sys/firmware/acpi/tables/data/CCEL")
CCEL_MAX = 1 * MIB
ATTRIBUTE_MAX = 64 * 1024  # bytes
PRIVLEVEL_MAX = 3
TRIES = 3
NVIDIA = "nvidia-gpu"

_PROVIDERS = {Tee.SEV_SNP: "sev_guest", Tee.TDX: "tdx_guest"}
# The kernel says so when the request changed while the report was made.
_CHANGED = frozenset({errno.EWOULDBLOCK, errno.EBUSY})
_ABSENT = frozenset({errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP})


class Requests(Protocol):
    """Where requests are made: configfs, or a double of it. Every method raises OSError."""

    def make(self, name: str) -> None:
        """Make a request."""

    def read(self, name: str, attribute: str) -> bytes:
        """Read one of its attributes."""

    def write(self, name: str, attribute: str, data: bytes) -> None:
        """Write one of its attributes, in one call."""

    def remove(self, name: str) -> None:
        """End the request."""


@dataclass(frozen=True, slots=True)
class Configfs:
    """The kernel's own."""

    root: Path = ROOT

    def make(self, name: str) -> None:
        """Make a request."""
        (self.root / name).mkdir(mode=0o700)

    def read(self, name: str, attribute: str) -> bytes:
        """Read one of its attributes."""
        with (self.root / name / attribute).open("rb", buffering=0) as file:
            parts = bytearray()
            while part := file.read(ATTRIBUTE_MAX):
                parts += part
                if len(parts) > ATTRIBUTE_MAX:
                    raise OSError(errno.EFBIG, "attribute is too large")
            return bytes(parts)

    def write(self, name: str, attribute: str, data: bytes) -> None:
        """Write one of its attributes, in one call."""
        with (self.root / name / attribute).open("wb", buffering=0) as file:
            if file.write(data) != len(data):
                raise OSError(errno.EIO, "attribute was written in part")

    def remove(self, name: str) -> None:
        """End the request."""
        (self.root / name).rmdir()


@dataclass(frozen=True, slots=True)
class TsmReport:
    """What the kernel gave: a report or quote, and what the host added to it."""

    outblob: bytes
    auxblob: bytes  # SNP: the certificate table, perhaps empty


def request_report(
    requests: Requests, *, tee: Tee, inblob: bytes, privlevel: int | None
) -> TsmReport:
    """Have one report made.

    Args:
        requests: where.
        tee: SEV_SNP or TDX; the kernel must say that it is that.
        inblob: report data, 64 bytes.
        privlevel: the VMPL to ask at; None for the kernel's own.

    Raises:
        UnavailableError: TSM_UNREACHABLE.
        LocalError: TSM_OTHER_PROVIDER, TSM_DISTURBED, TSM_FAILED or NO_PERMISSION.
    """
    for _ in range(TRIES):
        with _request(requests) as name, _kernel_errors():
            provider = requests.read(name, "provider").decode("ascii", "replace").strip()
            if provider != _PROVIDERS[tee]:
                raise LocalError(
                    CollectCode.TSM_OTHER_PROVIDER,
                    f"the kernel's provider is {provider[:40]!r}, want {_PROVIDERS[tee]}",
                )
            report = _attempt(requests, name, inblob, privlevel)
        if report is not None:
            return report
    raise LocalError(
        CollectCode.TSM_DISTURBED, f"the request was written to by somebody else, {TRIES} times"
    )


def _attempt(
    requests: Requests, name: str, inblob: bytes, privlevel: int | None
) -> TsmReport | None:
    """None if somebody else wrote to the request."""
    before = _generation(requests, name)
    writes = 1
    requests.write(name, "inblob", inblob)
    if privlevel is not None:
        requests.write(name, "privlevel", str(privlevel).encode())
        writes += 1
    try:
        outblob = requests.read(name, "outblob")
        auxblob = _optional(requests, name, "auxblob")
    except OSError as exc:
        if exc.errno in _CHANGED:
            return None
        raise
    return TsmReport(outblob, auxblob) if _generation(requests, name) == before + writes else None


def _generation(requests: Requests, name: str) -> int:
    text = requests.read(name, "generation").strip()
    if not text.isdigit():
        raise LocalError(CollectCode.TSM_FAILED, f"generation is {text[:20]!r}")
    return int(text)


def _optional(requests: Requests, name: str, attribute: str) -> bytes:
    try:
        return requests.read(name, attribute)
    except OSError as exc:
        if exc.errno == errno.ENOENT:  # TDX has none
            return b""
        raise


@contextmanager
def _request(requests: Requests) -> Iterator[str]:
    """A request of a name that nobody else uses, removed in any case."""
    name = f"regalia-{secrets.token_hex(8)}"
    try:
        requests.make(name)
    except OSError as exc:
        if exc.errno in _ABSENT:
            raise UnavailableError(
                CollectCode.TSM_UNREACHABLE, f"configfs-tsm: {exc.strerror or exc}"
            ) from exc
        raise _failed(exc) from exc
    try:
        yield name
    finally:
        with _kernel_errors():
            requests.remove(name)


@contextmanager
def _kernel_errors() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _failed(exc) from exc


def _failed(exc: OSError) -> LocalError:
    denied = exc.errno in {errno.EACCES, errno.EPERM}
    code = CoreCode.NO_PERMISSION if denied else CollectCode.TSM_FAILED
    return LocalError(code, f"configfs-tsm: {exc.strerror or exc}")


@dataclass(frozen=True, slots=True)
class TsmSource:
    """Reports of the confidential VM that this process runs in."""

    tee: Tee
    privlevel: int | None
    gpus: bool
    requests: Requests
    event_log: Path | None

    @property
    def simulated(self) -> bool:
        """Never: whoever verifies refuses a report that no vendor's hardware signed."""
        return False

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """A report over ``report_data`` (64 bytes).

        HOST_DATA or MRCONFIGID was set to the configuration's digest when the VM was launched.

        Raises:
            UnavailableError: TSM_UNREACHABLE.
            LocalError: as ``request_report``; the event log cannot be read.
            ParseError: the host's certificate table is malformed.
        """
        exact(report_data, REPORT_DATA_SIZE, what="report data")
        report = request_report(
            self.requests, tee=self.tee, inblob=report_data, privlevel=self.privlevel
        )
        snp = self.tee is Tee.SEV_SNP
        return Evidence(
            tee=self.tee,
            report=report.outblob,
            endorsements=parse_certificate_table(report.auxblob) if snp else (),
            runtime_config=runtime_config,
            event_log=self._read_event_log(),
        )

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:
        """Reports of all GPUs over ``nonce`` (32 bytes), if the configuration names them.

        Raises:
            UnavailableError: NVML_UNREACHABLE.
            LocalError: NVML_FAILED.
        """
        return collect_gpus(nonce) if self.gpus else ()

    def _read_event_log(self) -> bytes:
        if self.event_log is None or not self.event_log.exists():
            return b""
        return read_file(self.event_log, limit=CCEL_MAX)


def open_snp_source(options: dict[str, object]) -> EvidenceSource:
    """SEV-SNP.

    Args:
        options: optionally ``privlevel``, the VMPL to ask at, 0 to 3; ``devices``, a list that
            may hold ``nvidia-gpu``.

    Raises:
        UsageError: BAD_CONFIG, an option is unknown or of the wrong type.
    """
    gpus = _devices(options, "snp", {"devices", "privlevel"})
    privlevel = options.get("privlevel")
    if privlevel is not None and (type(privlevel) is not int or privlevel not in range(4)):
        raise UsageError(CoreCode.BAD_CONFIG, f"snp: `privlevel` must be 0 to {PRIVLEVEL_MAX}")
    return TsmSource(Tee.SEV_SNP, privlevel, gpus, Configfs(), None)


def open_tdx_source(options: dict[str, object]) -> EvidenceSource:
    """TDX.

    Args:
        options: optionally ``event_log``, a file, by default the CCEL of ACPI, or empty for none;
            ``devices``, a list that may hold ``nvidia-gpu``.

    Raises:
        UsageError: BAD_CONFIG, an option is unknown or of the wrong type.
    """
    gpus = _devices(options, "tdx", {"devices", "event_log"})
    event_log = options.get("event_log", str(CCEL))
    if not isinstance(event_log, str):
        raise UsageError(CoreCode.BAD_CONFIG, "tdx: `event_log` must name a file, or be empty")
    return TsmSource(Tee.TDX, None, gpus, Configfs(), Path(event_log) if event_log else None)


def _devices(options: dict[str, object], source: str, known: set[str]) -> bool:
    unknown = sorted(set(options) - known)
    if unknown:
        raise UsageError(CoreCode.BAD_CONFIG, f"{source}: unknown options {unknown}")
    devices = options.get("devices", [])
    if devices not in ([], [NVIDIA]):
        raise UsageError(CoreCode.BAD_CONFIG, f"{source}: `devices` must be [] or [{NVIDIA!r}]")
    return bool(devices)
