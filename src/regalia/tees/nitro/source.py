"""Evidence source plug-in ``nitro``: the Nitro Secure Module of an AWS enclave.

Requests and answers are CBOR in buffers of this process, which one ioctl hands to the driver.
Source: AWS, aws-nitro-enclaves-nsm-api, and Linux, drivers/misc/nsm.c.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regalia.appraisal.config_binding import NITRO_PCR, expected_slot
from regalia.appraisal.config_codes import ConfigCode
from regalia.core.codec import exact
from regalia.core.errors import CoreCode, LocalError, ParseError, UnavailableError, UsageError
from regalia.tees.nitro.source_codes import NitroSourceCode
from regalia.wire.cbor import decode_cbor_at_start, encode_cbor
from regalia.wire.evidence import REPORT_DATA_SIZE, Evidence, Tee

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.wire.cbor import Cbor, Key
    from regalia.wire.evidence import DeviceEvidence, EvidenceSource

DEVICE = Path("/dev/nsm")
NSM_IOCTL = 0xC0200A00  # _IOWR(0x0A, 0, two iovecs of 16 bytes)
REQUEST_MAX = 0x1000  # bytes
RESPONSE_MAX = 0x3000  # bytes
# request address, request size, response address, response size
_MESSAGE = struct.Struct("@QQQQ")


@dataclass(frozen=True, slots=True)
class Nsm:
    """One open device. ``ioctl`` is ``fcntl.ioctl``, except in tests."""

    descriptor: int
    ioctl: Callable[[int, int, bytearray, bool], int] = fcntl.ioctl

    def attest(self, nonce: bytes, public_key: bytes | None = None) -> bytes:
        """An attestation document over ``nonce``.

        Args:
            nonce: at most 512 bytes.
            public_key: at most 1024 bytes; AWS KMS encrypts to it.

        Raises:
            LocalError: NSM_REFUSED.
        """
        request: dict[Key, Cbor] = {"user_data": None, "nonce": nonce, "public_key": public_key}
        answer = self._ask("Attestation", request)
        return _bytes(answer, "document")

    def pcr(self, index: int) -> tuple[bytes, bool]:
        """A register's value, and whether it is locked. Raises LocalError NSM_REFUSED."""
        answer = self._ask("DescribePCR", {"index": index})
        locked = answer.get("lock")
        if not isinstance(locked, bool):
            raise _refused("DescribePCR does not say whether the register is locked")
        return _bytes(answer, "data"), locked

    def extend(self, index: int, data: bytes) -> bytes:
        """SHA-384 of the old value and ``data``. Raises LocalError NSM_REFUSED.

        Args:
            index: the register's number.
            data: the register is extended with these bytes as they are.
        """
        return _bytes(self._ask("ExtendPCR", {"index": index, "data": data}), "data")

    def lock(self, index: int) -> None:
        """Keep a register as it is until the enclave ends. Raises LocalError NSM_REFUSED."""
        self._ask("LockPCR", {"index": index})

    def _ask(self, name: str, members: dict[Key, Cbor]) -> dict[Key, Cbor]:
        """Send one request; return the members of the answer, or its name if it has none."""
        answer = self._exchange(encode_cbor({name: members}))
        if answer == name:
            return {}
        if isinstance(answer, dict) and list(answer) == ["Error"]:
            raise _refused(f"{name}: {str(answer['Error'])[:80]}")
        if isinstance(answer, dict) and list(answer) == [name]:
            inner = answer[name]
            if isinstance(inner, dict):
                return inner
        raise _refused(f"{name}: an answer to something else")

    def _exchange(self, request: bytes) -> Cbor:
        if len(request) > REQUEST_MAX:
            raise LocalError(CoreCode.TOO_LARGE, f"NSM request: {len(request)} bytes")
        out = ctypes.create_string_buffer(request, len(request))
        into = ctypes.create_string_buffer(RESPONSE_MAX)
        message = bytearray(
            _MESSAGE.pack(ctypes.addressof(out), len(request), ctypes.addressof(into), RESPONSE_MAX)
        )
        try:
            self.ioctl(self.descriptor, NSM_IOCTL, message, True)  # noqa: FBT003 - fcntl's own way
        except OSError as exc:
            raise _refused(f"ioctl: {exc.strerror or exc}") from exc
        size = _MESSAGE.unpack(message)[3]  # the driver writes how many bytes it filled
        if size > RESPONSE_MAX:
            raise _refused(f"an answer of {size} bytes")
        try:
            answer, end = decode_cbor_at_start(into.raw[:size], what="NSM answer")
        except ParseError as exc:
            raise _refused(exc.what) from exc
        if any(into.raw[end:size]):
            raise _refused("bytes behind the answer")
        return answer


def _bytes(answer: dict[Key, Cbor], name: str) -> bytes:
    value = answer.get(name)
    if not isinstance(value, bytes):
        raise _refused(f"the answer holds no {name}")
    return value


def _refused(what: str) -> LocalError:
    return LocalError(NitroSourceCode.NSM_REFUSED, f"NSM: {what}")


def record_config(nsm: Nsm, runtime_config: bytes) -> None:
    """Extend PCR16 with the configuration's digest, once in the enclave's life, and lock it.

    Documents show locked registers only.

    Args:
        nsm: the enclave's open device.
        runtime_config: exact bytes of the runtime configuration.

    Raises:
        LocalError: CONFIG_SLOT_TAKEN or NSM_REFUSED.
    """
    wanted = expected_slot(Tee.NITRO, runtime_config)
    held, locked = nsm.pcr(NITRO_PCR)
    if not any(held) and not locked:
        held = nsm.extend(NITRO_PCR, hashlib.sha384(runtime_config).digest())
    if held != wanted:
        raise LocalError(
            ConfigCode.CONFIG_SLOT_TAKEN,
            f"PCR{NITRO_PCR} is {held.hex()}, this configuration makes it {wanted.hex()}",
        )
    if not locked:
        nsm.lock(NITRO_PCR)


@dataclass(frozen=True, slots=True)
class NitroSource:
    """Attestation documents of the enclave that this process runs in."""

    device: Path

    @property
    def simulated(self) -> bool:
        """Always false: a verifier refuses documents that AWS's hypervisor did not sign."""
        return False

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """A document whose nonce is ``report_data`` (64 bytes), with the configuration in PCR16.

        Args:
            report_data: what the evidence must be bound to.
            runtime_config: exact bytes of the runtime configuration.

        Raises:
            UnavailableError: NSM_UNREACHABLE.
            LocalError: CONFIG_SLOT_TAKEN or NSM_REFUSED.
            ParseError: MALFORMED, the report data has another size than 64 bytes.
        """
        exact(report_data, REPORT_DATA_SIZE, what="report data")
        with self._opened() as nsm:
            return collect(nsm, report_data, runtime_config)

    def collect_with_key(
        self, report_data: bytes, runtime_config: bytes, wrap_public_key: bytes
    ) -> Evidence:
        """As ``collect``, with the key in the document to which AWS KMS can then encrypt.

        Args:
            report_data: what the evidence must be bound to.
            runtime_config: exact bytes of the runtime configuration.
            wrap_public_key: of this runtime, as SubjectPublicKeyInfo in DER.
        """
        exact(report_data, REPORT_DATA_SIZE, what="report data")
        with self._opened() as nsm:
            return collect(nsm, report_data, runtime_config, wrap_public_key)

    def attest(self, nonce: bytes) -> Evidence:
        """A document over ``nonce`` as it is, of an enclave whose configuration nobody records.

        Raises:
            UnavailableError: NSM_UNREACHABLE.
            LocalError: NSM_REFUSED.
        """
        with self._opened() as nsm:
            return Evidence(Tee.NITRO, nsm.attest(nonce), (), b"")

    @contextmanager
    def _opened(self) -> Iterator[Nsm]:
        try:
            descriptor = os.open(self.device, os.O_RDWR | os.O_CLOEXEC)
        except OSError as exc:
            raise UnavailableError(
                NitroSourceCode.NSM_UNREACHABLE, f"{self.device}: {exc.strerror or exc}"
            ) from exc
        try:
            yield Nsm(descriptor)
        finally:
            os.close(descriptor)

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:  # noqa: ARG002
        """Return nothing: enclaves have no devices."""
        return ()


def collect(
    nsm: Nsm, report_data: bytes, runtime_config: bytes, wrap_public_key: bytes | None = None
) -> Evidence:
    """Record the configuration, then attest. Raises as ``NitroSource.collect``.

    Args:
        nsm: the enclave's open device.
        report_data: what the evidence must be bound to.
        runtime_config: exact bytes of the runtime configuration.
        wrap_public_key: shown in the document; None for none.
    """
    record_config(nsm, runtime_config)
    return Evidence(Tee.NITRO, nsm.attest(report_data, wrap_public_key), (), runtime_config)


def open_source(options: dict[str, object]) -> EvidenceSource:
    """The enclave's module.

    Args:
        options: optionally ``device``, by default /dev/nsm.

    Raises:
        UsageError: BAD_CONFIG, an option is unknown or of the wrong type.
    """
    unknown = sorted(set(options) - {"device"})
    if unknown:
        raise UsageError(CoreCode.BAD_CONFIG, f"nitro: unknown options {unknown}")
    device = options.get("device", str(DEVICE))
    if not isinstance(device, str) or not device:
        raise UsageError(CoreCode.BAD_CONFIG, "nitro: `device` must name a device")
    return NitroSource(Path(device))
