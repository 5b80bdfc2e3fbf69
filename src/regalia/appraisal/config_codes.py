"""Reason codes of recording the runtime configuration."""

from __future__ import annotations

from regalia.core.errors import Code


class ConfigCode(Code):
    """The hardware cannot vouch for this runtime's configuration."""

    CONFIG_SLOT_TAKEN = (
        (
            "The register for it holds something else than this runtime's configuration: another "
            "configuration was measured since the machine started."
        ),
        "Reboot the machine, or restart the enclave, before you use another configuration.",
    )
