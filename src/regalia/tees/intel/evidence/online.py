"""Where Intel has TCB info, QE identities and lists."""

from __future__ import annotations

from regalia.appraisal.online_collateral import CollateralService, OnlineCollateral

PCS = CollateralService(
    "pcs",
    "Intel's provisioning certification service",
    public="https://api.trustedservices.intel.com",
)
CERTIFICATES = CollateralService(
    "intel-certificates",
    "Where Intel's root publishes its list",
    public="https://certificates.trustedservices.intel.com",
)
ONLINE = OnlineCollateral((PCS, CERTIFICATES), fetch="regalia.tees.intel.fetch:fetch")
