"""Device source plug-in ``nvidia-gpu``: GPUs in confidential computing mode, through NVIDIA's
management library.

Layouts and names follow NVIDIA's nvml.h (NVML API reference, "Confidential compute").
"""

from __future__ import annotations

import base64
import ctypes
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regalia.appraisal.pki import parse_certificate
from regalia.core.codec import exact
from regalia.core.errors import LocalError, ParseError, UnavailableError
from regalia.tees.nvidia.evidence.nvtrust import parse_pem_chain
from regalia.tees.nvidia.source_codes import NvidiaSourceCode
from regalia.wire.evidence import DEVICE_NONCE_SIZE, DEVICES_MAX, DeviceEvidence, DeviceKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from regalia.wire.evidence import DeviceSource

LIBRARY = "libnvidia-ml.so.1"
SUCCESS = 0
# NVIDIA's word for a chip's generation, by the chip's name in certificates.
_ARCHS = {"GH1": "HOPPER", "GB1": "BLACKWELL"}
CERT_CHAIN_SIZE = 0x1000  # NVML_GPU_CERT_CHAIN_SIZE
ATTESTATION_CERT_CHAIN_SIZE = 0x1400  # NVML_GPU_ATTESTATION_CERT_CHAIN_SIZE
REPORT_SIZE = 0x2000  # NVML_CC_GPU_ATTESTATION_REPORT_SIZE
CEC_REPORT_SIZE = 0x1000  # NVML_CC_GPU_CEC_ATTESTATION_REPORT_SIZE


class GpuCertificate(ctypes.Structure):
    """nvmlConfComputeGpuCertificate_t."""

    _fields_ = (
        ("cert_chain_size", ctypes.c_uint),
        ("attestation_cert_chain_size", ctypes.c_uint),
        ("cert_chain", ctypes.c_ubyte * CERT_CHAIN_SIZE),
        ("attestation_cert_chain", ctypes.c_ubyte * ATTESTATION_CERT_CHAIN_SIZE),
    )


class GpuAttestationReport(ctypes.Structure):
    """nvmlConfComputeGpuAttestationReport_t. The nonce goes in, everything else comes out."""

    _fields_ = (
        ("is_cec_report_present", ctypes.c_uint),
        ("report_size", ctypes.c_uint),
        ("cec_report_size", ctypes.c_uint),
        ("nonce", ctypes.c_ubyte * DEVICE_NONCE_SIZE),
        ("report", ctypes.c_ubyte * REPORT_SIZE),
        ("cec_report", ctypes.c_ubyte * CEC_REPORT_SIZE),
    )


@dataclass(frozen=True, slots=True)
class Nvml:
    """The loaded library. It is initialized within ``opened``."""

    library: Any  # ctypes.CDLL: its functions are attributes

    @classmethod
    def load(cls, name: str = LIBRARY) -> Nvml:
        """Load the library of the driver that is installed.

        Raises:
            UnavailableError: NVML_UNREACHABLE.
        """
        try:
            return cls(ctypes.CDLL(name))
        except OSError as exc:
            raise UnavailableError(NvidiaSourceCode.NVML_UNREACHABLE, f"{name}: {exc}") from exc

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Initialize, and shut down at the end. Raises LocalError NVML_FAILED."""
        self._call("nvmlInit_v2")
        try:
            yield
        finally:
            self._call("nvmlShutdown")

    def gpus(self) -> Iterator[ctypes.c_void_p]:
        """Handles of all GPUs. Raises LocalError NVML_FAILED."""
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        if count.value > DEVICES_MAX:
            raise _failed(f"{count.value} GPUs, at most {DEVICES_MAX}")
        for index in range(count.value):
            handle = ctypes.c_void_p()
            self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
            yield handle

    def evidence(self, gpu: ctypes.c_void_p, nonce: bytes) -> DeviceEvidence:
        """One GPU's report over ``nonce`` (32 bytes), with its certificates, leaf first.

        Args:
            gpu: a handle of ``gpus``.
            nonce: the verifier's.

        Raises:
            LocalError: NVML_FAILED, also for a chain that cannot be read.
            ParseError: MALFORMED, the nonce has another size than 32 bytes.
        """
        report = GpuAttestationReport()
        report.nonce[:] = exact(nonce, DEVICE_NONCE_SIZE, what="nonce")
        self._call("nvmlDeviceGetConfComputeGpuAttestationReport", gpu, ctypes.byref(report))
        chain = GpuCertificate()
        self._call("nvmlDeviceGetConfComputeGpuCertificate", gpu, ctypes.byref(chain))
        pem = _part(chain.attestation_cert_chain, chain.attestation_cert_chain_size, "chain")
        try:
            certificates = parse_pem_chain(pem.rstrip(b"\0").decode("ascii"), what="GPU chain")
        except (ParseError, UnicodeDecodeError) as exc:
            raise _failed(f"the certificate chain cannot be read: {exc}") from exc
        return DeviceEvidence(
            DeviceKind.NVIDIA_GPU, _part(report.report, report.report_size, "report"), certificates
        )

    def _call(self, name: str, *arguments: object) -> None:
        try:
            function = getattr(self.library, name)
        except AttributeError as exc:
            raise _failed(f"{name}: the driver is too old to have it") from exc
        function.restype = ctypes.c_int
        status = function(*arguments)
        if status != SUCCESS:
            raise _failed(f"{name}: {self._error(status)}")

    def _error(self, status: int) -> str:
        """What the library calls an error."""
        function = getattr(self.library, "nvmlErrorString", None)
        if function is None:
            return str(status)
        function.restype = ctypes.c_char_p
        text = function(ctypes.c_int(status)) or b""
        return f"{status} ({text.decode('ascii', 'replace')[:80]})"


@dataclass(frozen=True, slots=True)
class GpuSource:
    """The GPUs that NVIDIA's management library finds in this machine."""

    library: str = LIBRARY

    @property
    def simulated(self) -> bool:
        """Always false: a verifier refuses a report that NVIDIA's hardware did not sign."""
        return False

    def collect(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:
        """Reports of every GPU over ``nonce`` (32 bytes), in the library's order.

        Raises:
            UnavailableError: NVML_UNREACHABLE.
            LocalError: NVML_FAILED: a GPU that gives no report is not left out.
        """
        nvml = Nvml.load(self.library)
        with nvml.opened():
            return tuple(nvml.evidence(gpu, nonce) for gpu in nvml.gpus())

    @staticmethod
    def document(devices: Sequence[DeviceEvidence]) -> bytes:
        """Evidence of GPUs as NVIDIA's tools write it; ``parse_nvidia_evidence`` reads it.

        Raises:
            LocalError: NVML_FAILED, there is no GPU, or one of a chip that is not known.
        """
        if not devices:
            raise _failed("it finds no GPU")
        return json.dumps([_item(device) for device in devices], indent=2).encode() + b"\n"


def _item(device: DeviceEvidence) -> dict[str, str]:
    names = [parse_certificate(der, what="chain").common_name for der in device.endorsements]
    arch = next((word for chip, word in _ARCHS.items() if any(chip in name for name in names)), "")
    if not arch:
        raise _failed(f"a GPU of an unknown chip: {names[-1:]}")
    pem = "".join(map(_pem, device.endorsements))
    return {
        "arch": arch,
        "evidence": base64.b64encode(device.report).decode("ascii"),
        "certificate": base64.b64encode(pem.encode("ascii")).decode("ascii"),
    }


def _pem(der: bytes) -> str:
    body = base64.encodebytes(der).decode("ascii")
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"


def open_source() -> DeviceSource:
    """The GPUs of this machine. The library is loaded when they are asked, not here."""
    return GpuSource()


def _part(buffer: ctypes.Array[ctypes.c_ubyte], size: int, what: str) -> bytes:
    if not 0 < size <= len(buffer):
        raise _failed(f"a {what} of {size} bytes")
    return bytes(buffer[:size])


def _failed(what: str) -> LocalError:
    return LocalError(NvidiaSourceCode.NVML_FAILED, f"NVML: {what}")
