"""TDX and SGX for the policy scenario: claims, a section that accepts exactly them, and defects."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from regalia.appraisal.claims import MINT, Hardware, Revocation
from regalia.appraisal.config_binding import expected_slot
from regalia.core.types import Digest
from regalia.policy.documents import Platform
from regalia.tees.intel.claims import EventLogClaims, SgxClaims, TdxClaims
from regalia.tees.intel.names import SgxAttributeBit, SgxType, TcbStatus, TdAttributeBit
from regalia.tees.intel.policy.section import Rtmrs, Sgx, TdAttributes, Tdx
from regalia.wire.evidence import Tee
from regalia_testing.policy_scenario import PolicyScenario, attest, common_breaks, demand, steps

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import Break, Breaks

TDX = "platform.tdx"
SGX = "platform.sgx"
XFAM = 0x61AE7
ZERO = "00" * 48
_ISSUED = datetime(2026, 11, 1, tzinfo=UTC)
_NEXT = datetime(2026, 12, 1, tzinfo=UTC)


def _platform_claims() -> dict[str, Any]:
    return {
        "hardware": Hardware.GENUINE,
        "revocation": Revocation.CHECKED,
        "evidence_digest": Digest.of(b"evidence"),
        "report_data": b"\x55" * 64,
        "tcb_status": TcbStatus.UP_TO_DATE,
        "current_tcb_status": TcbStatus.UP_TO_DATE,
        "qe_status": TcbStatus.UP_TO_DATE,
        "qe_isv_svn": 8,
        "advisory_ids": ("INTEL-SA-00615",),
        "tcb_date": "2026-08-12T00:00:00Z",
        "tcb_evaluation_data_number": 18,
        "collateral_issued": _ISSUED,
        "collateral_next_update": _NEXT,
        "fmspc": b"\x00\xff\xee\x00\x00\x00",
        "pce_id": bytes(2),
        "cpu_svn": b"\x09" * 16,
        "pce_svn": 13,
        "ppid": b"\x44" * 16,
        "sgx_type": SgxType.SCALABLE,
        "platform_instance_id": b"\x45" * 16,
        "dynamic_platform": False,
        "cached_keys": False,
        "smt": True,
        "mint": MINT,
    }


def _platform_rules() -> dict[str, Any]:
    return {
        "tcb_statuses": ["UpToDate", "SWHardeningNeeded"],
        "advisories_denied": ["INTEL-SA-00960"],
        "tcb_evaluation_data_number_minimum": 17,
        "ppids": ["44" * 16],
        "dynamic_platform": "deny",
        "cached_keys": "deny",
        "smt": "allow",
        "revocation": "required",
    }


def tdx_scenario() -> PolicyScenario:
    """A TD, and a policy that accepts exactly it."""
    scenario = PolicyScenario()
    slot = expected_slot(Tee.TDX, scenario.config.encode())
    claims = TdxClaims(
        **_platform_claims(),
        quote_version=5,
        tee_tcb_svn=b"\x06\x01\x03" + bytes(13),
        tee_tcb_svn_2=b"\x06\x01\x03" + bytes(13),
        module_status=TcbStatus.UP_TO_DATE,
        mr_seam=b"\x5e" * 48,
        mr_signer_seam=bytes(48),
        seam_attributes=bytes(8),
        td_attributes=1 << TdAttributeBit.SEPT_VE_DISABLE,
        xfam=XFAM,
        mr_td=b"\x11" * 48,
        mr_config_id=slot,
        mr_owner=bytes(48),
        mr_owner_config=bytes(48),
        rtmr0=b"\x20" * 48,
        rtmr1=b"\x21" * 48,
        rtmr2=b"\x22" * 48,
        rtmr3=bytes(48),
        mr_service_td=bytes(48),
        td_id=None,
        event_log=EventLogClaims(digest=Digest.of(b"log"), events=30, opaque=9, unknown=0),
    )
    section = Tdx(
        **_platform_rules(),
        quote_version_minimum=4,
        mrtd=["11" * 48, "12" * 48],
        rtmrs=Rtmrs(rtmr0=["20" * 48], rtmr1=["21" * 48], rtmr2=["22" * 48], rtmr3=[ZERO]),
        mr_config_id=[slot.hex()],
        mr_owner=[ZERO],
        mr_owner_config=[ZERO],
        mr_seam=["5e" * 48],
        mr_signer_seam=[ZERO],
        xfam=[XFAM.to_bytes(8, "little").hex()],
        attributes=TdAttributes(
            sept_ve_disable="required",
            perfmon="deny",
            pks="deny",
            kl="deny",
            lass="deny",
            icssd="deny",
            tpa="deny",
        ),
        service_td="deny",
        event_log="required",
    )
    return _with(scenario, claims, Platform(hardware="genuine", tdx=section, devices=[]))


def sgx_scenario() -> PolicyScenario:
    """An enclave, and a policy that accepts exactly it."""
    scenario = PolicyScenario()
    slot = expected_slot(Tee.SGX, scenario.config.encode())
    claims = SgxClaims(
        **_platform_claims(),
        quote_version=3,
        enclave_cpu_svn=b"\x09" * 16,
        misc_select=0,
        attributes=1 << SgxAttributeBit.INIT | 1 << SgxAttributeBit.MODE64BIT,
        xfrm=3,
        mr_enclave=b"\x11" * 32,
        mr_signer=b"\x22" * 32,
        isv_prod_id=7,
        isv_svn=3,
        isv_ext_prod_id=bytes(16),
        isv_family_id=bytes(16),
        config_id=slot,
        config_svn=2,
    )
    section = Sgx(
        **_platform_rules(),
        quote_version_minimum=3,
        mrenclaves=["11" * 32, "12" * 32],
        mrsigners=["22" * 32],
        isv_prod_ids=[7],
        isv_svn_minimum=3,
        config_ids=[slot.hex()],
        config_svn_minimum=2,
        xfrm=["0300000000000000"],
        provision_key="deny",
    )
    return _with(scenario, claims, Platform(hardware="genuine", sgx=section, devices=[]))


def _with(
    scenario: PolicyScenario, claims: TdxClaims | SgxClaims, platform: Platform
) -> PolicyScenario:
    tee = str(claims.tee)
    policy = scenario.demand("platform", platform).demand("conditions", [f"claims.tee == '{tee}'"])
    # A scenario is written for SNP claims; its methods work with any.
    return replace(policy, claims=cast("Any", claims))


def set_bit(index: int) -> Break:
    """Set a bit of TDATTRIBUTES."""
    return lambda s: s.attest(td_attributes=cast("Any", s.claims).td_attributes | 1 << index)


def _common(section: str) -> dict[str, tuple[str, Break]]:
    """Defects of what TDX and SGX share."""
    return {
        **common_breaks(section),
        "quote_version": ("REPORT_VERSION_TOO_OLD", attest(quote_version=2)),
        "ppid": ("INSTANCE_NOT_ALLOWED", attest(ppid=b"\x46" * 16)),
        "out_of_date": ("TCB_OUT_OF_DATE", attest(tcb_status=TcbStatus.OUT_OF_DATE)),
        "out_of_date_configuration": (
            "TCB_OUT_OF_DATE",
            attest(tcb_status=TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED),
        ),
        "relaunch": ("TCB_OUT_OF_DATE", attest(tcb_status=TcbStatus.TD_RELAUNCH_ADVISED)),
        "configuration": ("TCB_STATUS_DENIED", attest(tcb_status=TcbStatus.CONFIGURATION_NEEDED)),
        "out_of_date_now": ("TCB_OUT_OF_DATE", attest(current_tcb_status=TcbStatus.OUT_OF_DATE)),
        "not_listed": ("TCB_STATUS_DENIED", demand(f"{section}.tcb_statuses", ["OutOfDate"])),
        "revoked_by_hand": ("TCB_STATUS_DENIED", attest(tcb_status=TcbStatus.REVOKED)),
        "advisory": ("ADVISORY_DENIED", attest(advisory_ids=("INTEL-SA-00960",))),
        "evaluation": ("TCB_EVALUATION_TOO_OLD", attest(tcb_evaluation_data_number=16)),
        "dynamic": ("PLATFORM_FLAG_MISSING", attest(dynamic_platform=True)),
        "dynamic_unknown": ("PLATFORM_FLAG_MISSING", attest(dynamic_platform=None)),
        "cached_keys": ("PLATFORM_FLAG_MISSING", attest(cached_keys=True)),
        "smt": ("PLATFORM_FLAG_MISSING", demand(f"{section}.smt", "deny")),
    }


def _other(name: str, code: str) -> tuple[str, Break]:
    """One register with another value."""
    return code, lambda s: s.attest(**{name: b"\x77" * len(getattr(s.claims, name))})


TDX_DEFECTS: Breaks = MappingProxyType(
    {
        **_common(TDX),
        "debug": ("DEBUG_ENABLED", set_bit(TdAttributeBit.DEBUG)),
        "profiling": ("DEBUG_ENABLED", set_bit(TdAttributeBit.PMT_PROF)),
        "migration": ("MIGRATION_ALLOWED", set_bit(TdAttributeBit.MIGRATABLE)),
        "sept_ve_disable": ("POLICY_BIT", attest(td_attributes=0)),
        "perfmon": ("POLICY_BIT", set_bit(TdAttributeBit.PERFMON)),
        "pks": ("POLICY_BIT", set_bit(TdAttributeBit.PKS)),
        "kl": ("POLICY_BIT", set_bit(TdAttributeBit.KL)),
        "lass": ("POLICY_BIT", set_bit(TdAttributeBit.LASS)),
        "icssd": ("POLICY_BIT", set_bit(TdAttributeBit.ICSSD)),
        "tpa": ("POLICY_BIT", set_bit(TdAttributeBit.TPA)),
        "xfam": ("POLICY_BIT", attest(xfam=3)),
        "service_td": _other("mr_service_td", "SERVICE_TD_DENIED"),
        "module": _other("mr_seam", "TDX_MODULE_DENIED"),
        "module_signer": _other("mr_signer_seam", "TDX_MODULE_DENIED"),
        "mrtd": _other("mr_td", "MEASUREMENT_UNKNOWN"),
        "rtmr0": _other("rtmr0", "MEASUREMENT_UNKNOWN"),
        "rtmr1": _other("rtmr1", "MEASUREMENT_UNKNOWN"),
        "rtmr2": _other("rtmr2", "MEASUREMENT_UNKNOWN"),
        "rtmr3": _other("rtmr3", "MEASUREMENT_UNKNOWN"),
        "mrtd_upper_case_by_hand": (
            "MEASUREMENT_UNKNOWN",
            steps(attest(mr_td=b"\xab" * 48), demand(f"{TDX}.mrtd", ["AB" * 48])),
        ),
        "mrtd_open": ("WORKLOAD_UNPINNED", demand(f"{TDX}.mrtd", "any")),
        "kernel_open": ("WORKLOAD_UNPINNED", demand(f"{TDX}.rtmrs.rtmr1", "any")),
        "initrd_open": ("WORKLOAD_UNPINNED", demand(f"{TDX}.rtmrs.rtmr2", "any")),
        "owner": _other("mr_owner", "TD_OWNER_UNKNOWN"),
        "owner_config": _other("mr_owner_config", "TD_OWNER_UNKNOWN"),
        "no_event_log": ("EVENT_LOG_INSUFFICIENT", attest(event_log=None)),
        "unknown_event": (
            "EVENT_LOG_INSUFFICIENT",
            lambda s: s.attest(event_log=replace(cast("Any", s.claims).event_log, unknown=1)),
        ),
        "config": ("HOST_DATA_UNKNOWN", demand(f"{TDX}.mr_config_id", ["99" * 48])),
        "config_other_than_measured": (
            "CONFIG_MISMATCH",
            steps(demand(f"{TDX}.mr_config_id", ["77" * 48]), attest(mr_config_id=b"\x77" * 48)),
        ),
    }
)

SGX_DEFECTS: Breaks = MappingProxyType(
    {
        **_common(SGX),
        "debug": ("DEBUG_ENABLED", attest(attributes=0b111)),
        "provision_key": ("POLICY_BIT", attest(attributes=0b10101)),
        "xfrm": ("POLICY_BIT", attest(xfrm=7)),
        "mrenclave": _other("mr_enclave", "MEASUREMENT_UNKNOWN"),
        "mrsigner": _other("mr_signer", "ID_KEY_UNKNOWN"),
        "prod_id": ("ENCLAVE_VERSION_DENIED", attest(isv_prod_id=8)),
        "isv_svn": ("ENCLAVE_VERSION_DENIED", attest(isv_svn=2)),
        "config_svn": ("ENCLAVE_VERSION_DENIED", attest(config_svn=1)),
        "enclave_and_signer_open": (
            "WORKLOAD_UNPINNED",
            steps(demand(f"{SGX}.mrenclaves", "any"), demand(f"{SGX}.mrsigners", "any")),
        ),
        "enclave_and_product_open": (
            "WORKLOAD_UNPINNED",
            steps(demand(f"{SGX}.mrenclaves", "any"), demand(f"{SGX}.isv_prod_ids", "any")),
        ),
        "config": ("HOST_DATA_UNKNOWN", demand(f"{SGX}.config_ids", ["99" * 64])),
        "config_other_than_measured": (
            "CONFIG_MISMATCH",
            steps(demand(f"{SGX}.config_ids", ["77" * 64]), attest(config_id=b"\x77" * 64)),
        ),
    }
)
