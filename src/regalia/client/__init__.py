"""The client's side: verify a runtime, then talk to it through the sealed channel.

    trust = load_trust("client-policy.json", collateral="collateral")
    client = OpenAI(
        base_url="http://runtime.example:8000/v1",
        api_key="x",
        http_client=httpx.Client(transport=RegaliaTransport("http://runtime.example:8000", trust)),
    )

No part of a request leaves the process until the runtime's evidence was verified and accepted by
the policy. The request is then sealed to the key in that evidence.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regalia.client.errors import ClientCode, RuntimeNotVerifiedError, SealedChannelError
    from regalia.client.refusals import AsyncRefusalTransport, RefusalTransport
    from regalia.client.transport import AsyncRegaliaTransport, RegaliaTransport
    from regalia.client.trust import ClientTrust, load_trust
    from regalia.client.verify import VerifiedRuntime, verify_runtime

__all__ = [
    "AsyncRefusalTransport",
    "AsyncRegaliaTransport",
    "ClientCode",
    "ClientTrust",
    "RefusalTransport",
    "RegaliaTransport",
    "RuntimeNotVerifiedError",
    "SealedChannelError",
    "VerifiedRuntime",
    "load_trust",
    "verify_runtime",
]

_MODULES = {
    "errors": ("ClientCode", "RuntimeNotVerifiedError", "SealedChannelError"),
    "refusals": ("AsyncRefusalTransport", "RefusalTransport"),
    "transport": ("AsyncRegaliaTransport", "RegaliaTransport"),
    "trust": ("ClientTrust", "load_trust"),
    "verify": ("VerifiedRuntime", "verify_runtime"),
}


def __getattr__(name: str) -> object:
    """Import a public name when it is used: whoever only reads collateral needs no HTTP client."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
