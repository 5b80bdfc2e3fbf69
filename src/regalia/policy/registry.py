"""The policy halves of all TEEs and devices. Nothing else in this package names one.

``documents.Platform`` has a typed member for each; a test holds the two to each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.tees.azure.policy.plugin import AZURE_SNP, AZURE_TDX
from regalia.tees.intel.policy.plugin import SGX, TDX
from regalia.tees.nitro.policy.plugin import NITRO
from regalia.tees.nvidia.policy.plugin import NVIDIA
from regalia.tees.snp.policy.plugin import SNP
from regalia.tees.tpm.policy.plugin import TPM

if TYPE_CHECKING:
    from regalia.appraisal.claims import Claims, DeviceClaims
    from regalia.appraisal.policy_plugin import DevicePolicyPlugin, PolicyPlugin
    from regalia.wire.evidence import DeviceKind, Tee

# In the order in which policies are explained.
POLICY_PLUGINS: tuple[PolicyPlugin[Any, Any], ...] = (
    SNP,
    NITRO,
    AZURE_SNP,
    AZURE_TDX,
    TDX,
    SGX,
    TPM,
)
DEVICE_PLUGINS: tuple[DevicePolicyPlugin[Any, Any], ...] = (NVIDIA,)

DEVICES_PATH = "platform.devices"


def plugin_for(tee: Tee) -> PolicyPlugin[Any, Any]:
    """The policy half of a TEE.

    Raises:
        LookupError: there is none, so nothing can be said of such claims.
    """
    for plugin in POLICY_PLUGINS:
        if plugin.tee is tee:
            return plugin
    raise LookupError(f"no policy plug-in for {tee}")


def plugin_of(claims: Claims) -> PolicyPlugin[Any, Any]:
    """The policy half for these claims.

    Raises:
        LookupError: there is none.
        TypeError: the claims are not of the class that the TEE's verifier makes.
    """
    plugin = plugin_for(claims.tee)
    if not isinstance(claims, plugin.claims):
        raise TypeError(f"{type(claims).__name__} are no claims of {claims.tee}")
    return plugin


def device_plugin_for(kind: DeviceKind | str) -> DevicePolicyPlugin[Any, Any]:
    """The policy half of a kind of device, by its kind or its word in a policy.

    Raises:
        LookupError: there is none.
    """
    for plugin in DEVICE_PLUGINS:
        if kind in plugin.kinds:
            return plugin
    raise LookupError(f"no policy plug-in for devices of kind {kind}")


def device_plugin_of(claims: DeviceClaims) -> DevicePolicyPlugin[Any, Any]:
    """The policy half for these claims about a device.

    Raises:
        LookupError: there is none.
        TypeError: the claims are not of the class that the kind's verifier makes.
    """
    plugin = device_plugin_for(claims.kind)
    if not isinstance(claims, plugin.claims):
        raise TypeError(f"{type(claims).__name__} are no claims of {claims.kind}")
    return plugin
