"""What a verifier of Intel quotes trusts. It is the caller's argument."""

from __future__ import annotations

from dataclasses import dataclass

from regalia.appraisal.pki import RootPin

# SHA-256 of the SubjectPublicKeyInfo (DER) of the Intel SGX Root CA, which is also TDX's.
INTEL_ROOT_SPKI_SHA256 = "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e"
ROOT_NAME = "Intel SGX Root CA"


@dataclass(frozen=True, slots=True)
class IntelAnchors(RootPin):
    """The root of SGX and of TDX."""

    NAME = ROOT_NAME
    SPKI_SHA256 = INTEL_ROOT_SPKI_SHA256
