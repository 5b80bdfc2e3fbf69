"""The numbered checks of the NVIDIA verifier, as appraisals show them."""

from __future__ import annotations

from regalia.appraisal.check import Check, Source

REPORT = Check(
    "nvidia/report",
    "The report is one whole SPDM 1.1 measurements exchange",
    "Request and response parse in exactly one way, so nobody can read them differently.",
    Source.VERIFIER_DERIVED,
)
CHAIN = Check(
    "nvidia/chain",
    "The device's certificates lead to NVIDIA's pinned root",
    "Only NVIDIA can give a chip an identity. A software imitation of a GPU ends here.",
    Source.HARDWARE_PROVEN,
)
MODEL = Check(
    "nvidia/model",
    "All of the device's certificates name one known model of the stated kind",
    "A switch cannot stand in for a GPU, nor a consumer card for a data center one.",
    Source.HARDWARE_PROVEN,
)
REVOCATION = Check(
    "nvidia/revocation",
    "None of the certificates is revoked or denied",
    "NVIDIA withdraws devices whose keys leaked; evidence signed by them proves nothing.",
    Source.HARDWARE_PROVEN,
)
FWID = Check(
    "nvidia/fwid",
    "The leaf was issued by this chip for the boot firmware that the report names",
    "The chip's ROM hashes the firmware it starts and writes the hash into the certificate.",
    Source.HARDWARE_PROVEN,
)
SIGNATURE = Check(
    "nvidia/signature",
    "The leaf's key signed request and response",
    "Every measurement, version and flag below stands behind this signature.",
    Source.HARDWARE_PROVEN,
)
NONCE = Check(
    "nvidia/nonce",
    "The request carries the nonce of this challenge and this CPU's key",
    "Otherwise the report could be a replay, or come from a GPU in somebody else's machine.",
    Source.HARDWARE_PROVEN,
)
RIM = Check(
    "nvidia/rim",
    "Every reference value of driver and VBIOS matches the device's measurement",
    "Changed firmware shows other measurements than those that NVIDIA published.",
    Source.VERIFIER_DERIVED,
)

# In the order in which they are made; the nonce comes last.
CHECKS = (REPORT, CHAIN, MODEL, REVOCATION, FWID, SIGNATURE, RIM, NONCE)
