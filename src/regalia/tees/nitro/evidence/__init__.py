"""AWS Nitro verifier. Spec: docs/spec/nitro-appraisal.md.

``plugin`` is what the verifier sees; ``verify`` is the walk; ``chain`` and ``revocation`` are its
steps.
"""

from regalia.tees.nitro.evidence.anchors import NitroAnchors, NitroCollateral
from regalia.tees.nitro.evidence.verify import parse, verify_genuine

__all__ = ["NitroAnchors", "NitroCollateral", "parse", "verify_genuine"]
