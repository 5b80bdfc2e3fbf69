"""Whose signature a verifier of NVIDIA's devices trusts. The caller's argument."""

from __future__ import annotations

from dataclasses import dataclass

from regalia.appraisal.pki import RootPin

DEVICE_ROOT_NAME = "NVIDIA Device Identity CA"
RIM_ROOT_NAME = "NVIDIA CoRIM signing Root CA"  # signs reference values

# SHA-256 of the SubjectPublicKeyInfo (DER) of the root keys.
NVIDIA_DEVICE_ROOT_SPKI_SHA256 = "a90c4eb5acfd3e3d03a25db6a26b84f720ad0503196c627c21ddd48dd85b06a4"
NVIDIA_RIM_ROOT_SPKI_SHA256 = "dec1dc316477aa851eebdf51327ae9f864bc8d89254657ed1e7eb9168af1e1a3"


@dataclass(frozen=True, slots=True)
class NvidiaAnchors(RootPin):
    """The root of device identities."""

    NAME = DEVICE_ROOT_NAME
    SPKI_SHA256 = NVIDIA_DEVICE_ROOT_SPKI_SHA256


@dataclass(frozen=True, slots=True)
class RimAnchors(RootPin):
    """The root of reference values. Needed at ingest only."""

    NAME = RIM_ROOT_NAME
    SPKI_SHA256 = NVIDIA_RIM_ROOT_SPKI_SHA256
