"""What conditions may say of NVIDIA's devices: lists of texts, in the order of the evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.condition_types import TEXT, because, derived
from regalia.tees.nvidia.claims import NvidiaClaims

if TYPE_CHECKING:
    from regalia.appraisal.condition_types import Reading

LEFT_OUT = {
    **because("said of devices of every kind", "kind", "identity"),
    **because("said of the whole machine", "hardware", "revocation"),
    **because("differs with every evidence", "evidence_digest", "nonce"),
    **because("follows from model and firmware", "hwmodel", "ueid", "fwid", "fwid_reported"),
    **because("feature says what they are for", "protected_pcie", "nvdec0"),
    **because("always refused", "debug"),
    **because("rim, in the policy, decides about them", "rims", "rims_missing"),
    **because("compared by the verifier", "pdi", "switch_pdis", "gpu_pdis"),
}
# A list is named for what it holds, in the plural.
CONDITIONS: dict[str, Reading[NvidiaClaims]] = {
    f"{name}s": each
    for name, each in derived(NvidiaClaims, left_out=LEFT_OUT, readings={"Feature": TEXT}).items()
}
