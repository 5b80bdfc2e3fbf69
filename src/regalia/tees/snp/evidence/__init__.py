"""SEV-SNP verifier. Spec: docs/spec/snp-appraisal.md.

``plugin`` is what the verifier sees; ``verify`` is the walk; ``chain``, ``revocation`` and
``leaf`` are its steps.
"""

from regalia.tees.snp.evidence.anchors import SnpAnchors, SnpCollateral
from regalia.tees.snp.evidence.verify import parse, verify_genuine

__all__ = ["SnpAnchors", "SnpCollateral", "parse", "verify_genuine"]
