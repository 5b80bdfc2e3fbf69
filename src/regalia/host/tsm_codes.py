"""Reason codes of Linux's configfs-tsm."""

from __future__ import annotations

from regalia.core.errors import Code


class TsmCode(Code):
    """The kernel gives no report of the confidential VM that it runs in."""

    TSM_UNREACHABLE = (
        "Without the kernel's interface to the TEE there is no report.",
        (
            "Use Linux 6.7 or newer with CONFIG_TSM_REPORTS, mount configfs at /sys/kernel/config, "
            "and load sev-guest or tdx-guest inside the confidential VM."
        ),
    )
    TSM_OTHER_PROVIDER = (
        "The kernel reports for another kind of TEE than the configuration names.",
        "Name the evidence source of this machine's TEE: snp for sev_guest, tdx for tdx_guest.",
    )
    TSM_DISTURBED = (
        "Another process wrote to the request, so the report may be over its data.",
        "Find out what else uses the kernel's report interface as root, and try again.",
    )
    TSM_FAILED = (
        "The kernel or the firmware refused to make a report.",
        "Look at the kernel's log; firmware under load may need another attempt.",
    )
