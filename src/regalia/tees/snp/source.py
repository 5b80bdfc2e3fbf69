"""Evidence source plug-in ``snp``: a confidential VM on SEV-SNP, through Linux's configfs-tsm."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regalia.core.codec import exact
from regalia.core.errors import CoreCode, UsageError
from regalia.host.tsm import Configfs, request_report
from regalia.tees.snp.evidence.certificate_table import parse_certificate_table
from regalia.wire.evidence import REPORT_DATA_SIZE, Evidence, Tee

if TYPE_CHECKING:
    from regalia.host.tsm import Requests
    from regalia.wire.evidence import DeviceEvidence, EvidenceSource

PROVIDER = "sev_guest"
PRIVLEVEL_MAX = 3


@dataclass(frozen=True, slots=True)
class SnpSource:
    """Reports of the guest that this process runs in.

    Attributes:
        privlevel: the VMPL to ask at; None for the kernel's own.
        requests: where reports are requested.
    """

    privlevel: int | None = None
    requests: Requests = field(default_factory=Configfs)

    @property
    def simulated(self) -> bool:
        """Always false: a verifier refuses a report that AMD's hardware did not sign."""
        return False

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """A report over ``report_data``, with the certificates that the host hands out.

        HOST_DATA was set to the configuration's digest when the VM was launched, so nothing is
        recorded here.

        Args:
            report_data: 64 bytes.
            runtime_config: the exact bytes of the measured configuration; they go along.

        Raises:
            UnavailableError: TSM_UNREACHABLE.
            LocalError: as ``request_report``.
            ParseError: the host's certificate table is malformed.
        """
        report = request_report(
            self.requests,
            provider=PROVIDER,
            inblob=exact(report_data, REPORT_DATA_SIZE, what="report data"),
            privlevel=self.privlevel,
        )
        return Evidence(
            tee=Tee.SEV_SNP,
            report=report.outblob,
            endorsements=parse_certificate_table(report.auxblob),
            runtime_config=runtime_config,
        )

    def attest(self, nonce: bytes) -> Evidence:
        """The same without a configuration. Raises as ``collect``."""
        return self.collect(nonce, b"")

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:  # noqa: ARG002
        """Return nothing: devices have sources of their own, which the settings name."""
        return ()


def open_source(options: dict[str, object]) -> EvidenceSource:
    """The guest's own reports.

    Args:
        options: optionally ``privlevel``, the VMPL to ask at, 0 to 3.

    Raises:
        UsageError: BAD_CONFIG, an option is unknown or of the wrong type.
    """
    unknown = sorted(set(options) - {"privlevel"})
    if unknown:
        raise UsageError(CoreCode.BAD_CONFIG, f"snp: unknown options {unknown}")
    privlevel = options.get("privlevel")
    if privlevel is None:
        return SnpSource()
    if type(privlevel) is not int or not 0 <= privlevel <= PRIVLEVEL_MAX:
        raise UsageError(CoreCode.BAD_CONFIG, f"snp: `privlevel` must be 0 to {PRIVLEVEL_MAX}")
    return SnpSource(privlevel)
