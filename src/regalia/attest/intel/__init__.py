"""Intel TDX and SGX verifiers. Spec: docs/spec/tdx-appraisal.md.

``verify_tdx`` and ``verify_sgx`` in ``verify`` are the walk. ``prepare`` verifies an operator's
collateral once, so that a quote costs little more than its own three signatures.
"""

from regalia.attest.intel.anchors import IntelAnchors
from regalia.attest.intel.claims import sgx_claims, tdx_claims
from regalia.attest.intel.collateral import (
    IntelCollateral,
    SignedDocument,
    parse_json_collateral,
)
from regalia.attest.intel.prepared import PreparedCollateral, Preparer, prepare
from regalia.attest.intel.verify import GenuineQuote, verify_genuine, verify_sgx, verify_tdx

__all__ = [
    "GenuineQuote",
    "IntelAnchors",
    "IntelCollateral",
    "PreparedCollateral",
    "Preparer",
    "SignedDocument",
    "parse_json_collateral",
    "prepare",
    "sgx_claims",
    "tdx_claims",
    "verify_genuine",
    "verify_sgx",
    "verify_tdx",
]
