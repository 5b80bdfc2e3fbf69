"""What a condition may speak of: the fields by name and type, and their values for one case.

Members of another TEE than the claims' are absent, so that a condition about them cannot be
decided and denies: a policy for several TEEs asks ``claims.tee`` first.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.appraisal.condition_types import record
from regalia.policy.rules_use import EGRESS_MAX
from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims
from regalia.tees.azure.policy.fields import AZURE_FIELDS, azure_values
from regalia.tees.intel.claims import SgxClaims, TdxClaims
from regalia.tees.intel.policy.fields import SGX_FIELDS, TDX_FIELDS, sgx_values, tdx_values
from regalia.tees.nitro.claims import NitroClaims
from regalia.tees.nitro.policy.fields import NITRO_FIELDS, nitro_values
from regalia.tees.nvidia.policy.fields import DEVICE_FIELDS, device_values
from regalia.tees.snp.claims import SnpClaims
from regalia.tees.snp.policy.fields import SNP_FIELDS, snp_values
from regalia.tees.tpm.claims import TpmClaims
from regalia.tees.tpm.policy.fields import TPM_FIELDS, tpm_values

if TYPE_CHECKING:
    from regalia.appraisal.claims import Claims
    from regalia.appraisal.condition_types import Fields, Values
    from regalia.policy.context import ClientContext, ReleaseContext

_FOREVER = 2**63 - 1  # seconds; such an age is refused by the freshness rule

CLIENT_FIELDS: Fields = record(
    claims=record(
        tee="text",
        hardware="text",
        product="text",
        revocation="text",
        devices=DEVICE_FIELDS,
        tdx=TDX_FIELDS,
        sgx=SGX_FIELDS,
        **SNP_FIELDS,
        tpm=TPM_FIELDS,
        nitro=NITRO_FIELDS,
        azure=AZURE_FIELDS,
    ),
    config=record(
        model_id="text",
        owner_key="text",
        log_key="text",
        placement=record(region="text", site="text", tier="text"),
        egress="list of text",
    ),
    model=record(id="text", version="int"),
    challenge_age_s="int",  # rounded up
    now="time",
)

RELEASE_FIELDS: Fields = MappingProxyType(
    {
        **CLIENT_FIELDS,
        "release": record(active_holders="int", approvals="list of text", custody="text"),
    }
)


def client_values(claims: Claims, context: ClientContext) -> Values:
    """Values of ``CLIENT_FIELDS``. Bytes are lower-case hex."""
    age = context.challenge_age_s
    config = context.runtime_config
    return {
        "claims": claim_values(claims),
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


def release_values(claims: Claims, context: ReleaseContext) -> Values:
    """Values of ``RELEASE_FIELDS``."""
    release: Values = {
        "active_holders": context.active_holders,
        "approvals": sorted(context.approvals),
        "custody": context.custody,
    }
    return {**client_values(claims, context), "release": release}


def claim_values(claims: Claims) -> Values:  # noqa: PLR0911 - one for each kind
    """Values of the members of ``claims``."""
    common: Values = {
        "tee": str(claims.tee),
        "hardware": str(claims.hardware),
        "product": claims.product,
        "revocation": str(claims.revocation),
        "devices": device_values(claims),
    }
    match claims:
        case SnpClaims():
            return {**common, **snp_values(claims)}
        case TpmClaims():
            return {**common, "tpm": tpm_values(claims)}
        case NitroClaims():
            return {**common, "nitro": nitro_values(claims)}
        case AzureSnpClaims():
            return {**common, **snp_values(claims.snp), "azure": azure_values(claims)}
        case AzureTdxClaims():
            return {**common, "tdx": tdx_values(claims.tdx), "azure": azure_values(claims)}
        case TdxClaims():
            return {**common, "tdx": tdx_values(claims)}
        case SgxClaims():
            return {**common, "sgx": sgx_values(claims)}
        case _:
            return common
