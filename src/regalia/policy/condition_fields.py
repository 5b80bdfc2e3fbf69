"""What a condition may speak of: the fields by name and type, and their values for one case."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from regalia.formats.snp_names import (
    ABI_MAJOR_SHIFT,
    ABI_MINOR_MASK,
    GuestPolicyBit,
    PlatformInfoBit,
    bit,
)
from regalia.policy.rules_use import EGRESS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regalia.formats.claims import Firmware, SnpClaims
    from regalia.policy.context import ClientContext, ReleaseContext

Kind = Literal["int", "text", "bool", "time", "list of int", "list of text"]
Fields = Mapping[str, "Kind | Fields"]
Values = dict[str, object]

_FOREVER = 2**63 - 1  # seconds; such an age is refused by the freshness rule

_GUEST_BITS: Mapping[str, GuestPolicyBit] = MappingProxyType(
    {
        "smt": GuestPolicyBit.SMT,
        "migrate_ma": GuestPolicyBit.MIGRATE_MA,
        "debug": GuestPolicyBit.DEBUG,
        "single_socket": GuestPolicyBit.SINGLE_SOCKET,
        "cxl": GuestPolicyBit.CXL_ALLOW,
        "mem_aes_256_xts": GuestPolicyBit.MEM_AES_256_XTS,
        "rapl_dis": GuestPolicyBit.RAPL_DIS,
        "ciphertext_hiding": GuestPolicyBit.CIPHERTEXT_HIDING_DRAM,
        "page_swap_disable": GuestPolicyBit.PAGE_SWAP_DISABLE,
    }
)


def _fields(**members: Kind | Fields) -> Fields:
    return MappingProxyType(members)


def _all_bool(names: Iterable[str]) -> dict[str, Kind | Fields]:
    return dict.fromkeys(names, "bool")


_TCB = _fields(fmc="int", bootloader="int", tee="int", snp="int", microcode="int")
_FIRMWARE = _fields(major="int", minor="int", build="int")

CLIENT_FIELDS: Fields = _fields(
    claims=_fields(
        tee="text",
        hardware="text",
        product="text",
        revocation="text",
        report_version="int",
        guest_svn="int",
        vmpl="int",
        signing_key="text",
        csp_id="text",  # empty unless a VLEK signed
        family_id="text",
        image_id="text",
        measurement="text",
        host_data="text",
        id_key_digest="text",
        author_key_digest="text",
        chip_id="text",
        guest_policy=_fields(abi_major="int", abi_minor="int", **_all_bool(_GUEST_BITS)),
        platform_info=_fields(**_all_bool(PlatformInfoBit.__members__)),
        tcb=_fields(current=_TCB, reported=_TCB, committed=_TCB, launch=_TCB),
        firmware=_fields(current=_FIRMWARE, committed=_FIRMWARE),
        launch_mitigations="list of int",  # numbers of the bits that are set
        current_mitigations="list of int",
    ),
    config=_fields(
        model_id="text",
        owner_key="text",
        log_key="text",
        placement=_fields(region="text", site="text", tier="text"),
        egress="list of text",
    ),
    model=_fields(id="text", version="int"),
    challenge_age_s="int",  # rounded up
    now="time",
)

RELEASE_FIELDS: Fields = MappingProxyType(
    {
        **CLIENT_FIELDS,
        "release": _fields(active_holders="int", approvals="list of text", custody="text"),
    }
)


def client_values(claims: SnpClaims, context: ClientContext) -> Values:
    """Values of ``CLIENT_FIELDS``. Bytes are lower-case hex."""
    age = context.challenge_age_s
    config = context.runtime_config
    return {
        "claims": _claims(claims),
        "config": {
            "model_id": config.model_id,
            "owner_key": config.owner_key,
            "log_key": config.log_key,
            "placement": {
                "region": config.placement.region,
                "site": config.placement.site,
                "tier": config.placement.tier,
            },
            "egress": config.egress[:EGRESS_MAX],  # a longer list is refused anyway
        },
        "model": {"id": str(context.model_id), "version": context.model_version},
        "challenge_age_s": math.ceil(age) if math.isfinite(age) else _FOREVER,
        "now": context.now,
    }


def release_values(claims: SnpClaims, context: ReleaseContext) -> Values:
    """Values of ``RELEASE_FIELDS``."""
    release: Values = {
        "active_holders": context.active_holders,
        "approvals": sorted(context.approvals),
        "custody": context.custody,
    }
    return {**client_values(claims, context), "release": release}


def _claims(claims: SnpClaims) -> Values:
    return {
        "tee": str(claims.tee),
        "hardware": str(claims.hardware),
        "product": claims.product,
        "revocation": str(claims.revocation),
        "report_version": claims.report_version,
        "guest_svn": claims.guest_svn,
        "vmpl": claims.vmpl,
        "signing_key": claims.signing_key,
        "csp_id": claims.csp_id or "",
        "family_id": claims.family_id.hex(),
        "image_id": claims.image_id.hex(),
        "measurement": claims.measurement.hex(),
        "host_data": claims.host_data.hex(),
        "id_key_digest": claims.id_key_digest.hex(),
        "author_key_digest": claims.author_key_digest.hex(),
        "chip_id": claims.chip_id.hex(),
        "guest_policy": {
            "abi_major": (claims.policy >> ABI_MAJOR_SHIFT) & ABI_MINOR_MASK,
            "abi_minor": claims.policy & ABI_MINOR_MASK,
            **{name: bit(claims.policy, index) for name, index in _GUEST_BITS.items()},
        },
        "platform_info": {
            name: bit(claims.platform_info, index)
            for name, index in PlatformInfoBit.__members__.items()
        },
        "tcb": {
            "current": claims.current_tcb.components(),
            "reported": claims.reported_tcb.components(),
            "committed": claims.committed_tcb.components(),
            "launch": claims.launch_tcb.components(),
        },
        "firmware": {
            "current": _firmware(claims.current_firmware),
            "committed": _firmware(claims.committed_firmware),
        },
        "launch_mitigations": _bits(claims.launch_mit_vector),
        "current_mitigations": _bits(claims.current_mit_vector),
    }


def _firmware(version: Firmware) -> dict[str, int]:
    return {"major": version.major, "minor": version.minor, "build": version.build}


def _bits(vector: int) -> list[int]:
    return [index for index in range(vector.bit_length()) if bit(vector, index)]
