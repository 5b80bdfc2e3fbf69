"""The fields of the SGX section, in the order of its struct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.appraisal.field_kinds import NUMBERS, allow_or_deny, minimum, not_among, one_of
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_words import hex_entry, numbers
from regalia.core.bits import bit
from regalia.tees.intel.names import SgxAttributeBit
from regalia.tees.intel.policy.fields import intel_fields

if TYPE_CHECKING:
    from regalia.appraisal.policy_field import Field
    from regalia.tees.intel.claims import SgxClaims

SGX_FIELDS: tuple[Field[SgxClaims, Any], ...] = (
    *intel_fields("enclaves"),
    one_of(
        "mrenclaves",
        entry=hex_entry(32),
        have=lambda claims: claims.mr_enclave.hex(),
        code=PolicyCode.MEASUREMENT_UNKNOWN,
        what=not_among("of mrenclaves"),
        noun="enclave measurements (MRENCLAVE)",
        unrestricted="Any enclave measurement is accepted.",
        risk="whatever an accepted signer signs gets the key, as far as mrsigners lets it.",
        content="MRENCLAVE",
    ),
    one_of(
        "mrsigners",
        entry=hex_entry(32),
        have=lambda claims: claims.mr_signer.hex(),
        code=PolicyCode.ID_KEY_UNKNOWN,
        what=not_among("of mrsigners"),
        noun="enclave signers (MRSIGNER)",
        unrestricted="Any enclave signer is accepted.",
        risk="who signed the enclave is not checked; the measurement alone says what runs.",
        content="MRSIGNER",
    ),
    one_of(
        "isv_prod_ids",
        entry=numbers(NUMBERS),
        have=lambda claims: claims.isv_prod_id,
        code=PolicyCode.ENCLAVE_VERSION_DENIED,
        what=lambda have, values, _: f"ISVPRODID {have}; accepted: {', '.join(map(str, values))}",
        noun="enclave products (ISVPRODID)",
        unrestricted="Any product of an enclave's signer is accepted.",
        risk="another enclave of the same signer may get the key.",
        content="ISVPRODID",
    ),
    minimum(
        "isv_svn_minimum",
        have=lambda claims: claims.isv_svn,
        code=PolicyCode.ENCLAVE_VERSION_DENIED,
        what=lambda have, least: f"ISVSVN {have} is below {least}",
        required="The enclave's security version (ISVSVN) must be at least {}.",
        content="ISVSVN",
    ),
    one_of(
        "config_ids",
        entry=hex_entry(64),
        have=lambda claims: claims.config_id.hex(),
        code=PolicyCode.HOST_DATA_UNKNOWN,
        what=not_among("of config_ids"),
        noun="runtime configurations of enclaves (SHA-512)",
        unrestricted="Any runtime configuration of an enclave is accepted that meets the rules"
        " below.",
        risk="the operator may change placement and egress as far as the other rules let them.",
        content="CONFIGID: SHA-512 of accepted runtime configurations",
        pinned="config",
    ),
    minimum(
        "config_svn_minimum",
        have=lambda claims: claims.config_svn,
        code=PolicyCode.ENCLAVE_VERSION_DENIED,
        what=lambda have, least: f"CONFIGSVN {have} is below {least}",
        required="The configuration's security version (CONFIGSVN) must be at least {}.",
        content="CONFIGSVN",
    ),
    one_of(
        "xfrm",
        entry=hex_entry(8),
        have=lambda claims: claims.xfrm.to_bytes(8, "little").hex(),
        code=PolicyCode.POLICY_BIT,
        what=not_among("of xfrm"),
        noun="sets of extended features (XFRM)",
        unrestricted="Any set of extended features of an enclave is accepted.",
        risk="features with side channels of their own may be on.",
        content="extended features that the enclave may use",
    ),
    allow_or_deny(
        "provision_key",
        absent=lambda claims: not bit(claims.attributes, SgxAttributeBit.PROVISIONKEY),
        code=PolicyCode.POLICY_BIT,
        what=lambda claims: f"ATTRIBUTES {claims.attributes:#x}: PROVISIONKEY is set (bit 4)",
        fix="Sign and start the enclave without the provisioning attribute.",
        allowed="The enclave may use provisioning keys, which name the platform.",
        denied="The enclave must not use provisioning keys, which name the platform.",
        content="ATTRIBUTES bit 4: keys that name the platform",
    ),
)
