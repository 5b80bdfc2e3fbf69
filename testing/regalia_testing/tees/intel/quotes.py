"""Quotes of a simulated platform: bodies, the quoting enclave's report, signatures."""

from __future__ import annotations

import base64
import hashlib
import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from regalia.tees.intel.evidence.bodies import EnclaveReport, TdReport, TdReport15, TdReport15Ex
from regalia.tees.intel.evidence.wire import BodyType, IntelQuote, QeCertification
from regalia.tees.intel.names import SgxAttributeBit, TdAttributeBit
from regalia_testing.tees.intel.defects import ISV_SVN
from regalia_testing.tees.intel.documents import (
    MODULE_SIGNER,
    QE_PROD_IDS,
    QE_SIGNERS,
    TDX_SVN,
    raw_signature,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from regalia_testing.tees.intel.authority import IntelKeys
    from regalia_testing.tees.intel.defects import IntelDefects

AUTH_DATA = bytes(range(32))
MR_SEAM = b"\x5e" * 48
ENCLAVE_SIGNER = b"\x51" * 32
ENCLAVE_PROD_ID = 7
ENCLAVE_SVN = 3
_STALE = b"\x01" * 64
_KEY_TYPE_AT, _VENDOR_AT = 2, 12
_XFRM = 0x3


@dataclass(frozen=True, slots=True)
class Workload:
    """What a TD or an enclave is, and what it asks a quote over."""

    report_data: bytes  # 64
    measurement: bytes  # 48 for a TD, 32 for an enclave
    config: bytes  # MRCONFIGID or CONFIGID
    rtmrs: tuple[bytes, bytes, bytes, bytes] = (bytes(48),) * 4


def td_report(workload: Workload, defects: IntelDefects) -> TdReport:
    """A body of the type that the defects say."""
    version, svn = defects.module_version, ISV_SVN[defects.module]
    tdx_svn = TDX_SVN - defects.low_tdx_svn
    tee_tcb_svn = bytes((svn, version, tdx_svn)).ljust(16, b"\x00")
    type_ = defects.body_type if defects.version == 5 else BodyType.TD_10  # noqa: PLR2004 - versions
    later = extended = None
    if type_ >= BodyType.TD_15:
        service = b"\x5d" * 48 if defects.service_td else bytes(48)
        now = ISV_SVN["UpToDate"] if defects.module_updated else svn
        later = TdReport15(tee_tcb_svn_2=bytes((now,)) + tee_tcb_svn[1:], mr_service_td=service)
    if type_ >= BodyType.TD_15_EX:
        extended = TdReport15Ex(
            vmid=1,
            td_id=b"\x1d" * 32,
            dev_info=bytes(48),
            init_service_td_hash=bytes(48),
            init_service_td_attributes=bytes(8),
            init_cpu_svn=bytes(16),
            init_tee_tcb_svn=tee_tcb_svn,
            init_tee_fmspc=bytes(12),
            cur_service_td_hash=bytes(48),
            cur_service_td_attributes=bytes(8),
        )
    return TdReport(
        tee_tcb_svn=tee_tcb_svn,
        mr_seam=MR_SEAM,
        mr_signer_seam=MODULE_SIGNER if defects.module_signer else b"\x66" * 48,
        seam_attributes=defects.module_attributes.to_bytes(8, "little"),
        td_attributes=_td_attributes(defects),
        xfam=defects.xfam | defects.xfam_reserved << 40,
        mr_td=_flipped(workload.measurement, flip=defects.wrong_measurement),
        mr_config_id=_flipped(workload.config, flip=defects.wrong_config),
        mr_owner=bytes(48),
        mr_owner_config=bytes(48),
        rtmr0=workload.rtmrs[0],
        rtmr1=workload.rtmrs[1],
        rtmr2=workload.rtmrs[2],
        rtmr3=workload.rtmrs[3],
        report_data=_report_data(workload, defects),
        later=later,
        extended=extended,
    )


def enclave_report(workload: Workload, defects: IntelDefects, cpu_svn: bytes) -> EnclaveReport:
    """An application enclave's report."""
    flags = 1 << SgxAttributeBit.MODE64BIT | 1 << SgxAttributeBit.KSS
    flags |= (not defects.not_initialized) << SgxAttributeBit.INIT
    flags |= defects.debug << SgxAttributeBit.DEBUG
    return EnclaveReport(
        cpu_svn=cpu_svn,
        misc_select=0,
        isv_ext_prod_id=bytes(16),
        attributes=flags | defects.attributes_reserved << 3,
        xfrm=_XFRM,
        mr_enclave=_flipped(workload.measurement, flip=defects.wrong_measurement),
        mr_signer=ENCLAVE_SIGNER,
        config_id=_flipped(workload.config, flip=defects.wrong_config),
        isv_prod_id=ENCLAVE_PROD_ID,
        isv_svn=ENCLAVE_SVN,
        config_svn=0,
        isv_family_id=bytes(16),
        report_data=_report_data(workload, defects),
    )


def sign_quote(  # noqa: PLR0913 - the parts of a quote
    body: TdReport | EnclaveReport,
    *,
    keys: IntelKeys,
    chain: bytes,
    cpu_svn: bytes,
    defects: IntelDefects,
    qe_svn: int | None = None,
) -> bytes:
    """The quote over a body, with what the defects spoil in it.

    Args:
        body: what is signed.
        keys: of the platform.
        chain: PEM of the PCK chain.
        cpu_svn: of the QE report.
        defects: what is wrong.
        qe_svn: ISVSVN of the quoting enclave, if it is none that a field names.
    """
    attestation = point(keys.attestation)
    report = _qe_report(body, attestation, cpu_svn, defects)
    if qe_svn is not None:
        report = msgspec.structs.replace(report, isv_svn=qe_svn)
    raw_report = report.encode()
    qe_signature = raw_signature(keys.pck, raw_report)
    quote = IntelQuote(
        version=defects.version,
        qe_svn=0,
        pce_svn=0,
        user_data=bytes(20),
        body_type=_body_type(body),
        body=body,
        signed=b"",
        signature=bytes(64),
        qe=QeCertification(
            attestation_key=attestation,
            qe_report=report,
            qe_report_raw=raw_report,
            qe_report_signature=_flipped(qe_signature, flip=defects.bad_qe_signature),
            qe_auth_data=AUTH_DATA,
            pck_chain=chain,
        ),
        trailing_zeros=defects.trailing_zeros,
    )
    signed = _spoiled_header(quote.encode_signed(), defects)
    signer = keys.pck if defects.other_attestation_key else keys.attestation
    signature = raw_signature(signer, signed)
    quote = replace(quote, signature=_flipped(signature, flip=defects.bad_signature))
    if defects.other_attestation_key:
        quote = replace(quote, qe=replace(quote.qe, attestation_key=point(keys.pck)))
    encoded = quote.encode()
    data = signed + encoded[len(signed) :]
    if defects.certification_type != 5:  # noqa: PLR2004 - the right one
        at = data.rindex(len(chain).to_bytes(4, "little") + chain) - 2
        data = data[:at] + defects.certification_type.to_bytes(2, "little") + data[at + 2 :]
    data += b"\x01" * defects.trailing_byte
    return data[:-1] if defects.truncated else data


def _qe_report(
    body: TdReport | EnclaveReport, attestation: bytes, cpu_svn: bytes, defects: IntelDefects
) -> EnclaveReport:
    kind = "TD_QE" if isinstance(body, TdReport) else "QE"
    flags = 1 << SgxAttributeBit.INIT | 1 << SgxAttributeBit.PROVISIONKEY
    flags |= 1 << SgxAttributeBit.MODE64BIT | defects.qe_debug << SgxAttributeBit.DEBUG
    report_data = hashlib.sha256(attestation + AUTH_DATA).digest()
    tail = b"\x01" if defects.qe_report_data_tail else b"\x00"
    return EnclaveReport(
        cpu_svn=cpu_svn,
        misc_select=defects.qe_misc_select,
        isv_ext_prod_id=bytes(16),
        attributes=flags | defects.qe_attributes_reserved << 40,
        xfrm=_XFRM,
        mr_enclave=b"\x9e" * 32,
        mr_signer=QE_SIGNERS[kind] if defects.qe_signer else b"\x66" * 32,
        config_id=bytes(64),
        isv_prod_id=QE_PROD_IDS[kind] if defects.qe_prod_id < 0 else defects.qe_prod_id,
        isv_svn=ISV_SVN[defects.qe],
        config_svn=0,
        isv_family_id=bytes(16),
        report_data=report_data.ljust(64, tail),
    )


def _spoiled_header(signed: bytes, defects: IntelDefects) -> bytes:
    header = bytearray(signed)
    header[_KEY_TYPE_AT] = defects.key_type
    if not defects.vendor:
        header[_VENDOR_AT] ^= 1
    return bytes(header)


def _td_attributes(defects: IntelDefects) -> int:
    wanted = {
        TdAttributeBit.DEBUG: defects.debug,
        TdAttributeBit.PERF_PROF: defects.profiling,
        TdAttributeBit.SEPT_VE_DISABLE: defects.sept_ve_disable,
        TdAttributeBit.MIGRATABLE: defects.migratable,
        TdAttributeBit.PERFMON: defects.perfmon,
        TdAttributeBit.PKS: defects.pks,
        TdAttributeBit.KL: defects.kl,
        TdAttributeBit.LASS: defects.lass,
    }
    return sum(1 << index for index, on in wanted.items() if on) | defects.attributes_reserved << 1


def _body_type(body: TdReport | EnclaveReport) -> BodyType:
    if isinstance(body, EnclaveReport):
        return BodyType.SGX_ENCLAVE
    if body.extended is not None:
        return BodyType.TD_15_EX
    return BodyType.TD_10 if body.later is None else BodyType.TD_15


def _report_data(workload: Workload, defects: IntelDefects) -> bytes:
    if defects.zero_report_data:
        return bytes(64)
    return _STALE if defects.stale_nonce else workload.report_data


def _flipped(data: bytes, *, flip: bool) -> bytes:
    return bytes((data[0] ^ 1,)) + data[1:] if flip else data


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """X and y of the public key, 64 bytes."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def pem_chain(*certificates: bytes) -> bytes:
    """Concatenated PEM, as it stands in quotes."""
    blocks = (
        "-----BEGIN CERTIFICATE-----\n"
        + "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
        + "\n-----END CERTIFICATE-----\n"
        for der in certificates
    )
    return "".join(blocks).encode()
