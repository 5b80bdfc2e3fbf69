"""Evidence sources ``az-snp`` and ``az-tdx``: a confidential VM of Azure, through its vTPM.

The paravisor left its report in an NV index of the vTPM, and a key in it that the report vouches
for; only the quote by that key is fresh. A TD report is turned into a quote by the host, which
needs no trust: the verifier checks Intel's signature.
"""

from __future__ import annotations

import base64
import binascii
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import msgspec

from regalia.core.errors import (
    AttestationError,
    CoreCode,
    LocalError,
    ParseError,
    UnavailableError,
    UsageError,
)
from regalia.core.extras import missing_extra
from regalia.host.fetch import post_json
from regalia.host.localfs import read_file
from regalia.tees.azure.evidence.guest import paravisor_key
from regalia.tees.azure.evidence.hcl import ReportType, parse_hcl
from regalia.tees.azure.evidence.wire import AzureDocument
from regalia.tees.azure.source_codes import AzureSourceCode
from regalia.tees.intel.evidence.td_report import TD_REPORT_SIZE
from regalia.tees.tpm.evidence.document import qualifying_data
from regalia.tees.tpm.evidence.keys import spki, spki_of
from regalia.tees.tpm.evidence.public import parse_public
from regalia.tees.tpm.recording import (
    BANK,
    DEFAULT_EVENT_LOG,
    DEFAULT_TCTI,
    EVENT_LOG_MAX,
    Registers,
    record_config,
)
from regalia.wire.evidence import Evidence, Tee

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from regalia.tees.azure.evidence.hcl import HclReport
    from regalia.tees.tpm.evidence.document import TpmQuote
    from regalia.tees.tpm.evidence.layout import HashAlg
    from regalia.wire.evidence import DeviceEvidence, EvidenceSource

HCL_INDEX = 0x01400001
AK_HANDLE = 0x81000003
QUOTE_SERVICE = "http://169.254.169.254/acc/tdquote"
_KINDS: Mapping[Tee, ReportType] = MappingProxyType(
    {Tee.AZURE_SNP: ReportType.SNP, Tee.AZURE_TDX: ReportType.TDX}
)


class _Answer(msgspec.Struct, frozen=True):
    quote: str


class QuoteService(Protocol):
    """Makes a TDX quote of a TD report."""

    def __call__(self, td_report: bytes) -> bytes:
        """The quote. Raises UnavailableError."""


@dataclass(frozen=True, slots=True)
class HostQuotes:
    """The quote service of the VM's own host."""

    url: str = QUOTE_SERVICE

    def __call__(self, td_report: bytes) -> bytes:
        """Ask the host, which is not trusted.

        Raises:
            UnavailableError: PEER_UNREACHABLE or QUOTE_SERVICE_FAILED.
        """
        report = base64.urlsafe_b64encode(td_report).rstrip(b"=").decode("ascii")
        body = post_json(
            self.url, {"report": report}, AzureSourceCode.QUOTE_SERVICE_FAILED, "TDX quote"
        )
        try:
            text = msgspec.json.decode(body, type=_Answer).quote.rstrip("=")
            return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (msgspec.MsgspecError, UnicodeError, binascii.Error, ValueError) as exc:
            raise UnavailableError(
                AzureSourceCode.QUOTE_SERVICE_FAILED, f"{self.url}: the answer holds no quote"
            ) from exc


class Vtpm(Registers, Protocol):
    """What is asked of the VM's open vTPM: ``tees.tpm.device.TpmDevice``."""

    def nv(self, index: int) -> bytes | None:
        """What an NV index holds; None if there is no such index."""

    def quote_by_handle(self, persistent: int, data: bytes, bank: HashAlg) -> TpmQuote:
        """A quote by a key that is in the TPM already.

        Args:
            persistent: the key's handle.
            data: the qualifying data.
            bank: SHA-256 or SHA-384.
        """


def open_vtpm(tcti: str) -> AbstractContextManager[Vtpm]:
    """Open the vTPM.

    Raises:
        UsageError: EXTRA_MISSING, the TSS is not installed.
        UnavailableError: TPM_UNREACHABLE.
    """
    try:
        from regalia.tees.tpm.device import TpmDevice  # noqa: PLC0415 - of an extra
    except ImportError as exc:
        raise missing_extra(exc) or exc from exc
    return TpmDevice.open(tcti)


@dataclass(frozen=True, slots=True)
class AzureSource:
    """Evidence of the VM that this process runs in.

    Attributes:
        tee: which of Azure's two kinds.
        tcti: where the vTPM is, as the TSS writes it.
        event_log: None for none.
        quote_service: makes a quote of a TD report.
    """

    tee: Tee
    tcti: str = DEFAULT_TCTI
    event_log: Path | None = Path(DEFAULT_EVENT_LOG)
    quote_service: QuoteService = field(default_factory=HostQuotes)
    # As for a TPM: two requests that both find PCR 15 empty would both extend it.
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def simulated(self) -> bool:
        """Always false: a verifier refuses a report that AMD's or Intel's hardware did not sign."""
        return False

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """A quote over SHA-256 of ``report_data``, with the configuration in PCR 15.

        Args:
            report_data: what the evidence must be bound to, 64 bytes.
            runtime_config: exact bytes of the runtime configuration.

        Raises:
            UnavailableError: TPM_UNREACHABLE, or the host gives no TDX quote.
            LocalError: HCL_REPORT_ABSENT, VTPM_KEY_OTHER, CONFIG_SLOT_TAKEN or
                TPM_COMMAND_FAILED; the event log cannot be read.
        """
        with self._lock, open_vtpm(self.tcti) as tpm:
            record_config(tpm, runtime_config)
            return self._evidence(tpm, qualifying_data(report_data), runtime_config)

    def attest(self, nonce: bytes) -> Evidence:
        """A quote over ``nonce`` as it is, of a VM whose configuration nobody records.

        Raises:
            UnavailableError, LocalError: as ``collect``.
        """
        with self._lock, open_vtpm(self.tcti) as tpm:
            return self._evidence(tpm, nonce, b"")

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:  # noqa: ARG002
        """Return nothing: devices have sources of their own, which the settings name."""
        return ()

    def _evidence(self, tpm: Vtpm, nonce: bytes, runtime_config: bytes) -> Evidence:
        raw, report = self._hcl_report(tpm)
        quote = tpm.quote_by_handle(AK_HANDLE, nonce, BANK)
        _require_vouched(quote.ak_public, report)
        td_quote = b""
        if self.tee is Tee.AZURE_TDX:
            td_quote = self.quote_service(report.hardware_report[:TD_REPORT_SIZE])
        document = AzureDocument(
            hcl_report=raw,
            td_quote=td_quote,
            quoted=quote.quoted,
            signature=quote.signature,
            pcrs=quote.pcrs,
        )
        return Evidence(
            tee=self.tee,
            report=document.encode(),
            endorsements=(),
            runtime_config=runtime_config,
            event_log=self._read_event_log(),
        )

    def _read_event_log(self) -> bytes:
        if self.event_log is None or not self.event_log.exists():
            return b""
        return read_file(self.event_log, limit=EVENT_LOG_MAX)

    def _hcl_report(self, tpm: Vtpm) -> tuple[bytes, HclReport]:
        raw = tpm.nv(HCL_INDEX)
        if raw is None:
            raise _absent(f"the TPM has no NV index {HCL_INDEX:#010x}")
        try:
            report = parse_hcl(raw)
        except ParseError as exc:
            raise _absent(f"NV index {HCL_INDEX:#010x}: {exc.what}") from exc
        if report.report_type is not _KINDS[self.tee]:
            raise _absent(f"the paravisor's report is of {report.report_type.name}")
        return raw, report


def _require_vouched(ak_public: bytes, report: HclReport) -> None:
    """The key that quoted is the one in the report: else no verifier would accept the quote."""
    try:
        named = spki(paravisor_key(report.runtime_data).key)
        held = spki_of(parse_public(ak_public))
    except (ParseError, AttestationError) as exc:
        raise LocalError(AzureSourceCode.VTPM_KEY_OTHER, exc.what) from exc
    if held != named:
        raise LocalError(
            AzureSourceCode.VTPM_KEY_OTHER,
            f"the key {AK_HANDLE:#010x} is not the one that the paravisor's report names",
        )


def open_snp(options: dict[str, object]) -> EvidenceSource:
    """A VM on SEV-SNP.

    Args:
        options: all optional: ``tcti``, and ``event_log``, a file, or empty for none.

    Raises:
        UsageError: BAD_CONFIG, an option is unknown or of the wrong type.
    """
    return _open(Tee.AZURE_SNP, "az-snp", options)


def open_tdx(options: dict[str, object]) -> EvidenceSource:
    """A VM on TDX. As ``open_snp``; ``quote_service`` may be another URL than the host's."""
    return _open(Tee.AZURE_TDX, "az-tdx", options)


def _open(tee: Tee, name: str, options: dict[str, object]) -> AzureSource:
    known = {"tcti": DEFAULT_TCTI, "event_log": DEFAULT_EVENT_LOG}
    if tee is Tee.AZURE_TDX:
        known["quote_service"] = QUOTE_SERVICE
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UsageError(CoreCode.BAD_CONFIG, f"{name}: unknown options {unknown}")
    chosen: dict[str, str] = {}
    for key, default in known.items():
        value = options.get(key, default)
        if not isinstance(value, str) or (not value and key != "event_log"):
            raise UsageError(CoreCode.BAD_CONFIG, f"{name}: `{key}` must be a text, like {default}")
        chosen[key] = value
    log = chosen["event_log"]
    service = HostQuotes(chosen.get("quote_service", QUOTE_SERVICE))
    return AzureSource(tee, chosen["tcti"], Path(log) if log else None, service)


def _absent(what: str) -> LocalError:
    return LocalError(AzureSourceCode.HCL_REPORT_ABSENT, what)
