"""Evidence source plug-in ``tpm``: the quotes of a local TPM 2.0."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

from regalia.core.errors import CoreCode, UsageError
from regalia.host.localfs import read_file
from regalia.tees.tpm.device import TpmDevice
from regalia.tees.tpm.evidence.document import qualifying_data
from regalia.tees.tpm.evidence.enrolment import CERTIFICATE_MAX
from regalia.tees.tpm.key_templates import AK_TEMPLATES, DEFAULT_AK
from regalia.tees.tpm.model import read_model
from regalia.tees.tpm.recording import (
    BANK,
    DEFAULT_EVENT_LOG,
    DEFAULT_TCTI,
    EVENT_LOG_MAX,
    record_config,
)
from regalia.wire.evidence import Evidence, Tee

if TYPE_CHECKING:
    from regalia.tees.tpm.evidence.public import PublicArea
    from regalia.wire.evidence import DeviceEvidence, EvidenceSource

OPTIONS = frozenset({"tcti", "ak", "event_log", "certificates"})


@dataclass(frozen=True, slots=True)
class TpmSource:
    """Quotes of the TPM behind one TCTI.

    Attributes:
        tcti: where the TPM is, as the TSS writes it.
        ak: template of the attestation key.
        certificates: DER, leaf first: the EK's with its issuers, or the AK's. They go with the
            evidence.
        event_log: None where the machine has none.
        simulated: the EK certificate says that this TPM is a program.
    """

    tcti: str
    ak: PublicArea
    certificates: tuple[bytes, ...]
    event_log: Path | None
    simulated: bool
    # Two requests that both find PCR 15 empty would both extend it.
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """A quote over SHA-256 of ``report_data``, with the configuration in PCR 15.

        Args:
            report_data: what the evidence must be bound to, 64 bytes.
            runtime_config: exact bytes of the runtime configuration.

        Raises:
            UnavailableError: TPM_UNREACHABLE.
            LocalError: CONFIG_SLOT_TAKEN or TPM_COMMAND_FAILED; the event log cannot be read.
        """
        with self._lock, TpmDevice.open(self.tcti) as tpm:
            record_config(tpm, runtime_config)
            quote = tpm.quote(self.ak, qualifying_data(report_data), BANK)
        return Evidence(
            tee=Tee.TPM,
            report=quote.encode(),
            endorsements=self.certificates,
            runtime_config=runtime_config,
            event_log=_read_event_log(self.event_log),
        )

    def attest(self, nonce: bytes) -> Evidence:
        """A quote over ``nonce`` as it is, of a machine whose configuration nobody records.

        Raises:
            UnavailableError: TPM_UNREACHABLE.
            LocalError: TPM_COMMAND_FAILED; the event log cannot be read.
        """
        with self._lock, TpmDevice.open(self.tcti) as tpm:
            quote = tpm.quote(self.ak, nonce, BANK)
        return Evidence(
            tee=Tee.TPM,
            report=quote.encode(),
            endorsements=self.certificates,
            runtime_config=b"",
            event_log=_read_event_log(self.event_log),
        )

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:  # noqa: ARG002
        """Return nothing: no devices attest through a TPM."""
        return ()


def open_source(options: dict[str, object]) -> EvidenceSource:
    """Open the TPM that the configuration names.

    Args:
        options: all optional. ``tcti``: by default the kernel's resource manager. ``ak``:
            ``ecdsa-p256`` or ``rsa-2048``. ``event_log``: a file, or empty for none.
            ``certificates``: files in DER, leaf first, in place of those that the TPM holds.

    Raises:
        UsageError: BAD_CONFIG, an option is unknown or of the wrong type.
        UnavailableError: TPM_UNREACHABLE.
        LocalError: EK_CERTIFICATE_ABSENT or TPM_COMMAND_FAILED; a file cannot be read.
    """
    unknown = sorted(set(options) - OPTIONS)
    if unknown:
        raise _bad(f"unknown options {unknown}")
    tcti = options.get("tcti", DEFAULT_TCTI)
    ak = options.get("ak", DEFAULT_AK)
    event_log = options.get("event_log", DEFAULT_EVENT_LOG)
    files = options.get("certificates", [])
    if not isinstance(tcti, str) or not tcti:
        raise _bad("`tcti` must be a TCTI such as device:/dev/tpmrm0")
    if not isinstance(ak, str) or ak not in AK_TEMPLATES:
        raise _bad(f"`ak` must be one of {', '.join(AK_TEMPLATES)}")
    if not isinstance(event_log, str):
        raise _bad("`event_log` must name a file, or be empty")
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise _bad("`certificates` must be a list of files")
    with TpmDevice.open(tcti) as tpm:
        held = tpm.ek().certificates
    given = tuple(read_file(Path(file), limit=CERTIFICATE_MAX) for file in files)
    return TpmSource(
        tcti=tcti,
        ak=AK_TEMPLATES[ak],
        certificates=given or held,
        event_log=Path(event_log) if event_log else None,
        simulated=_is_software(held[0]),
    )


def _is_software(certificate: bytes) -> bool:
    """Whether the EK certificate names no hardware TPM; an unreadable one names none."""
    try:
        model = read_model(x509.load_der_x509_certificate(certificate).extensions)
    except ValueError:
        return True
    return model is None or model.is_software


def _read_event_log(path: Path | None) -> bytes:
    if path is None or not path.exists():
        return b""
    return read_file(path, limit=EVENT_LOG_MAX)


def _bad(what: str) -> UsageError:
    return UsageError(CoreCode.BAD_CONFIG, f"tpm: {what}")
