"""Where AMD has certificates and lists."""

from __future__ import annotations

from regalia.appraisal.online_collateral import CollateralService, OnlineCollateral

KDS = CollateralService("kds", "AMD's key distribution service", public="https://kdsintf.amd.com")
ONLINE = OnlineCollateral((KDS,), fetch="regalia.tees.snp.fetch:fetch")
