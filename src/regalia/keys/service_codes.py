"""Reason codes of key services on a network: OpenBao, AWS KMS and KMIP servers."""

from __future__ import annotations

from regalia.core.errors import Code


class KeyServiceCode(Code):
    """Refusals around services that hold KEKs."""

    KEY_SERVICE_ADDRESS = (
        "The command cannot tell which service is meant, or how to log in to it.",
        "Correct what the message names; docs/howto/key-stores.md shows each kind of address.",
    )
    KEY_SERVICE_LOGIN_REFUSED = (
        "The service does not know this caller (any more), so it gives no key.",
        "Renew the credentials that the message names; a running broker reads them again.",
    )
    KEY_SERVICE_NOT_ALLOWED = (
        "The service knows this caller, but its rules do not let it do this.",
        "Have the service's administrator compare its rules with those of the how-to.",
    )
    KEY_SERVICE_PATH_UNKNOWN = (
        "There is no key engine of the needed kind at this address.",
        "Check the mount, region or key in the address, and that the service is recent enough.",
    )
    KEY_SERVICE_SEALED = (
        "A sealed service has no keys, until people open it.",
        "Unseal the service. Nothing needs a restart here.",
    )
    KEY_SERVICE_BUSY = (
        "The service took too many requests, or is being started; no key was released.",
        "Ask again. If it lasts, look at the service's limits and its load.",
    )
    KEY_SERVICE_FAILED = (
        "The service failed or refused for a reason of its own, so no key was released.",
        "Look at the service's own log for the request at this time.",
    )
    KEY_SERVICE_ANSWER_WRONG = (
        "The answer is not what such a service gives, so nothing in it is used.",
        "Check that the address is that of the service, and that nothing changes its answers.",
    )
    KEK_DISABLED = (
        "The service keeps this key, and does not use it.",
        "Have the service's administrator enable the key, or seal the model under another one.",
    )
    KEK_VERSION_RETIRED = (
        "The service does not use that version of the key any more.",
        "Lower the key's minimum version for as long as it takes to rewrap the model keys.",
    )
    KEK_UNSUITED = (
        "With this key the service would not bind or protect model keys as the specification says.",
        "Make a KEK with `regalia keygen kek`, and seal or rotate the models to it.",
    )
