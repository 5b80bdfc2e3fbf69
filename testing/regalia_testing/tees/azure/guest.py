"""The paravisor and the vTPM of a simulated Azure VM: runtime data, HCL reports, quotes."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from regalia.appraisal.config_binding import TPM_PCR, expected_slot
from regalia.tees.azure.evidence.hcl import HclReport, encode_hcl
from regalia.tees.boot.evidence import replay_pcrs
from regalia.tees.boot.evidence.log import Algorithm
from regalia.tees.tpm.evidence import ALL_PCRS, qualifying_data
from regalia.tees.tpm.evidence.layout import HashAlg, SignatureAlg
from regalia.tees.tpm.evidence.wire import PcrSelection, Quote, RsaSignature
from regalia.wire.evidence import Tee
from regalia_testing.tees.boot.eventlog import SimulatedBoot

if TYPE_CHECKING:
    from regalia.tees.azure.evidence.hcl import ReportType
    from regalia.tees.boot.evidence.log import EventLog
    from regalia_testing.tees.azure.defects import AzureDefects

DYNAMIC_PCRS = range(17, 23)  # all ones until a dynamic launch
_STALE = hashlib.sha512(b"an old exchange").digest()
_SIZES_AT = (8, 0x4C0, 0x4D0)  # offsets of the three sizes in an HCL report
AK_BITS = 2048
_AK_SIZE, _SMALL_SIZE = 256, 128  # bytes of a modulus


@dataclass(frozen=True, slots=True, repr=False)
class AzureGuest:
    """One VM: its vTPM's AK, and who it is."""

    ak: rsa.RSAPrivateKey
    vm_unique_id: str
    reset_count: int = 3

    def runtime_data(self, defects: AzureDefects) -> bytes:
        """The JSON document, as the paravisor spells it."""
        configuration: dict[str, Any] = {
            "console-enabled": defects.console_enabled,
            "secure-boot": not defects.no_secure_boot,
            "tpm-enabled": not defects.no_tpm,
            "vmUniqueId": self.vm_unique_id,
        }
        if defects.tpm_persisted:
            configuration["tpm-persisted"] = True
        document: dict[str, Any] = {
            "keys": self._keys(defects),
            "vm-configuration": configuration,
            "user-data": "00" * (63 if defects.short_user_data else 64),
        }
        if defects.no_configuration:
            del document["vm-configuration"]
        if defects.unknown_member:
            document["more"] = [1, {"of": "it"}]
        data = json.dumps(document, separators=(",", ":")).encode()
        if defects.duplicate_member:
            data = data[:-1] + b',"user-data":""}'
        return data

    def _keys(self, defects: AzureDefects) -> list[dict[str, Any]]:
        ak = _jwk("HCLAkPub", self.ak, ["sign"], _SMALL_SIZE if defects.ak_small else _AK_SIZE)
        if defects.ak_not_rsa:
            ak["kty"] = "EC"
        if defects.ak_exponent_3:
            ak["e"] = "Aw"
        if defects.ak_padded:
            ak["n"] += "=="
        ek = _jwk("HCLEkPub", self.ak, ["encrypt"], _AK_SIZE)
        if defects.no_ak:
            return [ek]
        return [ak, ak, ek] if defects.two_aks else [ak, ek]

    def report_data(self, defects: AzureDefects) -> bytes:
        """What the paravisor has the hardware sign."""
        digest = hashlib.sha256(self.runtime_data(defects)).digest()
        return digest + (bytes(31) + b"\x01" if defects.report_data_tail else bytes(32))

    def hcl_report(self, kind: ReportType, hardware_report: bytes, defects: AzureDefects) -> bytes:
        """A report around the hardware's, as the NV index holds it."""
        runtime_data = self.runtime_data(defects)
        if defects.other_runtime_data:
            runtime_data = runtime_data.replace(b'"secure-boot":true', b'"secure-boot":false')
        data = bytearray(
            encode_hcl(HclReport(kind, hardware_report, runtime_data), version=defects.hcl_version)
        )
        struct.pack_into("<I", data, 12, defects.request_type)
        struct.pack_into("<I", data, 16, defects.status)
        data[31] = defects.reserved
        struct.pack_into("<I", data, 0x4C4, defects.runtime_version)
        struct.pack_into("<I", data, 0x4C8, defects.report_type or kind)
        struct.pack_into("<I", data, 0x4CC, defects.hash_type)
        if defects.runtime_size:
            at = _SIZES_AT[defects.runtime_size - 1]
            (size,) = struct.unpack_from("<I", data, at)
            struct.pack_into("<I", data, at, size + 1)
        if defects.truncated:
            del data[-1]
        return bytes(data) + bytes(defects.padding) + (b"\x01" if defects.trailing_byte else b"")

    def boot(self, defects: AzureDefects) -> EventLog:
        """The measured boot of the guest above the paravisor."""
        loader = b"another loader" if defects.other_loader else b"simulated loader"
        secure = b"\x00" if defects.no_secure_boot else b"\x01"
        boot = SimulatedBoot(loader=loader, secure_boot=secure)
        return boot.pcr_log((Algorithm.SHA256, Algorithm.SHA384))

    def event_log(self, defects: AzureDefects) -> bytes:
        """What comes along of it."""
        if defects.no_event_log:
            return b""
        if defects.broken_event_log:
            return b"no log"
        log = self.boot(defects)
        if defects.wrong_event_log:
            log = type(log)(log.spec_id, log.events[:-1], log.padding)
        return log.encode()

    def pcrs(self, runtime_config: bytes, defects: AzureDefects) -> dict[HashAlg, dict[int, bytes]]:
        """All 24 registers of one bank."""
        alg = HashAlg.SHA384 if defects.other_bank else HashAlg.SHA256
        bank = replay_pcrs(self.boot(defects), Algorithm(alg))
        bank |= dict.fromkeys(DYNAMIC_PCRS, b"\xff" * alg.size)
        config = b"another configuration" if defects.wrong_config else runtime_config
        slot = expected_slot(Tee.AZURE_SNP, config)
        bank[TPM_PCR] = slot.ljust(alg.size, b"\x00")
        if defects.fewer_registers:
            del bank[23]
        return {alg: dict(sorted(bank.items()))}

    def quote(
        self, report_data: bytes, pcrs: dict[HashAlg, dict[int, bytes]], defects: AzureDefects
    ) -> tuple[bytes, bytes]:
        """TPMS_ATTEST and TPMT_SIGNATURE over the digest of ``report_data``."""
        data = qualifying_data(_STALE if defects.stale_nonce else report_data)
        data = bytes(len(data)) if defects.zero_nonce else data
        data = report_data[: len(data)] if defects.raw_nonce else data
        registers = ALL_PCRS - {23} if defects.fewer_registers else ALL_PCRS
        (alg,) = pcrs
        quoted = Quote(
            qualified_signer=b"\x00\x0b" + hashlib.sha256(b"the AK's name").digest(),
            extra_data=data,
            clock=1_234_567,
            reset_count=self.reset_count,
            restart_count=0,
            safe=True,
            firmware_version=0x2020_0312_0012_0003,
            selection=(PcrSelection.of(alg, frozenset(registers)),),
            pcr_digest=hashlib.sha256(b"".join(pcrs[alg].values())).digest(),
        ).encode()
        return quoted, self._sign(quoted, defects)

    def _sign(self, quoted: bytes, defects: AzureDefects) -> bytes:
        key = rsa.generate_private_key(65537, AK_BITS) if defects.other_signer else self.ak
        digest = hashes.SHA256()
        alg = SignatureAlg.RSASSA
        value = key.sign(quoted, padding.PKCS1v15(), digest)
        if defects.pss:
            alg = SignatureAlg.RSAPSS
            value = key.sign(quoted, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        if defects.bad_signature:
            value = value[:-1] + bytes((value[-1] ^ 1,))
        return RsaSignature(alg, HashAlg.SHA256, value).encode()


def _jwk(kid: str, key: rsa.RSAPrivateKey, operations: list[str], size: int) -> dict[str, Any]:
    raw = key.public_key().public_numbers().n.to_bytes(_AK_SIZE, "big")[-size:]
    modulus = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return {"kid": kid, "key_ops": operations, "kty": "RSA", "e": "AQAB", "n": modulus}
