"""PCR 0, 1, 2 and 8 of an AWS Nitro Enclave image.

Sources: AWS, "Nitro Enclaves user guide", "Where to get an enclave's measurements" (what each
register covers); aws/aws-nitro-enclaves-image-format, src/utils/mod.rs and src/defs/eif_hasher.rs
(how). These are registers of the Nitro hypervisor, not of a TPM, and always SHA-384.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from regalia.core.errors import CoreCode, ParseError
from regalia.tees.nitro.eif import EifSectionType
from regalia.tees.nitro.eif_signature import LIMIT as SIGNATURE_LIMIT
from regalia.tees.nitro.eif_signature import parse_eif_signature

if TYPE_CHECKING:
    from regalia.tees.nitro.eif import EifImage

PCR_IMAGE = 0
PCR_BOOTSTRAP = 1
PCR_APPLICATION = 2
PCR_CERTIFICATE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class EifMeasurement:
    """Registers by number. PCR 8 only if the image is signed; it is zeros otherwise."""

    pcrs: dict[int, bytes]


def measure_eif(image: EifImage) -> EifMeasurement:
    """Compute the registers. A signature is not checked: the hypervisor does that at launch.

    The sections count in the order of the file, whichever that is: PCR 0 covers all of them,
    PCR 2 all ramdisks but the first, and PCR 1 the others.

    Raises:
        ParseError: the signature section or its certificate does not parse.
    """
    whole, bootstrap, application = hashlib.sha384(), hashlib.sha384(), hashlib.sha384()
    ramdisks = 0
    for kind, part in image.measured:
        ramdisks += kind is EifSectionType.RAMDISK
        whole.update(part)
        later = kind is EifSectionType.RAMDISK and ramdisks > 1
        (application if later else bootstrap).update(part)
    pcrs = {
        PCR_IMAGE: _extend(whole.digest()),
        PCR_BOOTSTRAP: _extend(bootstrap.digest()),
        PCR_APPLICATION: _extend(application.digest()),
    }
    if image.signature is not None:
        certificate = _certificate(image.signature)
        pcrs[PCR_CERTIFICATE] = _extend(hashlib.sha384(certificate).digest())
    return EifMeasurement(pcrs=pcrs)


def _extend(digest: bytes) -> bytes:
    """One extension of a register of zeros."""
    return hashlib.sha384(bytes(len(digest)) + digest).digest()


def _certificate(section: memoryview) -> bytes:
    """The signing certificate in DER: of the first signature, which is PCR 0's."""
    data = bytes(section[: SIGNATURE_LIMIT + 1])
    pem = parse_eif_signature(data)[0].signing_certificate
    try:
        return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    except ValueError as exc:
        raise ParseError(
            CoreCode.MALFORMED, "EIF signature: the signing certificate is not PEM X.509"
        ) from exc
