"""Simulated Azure VMs: kept on disk, plain about what they are, and plug-ins like any other."""

from __future__ import annotations

import pytest

from regalia.appraisal.config_binding import expected_slot
from regalia.core.errors import UsageError
from regalia.wire.evidence import parse_evidence
from regalia_testing.sources import open_azure_snp, open_azure_tdx
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.tees.azure.testbed import AzureTestbed
from regalia_testing.testbed import REPORT_DATA, RUNTIME_CONFIG


def test_open_is_create(azure: AzureTestbed) -> None:
    again = AzureSimulator.open(azure.platform.directory)
    assert again.tee is azure.platform.tee
    testbed = AzureTestbed(again, azure.now)
    claims = azure.verify(testbed.evidence())
    assert claims.vm.vm_unique_id == azure.platform.guest.vm_unique_id


def test_the_sources(azure: AzureTestbed) -> None:
    mine, other = open_azure_snp, open_azure_tdx
    if azure.platform.intel is not None:
        mine, other = other, mine
    options: dict[str, object] = {"platform": str(azure.platform.directory)}
    source = mine(options)
    assert source.simulated
    assert source.collect_devices(bytes(32)) == ()
    evidence = parse_evidence(source.collect(REPORT_DATA, RUNTIME_CONFIG).encode())
    claims = azure.verify(evidence)
    assert claims.config_binding == expected_slot(claims.tee, RUNTIME_CONFIG)
    with pytest.raises(UsageError):
        other(options)
    broken = mine({**options, "defects": {"console_enabled": True}})
    assert azure.verify(broken.collect(REPORT_DATA, RUNTIME_CONFIG)).vm.console_enabled
