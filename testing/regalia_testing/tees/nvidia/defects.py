"""What can be wrong with a simulated GPU or switch, one field for each defect."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaDefects:
    """A device's state. The default is a healthy one; each field is one defect or choice."""

    # Firmware, as installed.
    driver_version: str = "590.12"
    vbios_version: str = "96.00.A5.00.01"
    feature: int = 1  # FEATURE_FLAG: 0 MPT, 1 SPT, 2 PPCIE
    opaque_header: int = -1  # major version of the newer layout's header; -1: no header
    old_opaque: bool = False  # neither FWID nor flags in the report, as old drivers send it
    wrong_measurement: int = -1  # RIM index that is measured otherwise; -1: none
    nvdec_enabled: bool = False
    debug: bool = False  # Blackwell's leaf says so

    # The request.
    stale_nonce: bool = False
    published_nonce: bool = False

    # Forgeries and accidents. They are signed by the right key unless they are about signing.
    bad_signature: bool = False
    trailing_byte: bool = False
    zeros_behind: int = 0  # zero bytes behind the report; one is let through
    truncated: bool = False
    duplicate_block: bool = False
    unknown_opaque: bool = False  # a signed field that is not known; a policy may refuse it
    opaque_version: int = 1
    fwid_mismatch: bool = False
    device_key_mismatch: bool = False
    pdi_mismatch: bool = False  # a switch that calls itself by another identifier
    leaf_expired: bool = False
    foreign_links: bool = False  # it names switches or GPUs of another machine


HEALTHY_DEVICE = NvidiaDefects()
