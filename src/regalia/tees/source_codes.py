"""Codes of what an attester's own hardware refuses."""

from __future__ import annotations

from regalia.core.errors import Code


class CollectCode(Code):
    """The machine cannot give the evidence that it was asked for."""

    TPM_UNREACHABLE = (
        "Without its TPM this machine cannot show what it booted.",
        (
            "Check the TCTI in the configuration (device:/dev/tpmrm0 on Linux) and that this "
            "process may open the device."
        ),
    )
    TPM_COMMAND_FAILED = (
        "The TPM refused a command, so there is no evidence.",
        "Look up the TPM's response code; a TPM in lockout or without free slots needs a reset.",
    )
    EK_CERTIFICATE_ABSENT = (
        "Nobody vouches for a TPM without an EK certificate, so it cannot be enrolled.",
        "Fetch the certificate from the TPM's maker and name its file in `ek_certificates`.",
    )
    CONFIG_SLOT_TAKEN = (
        (
            "The register for it holds something else than this runtime's configuration: another "
            "configuration was measured since the machine started."
        ),
        "Reboot the machine, or restart the enclave, before you use another configuration.",
    )
    NSM_UNREACHABLE = (
        "Without the Nitro Secure Module there is no attestation document.",
        "Run inside a Nitro enclave whose kernel has the nsm driver; check the device's path.",
    )
    NSM_REFUSED = (
        "The Nitro Secure Module refused a request, so there is no evidence.",
        "Look up its error code in AWS's NSM API; check that the enclave's driver is current.",
    )
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
    NVML_UNREACHABLE = (
        "Without NVIDIA's management library no GPU can be asked for its report.",
        "Install NVIDIA's driver in the guest, so that libnvidia-ml.so.1 can be loaded.",
    )
    NVML_FAILED = (
        "A GPU that gives no report cannot be part of a confidential system.",
        "Check that confidential computing is enabled: nvidia-smi conf-compute -f.",
    )
