"""Codes of the verifier of Azure confidential VMs."""

from __future__ import annotations

from regalia.core.errors import Code


class AzureCode(Code):
    """The hardware's report and the vTPM's quote do not belong together."""

    RUNTIME_DATA_UNBOUND = (
        (
            "The hardware does not vouch for this runtime data, so the attestation key in it "
            "could be anybody's."
        ),
        "Send the HCL report exactly as the vTPM's NV index 0x01400001 holds it.",
    )
    RUNTIME_KEY_MISSING = (
        "Without the paravisor's attestation key nothing ties a vTPM quote to the hardware.",
        "Send the HCL report of a confidential VM with a vTPM; HCLAkPub must be in it.",
    )
    PARAVISOR_LEVEL = (
        (
            "Only the paravisor at VMPL 0 writes the runtime data. At another level a guest could "
            "have asked for a report over keys of its own."
        ),
        "Send the report that the paravisor made at boot.",
    )
    TD_REPORT_MISMATCH = (
        "The TD report that the paravisor made and the quote speak of different domains.",
        "Have exactly the TD report in this HCL report quoted.",
    )
