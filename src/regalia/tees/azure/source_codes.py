"""Reason codes of Azure's confidential VMs as evidence sources."""

from __future__ import annotations

from regalia.core.errors import Code


class AzureSourceCode(Code):
    """The VM's paravisor or host gives no evidence."""

    HCL_REPORT_ABSENT = (
        "Without the paravisor's report nothing ties the vTPM to the hardware.",
        "Run on a confidential VM of Azure, of the kind that the source is for.",
    )
    VTPM_KEY_OTHER = (
        "A quote by a key that the paravisor's report does not name is worth nothing.",
        "Restart the VM; its persistent key 0x81000003 must be HCLAkPub of the report.",
    )
    QUOTE_SERVICE_FAILED = (
        "On Azure the host makes a TDX quote of the VM's TD report, and it gave none.",
        "Let the VM reach its host's service, 169.254.169.254, port 80, and try again.",
    )
