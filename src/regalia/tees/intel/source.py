"""Evidence source plug-in ``tdx``: a confidential VM on TDX, through Linux's configfs-tsm."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from regalia.core.codec import MIB, exact
from regalia.core.errors import CoreCode, UsageError
from regalia.host.localfs import read_file
from regalia.host.tsm import Configfs, request_report
from regalia.wire.evidence import REPORT_DATA_SIZE, Evidence, Tee

if TYPE_CHECKING:
    from regalia.host.tsm import Requests
    from regalia.wire.evidence import DeviceEvidence, EvidenceSource

PROVIDER = "tdx_guest"
CCEL = Path("/sys/firmware/acpi/tables/data/CCEL")
CCEL_MAX = 1 * MIB


@dataclass(frozen=True, slots=True)
class TdxSource:
    """Quotes of the TD that this process runs in.

    Attributes:
        event_log: the firmware's log; None for none.
        requests: where quotes are requested.
    """

    event_log: Path | None = CCEL
    requests: Requests = field(default_factory=Configfs)

    @property
    def simulated(self) -> bool:
        """Always false: a verifier refuses a quote that Intel's hardware did not sign."""
        return False

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """A quote over ``report_data``, with the event log.

        MRCONFIGID was set to the configuration's digest when the TD was launched, so nothing is
        recorded here.

        Args:
            report_data: 64 bytes.
            runtime_config: the exact bytes of the measured configuration; they go along.

        Raises:
            UnavailableError: TSM_UNREACHABLE.
            LocalError: as ``request_report``; the event log cannot be read.
        """
        quote = request_report(
            self.requests,
            provider=PROVIDER,
            inblob=exact(report_data, REPORT_DATA_SIZE, what="report data"),
        )
        return Evidence(
            tee=Tee.TDX,
            report=quote.outblob,
            endorsements=(),
            runtime_config=runtime_config,
            event_log=self._read_event_log(),
        )

    def attest(self, nonce: bytes) -> Evidence:
        """The same without a configuration. Raises as ``collect``."""
        return self.collect(nonce, b"")

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:  # noqa: ARG002
        """Return nothing: devices have sources of their own, which the settings name."""
        return ()

    def _read_event_log(self) -> bytes:
        if self.event_log is None or not self.event_log.exists():
            return b""
        return read_file(self.event_log, limit=CCEL_MAX)


def open_source(options: dict[str, object]) -> EvidenceSource:
    """The TD's own quotes.

    Args:
        options: optionally ``event_log``, a file, by default the CCEL of ACPI, or empty for none.

    Raises:
        UsageError: BAD_CONFIG, an option is unknown or of the wrong type.
    """
    unknown = sorted(set(options) - {"event_log"})
    if unknown:
        raise UsageError(CoreCode.BAD_CONFIG, f"tdx: unknown options {unknown}")
    event_log = options.get("event_log", str(CCEL))
    if not isinstance(event_log, str):
        raise UsageError(CoreCode.BAD_CONFIG, "tdx: `event_log` must name a file, or be empty")
    return TdxSource(Path(event_log) if event_log else None)
