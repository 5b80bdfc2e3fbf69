"""Names and sizes of the example accelerator that both evidence and policy speak of."""

from __future__ import annotations

from regalia.appraisal.config_binding import ConfigBinding, digest

PRODUCT = "example-accelerator"
CHIP_ID_SIZE = 32  # bytes
MEASUREMENT_SIZE = 48  # bytes, SHA-384
FIRMWARE_MAX = 2**32 - 1

# The host hands the configuration's digest over when it loads a program, and the chip signs it.
CONFIG_BINDING = ConfigBinding("config", digest("sha384"))
