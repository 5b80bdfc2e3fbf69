"""Hypothesis strategies for Intel quotes. Needs ``hypothesis``, which only tests install."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from regalia.tees.intel.evidence.bodies import EnclaveReport, TdReport, TdReport15, TdReport15Ex
from regalia.tees.intel.evidence.pck import PckFacts
from regalia.tees.intel.evidence.wire import (
    VERSION_5,
    VERSION_SGX,
    BodyType,
    IntelQuote,
    QeCertification,
)
from regalia.tees.intel.names import (
    SGX_ATTRIBUTES_DEFINED,
    TD_ATTRIBUTES_DEFINED,
    XFAM_FIXED0,
    XFAM_FIXED1,
    SgxAttributeBit,
    SgxType,
)

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

_U16 = st.integers(0, 2**16 - 1)
_U64 = st.integers(0, 2**64 - 1)


def _bytes(size: int) -> SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def enclave_reports() -> SearchStrategy[EnclaveReport]:
    """Any report that parses."""
    flags = _U64.map(lambda v: v & SGX_ATTRIBUTES_DEFINED | 1 << SgxAttributeBit.INIT)
    return st.builds(
        EnclaveReport,
        cpu_svn=_bytes(16),
        misc_select=st.integers(0, 2**32 - 1),
        isv_ext_prod_id=_bytes(16),
        attributes=flags,
        xfrm=_U64,
        mr_enclave=_bytes(32),
        mr_signer=_bytes(32),
        config_id=_bytes(64),
        isv_prod_id=_U16,
        isv_svn=_U16,
        config_svn=_U16,
        isv_family_id=_bytes(16),
        report_data=_bytes(64),
    )


@st.composite
def td_reports(draw: DrawFn, body_type: BodyType) -> TdReport:
    """Any report of that type that parses."""
    later = extended = None
    if body_type >= BodyType.TD_15:
        later = TdReport15(tee_tcb_svn_2=draw(_bytes(16)), mr_service_td=draw(_bytes(48)))
    if body_type >= BodyType.TD_15_EX:
        extended = TdReport15Ex(
            vmid=draw(st.integers(0, 255)),
            td_id=draw(_bytes(32)),
            dev_info=draw(_bytes(48)),
            init_service_td_hash=draw(_bytes(48)),
            init_service_td_attributes=draw(_bytes(8)),
            init_cpu_svn=draw(_bytes(16)),
            init_tee_tcb_svn=draw(_bytes(16)),
            init_tee_fmspc=draw(_bytes(12)),
            cur_service_td_hash=draw(_bytes(48)),
            cur_service_td_attributes=draw(_bytes(8)),
        )
    measurement = _bytes(48)
    return TdReport(
        tee_tcb_svn=draw(_bytes(16)),
        mr_seam=draw(measurement),
        mr_signer_seam=draw(measurement),
        seam_attributes=draw(_bytes(8)),
        td_attributes=draw(_U64) & TD_ATTRIBUTES_DEFINED,
        xfam=draw(_U64) & XFAM_FIXED0 | XFAM_FIXED1,
        mr_td=draw(measurement),
        mr_config_id=draw(measurement),
        mr_owner=draw(measurement),
        mr_owner_config=draw(measurement),
        rtmr0=draw(measurement),
        rtmr1=draw(measurement),
        rtmr2=draw(measurement),
        rtmr3=draw(measurement),
        report_data=draw(_bytes(64)),
        later=later,
        extended=extended,
    )


@st.composite
def qe_certifications(draw: DrawFn) -> QeCertification:
    """Any that parses; ``qe_report_raw`` is left empty."""
    return QeCertification(
        attestation_key=draw(_bytes(64)),
        qe_report=draw(enclave_reports()),
        qe_report_raw=b"",
        qe_report_signature=draw(_bytes(64)),
        qe_auth_data=draw(st.binary(max_size=64)),
        pck_chain=draw(st.binary(max_size=64)),
    )


@st.composite
def intel_quotes(draw: DrawFn) -> IntelQuote:
    """Any quote that parses; ``signed`` and ``qe.qe_report_raw`` are left empty."""
    version = draw(st.sampled_from([VERSION_SGX, 4, VERSION_5]))
    types = {VERSION_SGX: [BodyType.SGX_ENCLAVE], 4: [BodyType.SGX_ENCLAVE, BodyType.TD_10]}
    body_type = draw(st.sampled_from(types.get(version, list(BodyType))))
    body: EnclaveReport | TdReport
    if body_type is BodyType.SGX_ENCLAVE:
        body = draw(enclave_reports())
    else:
        body = draw(td_reports(body_type))
    return IntelQuote(
        version=version,
        qe_svn=draw(_U16),
        pce_svn=draw(_U16),
        user_data=draw(_bytes(20)),
        body_type=body_type,
        body=body,
        signed=b"",
        signature=draw(_bytes(64)),
        qe=draw(qe_certifications()),
        trailing_zeros=draw(st.integers(0, 64)),
    )


def pck_facts() -> SearchStrategy[PckFacts]:
    """Anything that a PCK certificate can say."""
    flag = st.none() | st.booleans()
    return st.builds(
        PckFacts,
        ppid=_bytes(16),
        svns=st.tuples(*[st.integers(0, 255)] * 16),
        pce_svn=_U16,
        cpu_svn=_bytes(16),
        pce_id=_bytes(2),
        fmspc=_bytes(6),
        sgx_type=st.sampled_from(SgxType),
        platform_instance_id=st.none() | _bytes(16),
        dynamic_platform=flag,
        cached_keys=flag,
        smt=flag,
    )
