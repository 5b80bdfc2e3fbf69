"""Every kind of evidence that Regalia verifies: one line for each TEE and each device.

The only place in the verifier that names them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from regalia.tees.azure.evidence.plugin import AZURE_SNP, AZURE_TDX
from regalia.tees.intel.evidence.plugin import SGX, TDX
from regalia.tees.nitro.evidence.plugin import NITRO
from regalia.tees.nvidia.evidence.plugin import GPU, SWITCH
from regalia.tees.snp.evidence.plugin import SNP
from regalia.tees.tpm.evidence.plugin import TPM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regalia.appraisal.evidence_plugin import EvidencePlugin, Vendor
    from regalia.wire.evidence import DeviceKind, Tee

    Plugin = EvidencePlugin[Any, Any, Any, Any, Any]

PLUGINS: tuple[Plugin, ...] = (
    SNP,
    TDX,
    SGX,
    NITRO,
    TPM,
    AZURE_SNP,
    AZURE_TDX,
    GPU,
    SWITCH,
)

# Each once, in the order of the plug-ins.
VENDORS: tuple[Vendor[Any, Any], ...] = tuple({p.vendor.name: p.vendor for p in PLUGINS}.values())

_BY_KIND: Mapping[Tee | DeviceKind, Plugin] = MappingProxyType(
    {each.kind: each for each in PLUGINS}
)


# The plug-in for one kind of evidence. A kind without one is a bug that a test finds.
plugin_for: Callable[[Tee | DeviceKind], Plugin] = _BY_KIND.__getitem__
