"""Registers of a measured boot that claims and policies speak of."""

from __future__ import annotations

# Boot loader and kernel images (4), GRUB's commands (8), kernel command line and initrd (9), the
# parts of a unified kernel image (11). TCG PC Client profile; UAPI Linux TPM PCR Registry.
WORKLOAD_PCRS = (4, 8, 9, 11)
