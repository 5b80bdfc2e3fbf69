"""AWS Nitro verifier. Spec: docs/spec/nitro-appraisal.md.

``verify_nitro`` in ``verify`` is the walk; ``chain`` and ``revocation`` are its steps.
"""

from regalia.tees.nitro.evidence.anchors import NitroAnchors, NitroCollateral
from regalia.tees.nitro.evidence.verify import GenuineDocument, verify_genuine, verify_nitro

__all__ = ["GenuineDocument", "NitroAnchors", "NitroCollateral", "verify_genuine", "verify_nitro"]
