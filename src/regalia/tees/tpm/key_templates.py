"""Templates of attestation keys: the same TPM makes the same key from them, every time.

A runtime that starts again finds the AK that was enrolled, though no key was ever stored.
"""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.tees.tpm.evidence.layout import HashAlg
from regalia.tees.tpm.evidence.public import (
    Attribute,
    Curve,
    EccParameters,
    KeyScheme,
    PublicArea,
    RsaParameters,
    Scheme,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

# Goes into the template's unique field, so that nobody else's template makes this key.
_LABEL = hashlib.sha256(b"regalia/tpm-ak/v1").digest()
_ATTRIBUTES = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.USER_WITH_AUTH
    | Attribute.RESTRICTED
    | Attribute.SIGN_ENCRYPT
)
_RSA_BITS = 2048

AK_TEMPLATES: Mapping[str, PublicArea] = MappingProxyType(
    {
        "ecdsa-p256": PublicArea(
            HashAlg.SHA256,
            _ATTRIBUTES,
            b"",
            EccParameters(
                0,
                Scheme(KeyScheme.ECDSA, HashAlg.SHA256),
                Curve.P256,
                _LABEL,
                bytes(Curve.P256.size),
            ),
        ),
        "rsa-2048": PublicArea(
            HashAlg.SHA256,
            _ATTRIBUTES,
            b"",
            RsaParameters(
                0,
                Scheme(KeyScheme.RSASSA, HashAlg.SHA256),
                _RSA_BITS,
                0,
                _LABEL.ljust(_RSA_BITS // 8, b"\x00"),
            ),
        ),
    }
)
DEFAULT_AK = "ecdsa-p256"
