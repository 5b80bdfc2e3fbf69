"""SEV-SNP verifier. Spec: docs/spec/snp-appraisal.md.

``verify_snp`` in ``verify`` is the walk; ``chain``, ``revocation`` and ``leaf`` are its steps.
"""

from regalia.attest.snp.anchors import Anchors, RevocationRule, SnpCollateral
from regalia.attest.snp.collateral import (
    COLLATERAL_ENDINGS,
    COLLATERAL_FILE_MAX,
    COLLATERAL_FILES_MAX,
    parse_collateral,
    parse_root,
)
from regalia.attest.snp.verify import GenuineReport, verify_genuine, verify_snp

__all__ = [
    "COLLATERAL_ENDINGS",
    "COLLATERAL_FILES_MAX",
    "COLLATERAL_FILE_MAX",
    "Anchors",
    "GenuineReport",
    "RevocationRule",
    "SnpCollateral",
    "parse_collateral",
    "parse_root",
    "verify_genuine",
    "verify_snp",
]
