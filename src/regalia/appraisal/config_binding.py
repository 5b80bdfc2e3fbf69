"""Where each TEE records the runtime configuration, and what must stand there.

A runtime trusts an owner, a log and a model because its configuration says so; that
configuration is worth something only if the hardware vouches for its digest.
Spec: docs/spec/release-exchange.md, section "Runtime configuration".
"""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TPM_PCR = 15  # UAPI "system identity"; nothing else may be extended into it
NITRO_PCR = 16  # the first that an enclave may extend itself


def _extended(algorithm: str, config: bytes) -> bytes:
    """A register of zeros, extended once with the configuration's digest."""
    digest = hashlib.new(algorithm, config).digest()
    return hashlib.new(algorithm, bytes(len(digest)) + digest).digest()


def _pcr_sha256(config: bytes) -> bytes:
    return _extended("sha256", config)


def _pcr_sha384(config: bytes) -> bytes:
    return _extended("sha384", config)


_SLOTS: Mapping[Tee, tuple[str, Callable[[bytes], bytes]]] = MappingProxyType(
    {
        Tee.SEV_SNP: ("HOST_DATA", lambda config: hashlib.sha256(config).digest()),
        Tee.TDX: ("MRCONFIGID", lambda config: hashlib.sha384(config).digest()),
        Tee.SGX: ("CONFIGID", lambda config: hashlib.sha512(config).digest()),
        Tee.NITRO: (f"PCR{NITRO_PCR}", _pcr_sha384),
        Tee.TPM: (f"PCR{TPM_PCR}", _pcr_sha256),
        Tee.AZURE_SNP: (f"PCR{TPM_PCR}", _pcr_sha256),
        Tee.AZURE_TDX: (f"PCR{TPM_PCR}", _pcr_sha256),
    }
)


def slot_name(tee: Tee) -> str:
    """The field's name in the vendor's words."""
    return _SLOTS[tee][0]


def expected_slot(tee: Tee, config: bytes) -> bytes:
    """What the field holds when the exact bytes ``config`` were recorded."""
    return _SLOTS[tee][1](config)
