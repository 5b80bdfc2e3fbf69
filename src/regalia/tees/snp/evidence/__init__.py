"""SEV-SNP verifier. Spec: docs/spec/snp-appraisal.md.

``verify_snp`` in ``verify`` is the walk; ``chain``, ``revocation`` and ``leaf`` are its steps.
"""

from regalia.tees.snp.evidence.anchors import SnpAnchors, SnpCollateral
from regalia.tees.snp.evidence.verify import GenuineReport, verify_genuine, verify_snp

__all__ = [
    "GenuineReport",
    "SnpAnchors",
    "SnpCollateral",
    "verify_genuine",
    "verify_snp",
]
