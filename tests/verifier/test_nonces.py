"""How much of a nonce each kind of evidence can carry, by its specification."""

from __future__ import annotations

import pytest

from regalia.appraisal.claims import MINT, Unbound
from regalia.core.errors import AttestationError
from regalia.verifier.registry import PLUGINS
from regalia.wire.evidence import DeviceKind, Tee

# Smallest and largest size in bytes.
SIZES = {
    Tee.SEV_SNP: (64, 64),  # REPORT_DATA
    Tee.TDX: (64, 64),  # REPORTDATA
    Tee.SGX: (64, 64),
    Tee.NITRO: (1, 1024),  # AWS's documentation says 512, and its enclaves take more
    Tee.TPM: (1, 66),  # TPM2B_DATA: as large as a TPMT_HA of SHA-512
    Tee.AZURE_SNP: (1, 66),
    Tee.AZURE_TDX: (1, 66),
    DeviceKind.NVIDIA_GPU: (32, 32),  # SPDM
    DeviceKind.NVIDIA_SWITCH: (32, 32),
}


def test_every_kind_is_here() -> None:
    assert {plugin.kind for plugin in PLUGINS} == set(SIZES)


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.kind.value)
def test_nonces_of_these_sizes_and_of_no_other(plugin: object) -> None:
    field, (smallest, largest) = plugin.nonce, SIZES[plugin.kind]  # type: ignore[attr-defined]

    def compared(size: int) -> str:
        nonce = b"\x07" * size
        return Unbound("the claims", nonce, field, MINT).fresh(nonce)

    assert compared(smallest) == compared(largest) == "the claims"
    for size in (smallest - 1, largest + 1):
        with pytest.raises(AttestationError):
            compared(size)
