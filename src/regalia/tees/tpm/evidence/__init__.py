"""TPM 2.0 verifier. Spec: docs/spec/tpm-appraisal.md.

``plugin`` is what the verifier sees; ``verify`` is the walk; ``quote``, ``binding``, ``ek`` and
``path`` are its steps; ``enrol`` is how a machine's key comes to be trusted. ``verify_quote``
checks one quote against one key; Azure's guests, whose report vouches for the key, use it.
"""

from regalia.tees.tpm.evidence.anchors import PreparedCollateral, TpmAnchors, TpmCollateral
from regalia.tees.tpm.evidence.binding import BoundAk
from regalia.tees.tpm.evidence.codes import TpmCode
from regalia.tees.tpm.evidence.document import qualifying_data
from regalia.tees.tpm.evidence.enrol import begin_enrolment, finish_enrolment
from regalia.tees.tpm.evidence.keys import (
    AttestationPublicKey,
    assumed_attestation_key,
    public_key,
    require_attestation_key,
)
from regalia.tees.tpm.evidence.path import Authorities
from regalia.tees.tpm.evidence.quote import (
    VerifiedQuote,
    verify_quote,
    verify_quote_signature,
    verify_quoted_pcrs,
)
from regalia.tees.tpm.evidence.verify import parse, verify_genuine
from regalia.tees.tpm.evidence.wire import ALL_PCRS

__all__ = [
    "ALL_PCRS",
    "AttestationPublicKey",
    "Authorities",
    "BoundAk",
    "PreparedCollateral",
    "TpmAnchors",
    "TpmCode",
    "TpmCollateral",
    "VerifiedQuote",
    "assumed_attestation_key",
    "begin_enrolment",
    "finish_enrolment",
    "parse",
    "public_key",
    "qualifying_data",
    "require_attestation_key",
    "verify_genuine",
    "verify_quote",
    "verify_quote_signature",
    "verify_quoted_pcrs",
]
