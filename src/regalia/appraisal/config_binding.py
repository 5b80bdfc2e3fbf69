"""Where each TEE records the runtime configuration, and what must stand there.

A runtime trusts an owner, a log and a model because its configuration says so; that
configuration is worth something only if the hardware vouches for its digest.
Spec: docs/spec/release-exchange.md, section "Runtime configuration".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TPM_PCR = 15  # UAPI "system identity"; nothing else may be extended into it
NITRO_PCR = 16  # the first that an enclave may extend itself


@dataclass(frozen=True, slots=True)
class ConfigBinding:
    """Where one kind of TEE records the configuration. Its policy plug-in names it.

    Attributes:
        name: of the field, in the vendor's words.
        expected: what the field holds when exactly these bytes were recorded.
    """

    name: str
    expected: Callable[[bytes], bytes]


def digest(algorithm: str) -> Callable[[bytes], bytes]:
    """For a field that holds the configuration's digest."""
    return lambda config: hashlib.new(algorithm, config).digest()


def extended(algorithm: str) -> Callable[[bytes], bytes]:
    """For a register of zeros that was extended once with the configuration's digest."""

    def expected(config: bytes) -> bytes:
        value = hashlib.new(algorithm, config).digest()
        return hashlib.new(algorithm, bytes(len(value)) + value).digest()

    return expected


BINDINGS: Mapping[Tee, ConfigBinding] = MappingProxyType(
    {
        Tee.SEV_SNP: ConfigBinding("HOST_DATA", digest("sha256")),
        Tee.TDX: ConfigBinding("MRCONFIGID", digest("sha384")),
        Tee.SGX: ConfigBinding("CONFIGID", digest("sha512")),
        Tee.NITRO: ConfigBinding(f"PCR{NITRO_PCR}", extended("sha384")),
        Tee.TPM: ConfigBinding(f"PCR{TPM_PCR}", extended("sha256")),
        Tee.AZURE_SNP: ConfigBinding(f"PCR{TPM_PCR}", extended("sha256")),
        Tee.AZURE_TDX: ConfigBinding(f"PCR{TPM_PCR}", extended("sha256")),
    }
)


def expected_slot(tee: Tee, config: bytes) -> bytes:
    """What the field holds when the exact bytes ``config`` were recorded.

    Args:
        tee: whose field.
        config: the runtime configuration, exact bytes.
    """
    return BINDINGS[tee].expected(config)
