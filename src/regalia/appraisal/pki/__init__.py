"""X.509 for all verifiers: strict parsing, signatures, authorities, revocation lists, a cache.

Vendors differ in what `cryptography`'s own path building refuses (RSASSA-PSS, serial numbers of
zero, leaves without extensions), so the few checks that a short pinned chain needs stand here,
one function each. A ``Certificate`` is parsed and untrusted.
"""

from regalia.appraisal.pki.cache import Cache, tail
from regalia.appraisal.pki.certificates import (
    Certificate,
    chain_invalid,
    parse_certificate,
    require_authority,
    require_issued_by,
    require_known_critical,
    require_valid_at,
    require_version_3,
)
from regalia.appraisal.pki.crl import Crl, issuer_names, parse_crl
from regalia.appraisal.pki.pem import parse_pem_certificates
from regalia.appraisal.pki.pin import RootPin
from regalia.appraisal.pki.schemes import Scheme, require_signature

__all__ = [
    "Cache",
    "Certificate",
    "Crl",
    "RootPin",
    "Scheme",
    "chain_invalid",
    "issuer_names",
    "parse_certificate",
    "parse_crl",
    "parse_pem_certificates",
    "require_authority",
    "require_issued_by",
    "require_known_critical",
    "require_signature",
    "require_valid_at",
    "require_version_3",
    "tail",
]
