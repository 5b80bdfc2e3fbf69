"""Reason codes of the local TPM."""

from __future__ import annotations

from regalia.core.errors import Code


class TpmSourceCode(Code):
    """The machine's TPM gives no evidence."""

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
