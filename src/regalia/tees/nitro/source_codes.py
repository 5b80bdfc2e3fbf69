"""Reason codes of the Nitro Secure Module."""

from __future__ import annotations

from regalia.core.errors import Code


class NitroSourceCode(Code):
    """The enclave's Nitro Secure Module gives no evidence."""

    NSM_UNREACHABLE = (
        "Without the Nitro Secure Module there is no attestation document.",
        "Run inside a Nitro enclave whose kernel has the nsm driver; check the device's path.",
    )
    NSM_REFUSED = (
        "The Nitro Secure Module refused a request, so there is no evidence.",
        "Look up its error code in AWS's NSM API; check that the enclave's driver is current.",
    )
