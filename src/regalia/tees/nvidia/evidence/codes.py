"""Codes of refusals that only NVIDIA's devices can meet."""

from __future__ import annotations

from regalia.core.errors import Code


class NvidiaCode(Code):
    """A GPU or switch is of no known model, or does not run the firmware it names."""

    DEVICE_MODEL_UNKNOWN = (
        "What this model's reports leave out or mean is not known here.",
        "Use a device of a supported model, or update Regalia.",
    )
    RIM_MISMATCH = (
        "The device runs firmware other than what NVIDIA published under its version number.",
        (
            "Reinstall the driver and VBIOS of that version; if the reference values are old or "
            "for another board, ingest the ones that the message names."
        ),
    )
    RIM_MALFORMED = (
        "Reference values that can be read in two ways protect nothing.",
        "Fetch the document again from NVIDIA's RIM service, under its own identifier.",
    )
    RIM_EMPTY = (
        "An empty set of reference values would match every device.",
        "Fetch the document again from NVIDIA's RIM service.",
    )
