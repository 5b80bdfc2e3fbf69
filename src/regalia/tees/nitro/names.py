"""Names and numbers of AWS Nitro that both evidence and policy speak of."""

from __future__ import annotations

PCR_INDICES = range(32)
MEASURED_PCRS = (0, 1, 2)  # enclave image, kernel and boot ramdisk, application
