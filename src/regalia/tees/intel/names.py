"""Names and bits of Intel TDX and SGX that policies and explanations speak of.

Sources: Intel TDX Module ABI Reference (348551), ATTRIBUTES and XFAM; Intel SDM volume 3D,
chapter "Enclave Code and Data", ATTRIBUTES; Intel PCS API v4, TCB status values.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class TcbStatus(StrEnum):
    """What Intel says of a TCB level. Spelled as in the signed TCB info.

    The last two stand in no document: they follow from OutOfDate ones, for a TD whose module was
    out of date at its launch and has been updated below it since.
    """

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"


class TdAttributeBit(IntEnum):
    """Bit numbers of TDATTRIBUTES. Bits 7 to 0 are the group TUD: a TD with one is not private."""

    DEBUG = 0
    HGS_PLUS_PROF = 4
    PERF_PROF = 5
    PMT_PROF = 6
    ICSSD = 16
    LASS = 27
    SEPT_VE_DISABLE = 28
    MIGRATABLE = 29
    PKS = 30
    KL = 31
    TPA = 62
    PERFMON = 63


TD_ATTRIBUTES_DEFINED = sum(1 << each for each in TdAttributeBit)
TD_ATTRIBUTES_TUD = 0xFF  # debug and profiling: the host sees into the TD by design

XFAM_FIXED1 = 0x3  # x87 and SSE are always enabled
XFAM_FIXED0 = 0x0006DBE7  # no other state component can be


class SgxAttributeBit(IntEnum):
    """Bit numbers of the flags in ATTRIBUTES, its first 64 bits."""

    INIT = 0
    DEBUG = 1
    MODE64BIT = 2
    PROVISIONKEY = 4
    EINITTOKENKEY = 5
    CET = 6
    KSS = 7
    AEXNOTIFY = 10


SGX_ATTRIBUTES_DEFINED = sum(1 << each for each in SgxAttributeBit)


class SgxType(IntEnum):
    """Kind of platform, in the PCK certificate (extension .5)."""

    STANDARD = 0
    SCALABLE = 1
    SCALABLE_WITH_INTEGRITY = 2
