"""The client's reason codes, and the exceptions that carry errors through an HTTP library.

    httpx.TransportError
    ├── httpx.ConnectError ── RuntimeNotVerifiedError   nothing was sent
    └── httpx.RemoteProtocolError ── SealedChannelError   the answer cannot be trusted

Both carry a ``RegaliaError``. They derive from httpx's exceptions, so that libraries on top of
httpx treat them as failed connections: the ``openai`` client raises ``APIConnectionError`` with
one of them as its cause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from regalia.core.errors import Code

if TYPE_CHECKING:
    from regalia.core.errors import RegaliaError


class ClientCode(Code):
    """Refusals of the client."""

    EVIDENCE_NOT_SERVED = (
        "Without evidence nobody knows what runs there; nothing was sent.",
        "Check the address, and that a Regalia runtime is serving there.",
    )
    RELEASE_PROOF_MISSING = (
        "The policy names a log, and the runtime shows no proof that its key release is in it.",
        'Ask the operator to serve the proof, or write "any" for runtime.log_key.',
    )
    RELEASE_PROOF_MISMATCH = (
        "The logged release is not the one that gave this runtime its model.",
        "Ask the operator for the proof of this runtime's release; do not use the runtime.",
    )
    ANSWER_NOT_SEALED = (
        "Only the verified runtime can seal an answer; this one could be anybody's.",
        "Look at who relays your traffic. The answer was thrown away.",
    )
    SEALED_REQUEST_REFUSED = (
        "The runtime, or somebody in the path, refused the request before it was opened.",
        "Look at the status in the message, and at the runtime's log.",
    )
    SERVING_KEY_REFUSED = (
        "The peer says that it does not hold the key in the evidence it has just shown.",
        "Somebody in the path may answer for the runtime. Check the address.",
    )
    CHAT_REFUSED = (
        "The verified runtime understood the request and declined it.",
        "Read its reason in the message.",
    )
    REQUEST_OUTSIDE_RUNTIME = (
        "This transport seals requests for one runtime; another address is not verified.",
        "Use one transport for each runtime, with its own address and policy.",
    )


class RuntimeNotVerifiedError(httpx.ConnectError):
    """The runtime could not be verified, so nothing was sent. ``error`` is the reason."""

    def __init__(self, error: RegaliaError, request: httpx.Request | None = None) -> None:
        super().__init__(f"nothing was sent to it: {error}", request=request)
        self.error = error

    @property
    def code(self) -> Code:
        """The stable reason code."""
        return self.error.code


class SealedChannelError(httpx.RemoteProtocolError):
    """A request was not accepted, or its answer is truncated, altered or not sealed."""

    def __init__(self, error: RegaliaError, request: httpx.Request | None = None) -> None:
        super().__init__(str(error), request=request)
        self.error = error

    @property
    def code(self) -> Code:
        """The stable reason code."""
        return self.error.code
