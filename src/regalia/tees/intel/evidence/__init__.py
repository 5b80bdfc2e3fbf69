"""Intel TDX and SGX verifiers. Spec: docs/spec/tdx-appraisal.md.

``plugin`` is what the verifier sees; ``verify`` is the walk. ``prepare`` verifies an operator's
collateral once, so that a quote costs little more than its own three signatures.
"""

from regalia.tees.intel.evidence.anchors import IntelAnchors
from regalia.tees.intel.evidence.collateral import (
    IntelCollateral,
    SignedDocument,
    parse_json_collateral,
)
from regalia.tees.intel.evidence.verified_collateral import PreparedCollateral, Preparer, prepare
from regalia.tees.intel.evidence.verify import parse, verify_platform, verify_sgx, verify_tdx

__all__ = [
    "IntelAnchors",
    "IntelCollateral",
    "PreparedCollateral",
    "Preparer",
    "SignedDocument",
    "parse",
    "parse_json_collateral",
    "prepare",
    "verify_platform",
    "verify_sgx",
    "verify_tdx",
]
