"""What the Nitro verifier trusts, and the collateral it was given."""

from __future__ import annotations

from dataclasses import dataclass

from regalia.appraisal.pki import RootPin

# SHA-256 of the SubjectPublicKeyInfo (DER) of CN=aws.nitro-enclaves, AWS_NitroEnclaves_Root-G1:
# the root of the commercial partitions.
ROOT_NAME = "aws.nitro-enclaves"
AWS_ROOT_SPKI_SHA256 = "f2caf5ecc6190b4a8399b78bc58a2bbcd0382375db8a1bfd78a82743874fd225"


@dataclass(frozen=True, slots=True)
class NitroAnchors(RootPin):
    """The root of Nitro Enclaves."""

    NAME = ROOT_NAME
    SPKI_SHA256 = AWS_ROOT_SPKI_SHA256


@dataclass(frozen=True, slots=True)
class NitroCollateral:
    """Revocation lists that the verifier's operator provides, in DER.

    Certificates come with the document, so there are none here. AWS's own procedure uses no
    lists; its regional and zonal authorities name the places where there are some.
    """

    crls: tuple[bytes, ...] = ()
