"""The policy halves of all TEEs and devices. Nothing else in this package names one.

``documents.Platform`` has a typed member for each; a test holds the two to each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

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

P = TypeVar("P", "PolicyPlugin[Any, Any]", "DevicePolicyPlugin[Any, Any]")


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
    """The policy half for these claims. Raises as ``plugin_for``, and as ``_require_made_by``."""
    return _require_made_by(plugin_for(claims.tee), claims)


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
    """The policy half for these claims about a device. Raises as ``plugin_of``."""
    return _require_made_by(device_plugin_for(claims.kind), claims)


def _require_made_by(plugin: P, claims: Claims | DeviceClaims) -> P:
    """Raise TypeError for claims that are not of the class that the plug-in's verifier makes."""
    if not isinstance(claims, plugin.claims):
        raise TypeError(f"{type(claims).__name__} are no {plugin.claims.__name__}")
    return plugin
