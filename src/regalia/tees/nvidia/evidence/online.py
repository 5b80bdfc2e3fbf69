"""Where NVIDIA has reference values."""

from __future__ import annotations

from regalia.appraisal.online_collateral import CollateralService, OnlineCollateral

RIMS = CollateralService(
    "rims", "NVIDIA's service for reference values", public="https://rim.attestation.nvidia.com"
)
ONLINE = OnlineCollateral((RIMS,), fetch="regalia.tees.nvidia.fetch:fetch")
