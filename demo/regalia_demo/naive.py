"""The control for attacks on key release: a broker as one is quickly written.

It checks what is easy to check: that the report is signed by a key that chains to the root. It
does not look at freshness, at whose key is bound, at the measurement, at the debug bit, and it
goes on when its log cannot be written. Peers with each of these gaps are named in
docs/threat-model.md.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.core.codec import b64, unb64
from regalia.core.types import PolicyId
from regalia.crypto import hpke
from regalia.host.clock import system_clock
from regalia.tees.snp.evidence.verify import parse, verify_genuine
from regalia.wire.evidence import CHALLENGE_SIZE, parse_evidence
from regalia.wire.release import ChallengeResponse, LogProof, ReleaseResponse, release_info

if TYPE_CHECKING:
    from regalia.core.secret import SecretBytes
    from regalia.core.types import ModelId
    from regalia.wire.release import ReleaseRequest
    from regalia_testing.tees.snp.simulator import SnpSimulator

_LEASE_S = 3600
_RULE = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)


class SignatureOnlyBroker:
    """Gives the key to whoever brings a report with a good signature."""

    def __init__(self, platform: SnpSimulator, model_key: SecretBytes) -> None:
        self._platform = platform
        self._model_key = model_key

    def challenge(self, model_id: ModelId) -> ChallengeResponse:  # noqa: ARG002 - as the real one
        """A challenge that nobody will look at again."""
        return ChallengeResponse(
            challenge=b64(secrets.token_bytes(CHALLENGE_SIZE)),
            audience="naive",
            policy_id=str(PolicyId(bytes(32))),
            expires_in_s=_LEASE_S,
        )

    def release(self, request: ReleaseRequest) -> ReleaseResponse:
        """Verify the signature, and only that. Raises AttestationError if it is bad."""
        verify_genuine(
            parse(parse_evidence(unb64(request.evidence, what="evidence"))),
            anchors=self._platform.anchors(),
            collateral=self._platform.collateral(),
            at=AppraisalContext(now=system_clock(), rule=_RULE, cache=Cache()),
        )
        lease_id = secrets.token_hex(8)
        enc, wrapped = hpke.seal(
            unb64(request.hpke_public_key, what="key"),
            release_info(model_id=request.model_id, lease_id=lease_id, record_index=0),
            b"",
            self._model_key.view(),
        )
        return ReleaseResponse(
            encapsulated_key=b64(enc),
            wrapped_key=b64(wrapped),
            custody="broker",
            key_wrapping="none",
            lease_id=lease_id,
            lease_s=_LEASE_S,
            log=LogProof(record="", index=0, path=[], checkpoint=""),
        )
