"""What the accelerator's verifier trusts, and the collateral it was given."""

from __future__ import annotations

from dataclasses import dataclass

from regalia.appraisal.pki import RootPin

# SHA-256 of the SubjectPublicKeyInfo (DER) of the vendor's root. This vendor does not exist, so
# nobody has a key with this digest: in production the example accepts nothing.
ROOT_NAME = "Example Accelerator Root"
ROOT_SPKI_SHA256 = "00" * 32


@dataclass(frozen=True, slots=True)
class AcceleratorAnchors(RootPin):
    """The vendor's root."""

    NAME = ROOT_NAME
    SPKI_SHA256 = ROOT_SPKI_SHA256


@dataclass(frozen=True, slots=True)
class AcceleratorCollateral:
    """Revocation lists of the vendor, in DER. Certificates come with the document."""

    crls: tuple[bytes, ...] = ()
