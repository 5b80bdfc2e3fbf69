"""The stock openai client, twice: as it comes, and with Regalia's transport under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import httpx
from openai import OpenAI

from regalia.client.transport import RegaliaTransport
from regalia.client.trust import load_trust

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.client.verify import VerifiedRuntime
    from regalia_demo.deployment import Deployment

_TIMEOUT_S = 120


def plain_client(url: str) -> OpenAI:
    """As it comes."""
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=_TIMEOUT_S)


def sealed_client(
    deployment: Deployment, url: str, on_verified: Callable[[VerifiedRuntime], None] | None = None
) -> OpenAI:
    """Verifies the runtime by itself, offline, before anything is sent."""
    collateral = deployment.root / "platform" / "collateral"
    trust = load_trust(
        deployment.root / "owner" / "client-policy.json",
        collateral=collateral,
        dangerous_simulated_anchor=collateral / "ark.der",
    )
    transport = RegaliaTransport(url, trust, on_verified=on_verified)
    return OpenAI(
        base_url=f"{url}/v1",
        api_key="none",
        max_retries=0,
        # openai 3 is typed for httpx2 and takes httpx's client as well.
        http_client=cast("Any", httpx.Client(transport=transport, timeout=_TIMEOUT_S)),
    )
