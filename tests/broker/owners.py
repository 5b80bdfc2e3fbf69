"""A deployment whose model belongs to a tenant: owners who decide through the broker's API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from regalia.control.fold import apply, begin
from regalia.control.verify import verify_statement
from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.core.codec import unb64
from regalia.core.types import Digest
from regalia.crypto import dsse
from regalia.wire.administration import ProposalStatus, TenantStatus
from regalia.wire.statement import (
    ModelVersion,
    PublishPolicy,
    ReferenceValue,
    RegisterModel,
    Stop,
    Terms,
)
from regalia_testing.statements import Tenant, envelope
from tests.broker.harness import MEASUREMENT

if TYPE_CHECKING:
    import httpx

    from regalia.wire.statement import Action, Delayed
    from tests.broker.harness import Deployment

STOP = Stop(model_id=None)
OPEN = Terms(ends=None, sites=None, jurisdictions=None, roles=None, derivatives="none")
IMAGE = f"sev-snp:{MEASUREMENT.hex()}"


class Owners:
    """The owners of the deployment's model, and their view of the chain."""

    def __init__(self, deployment: Deployment, delays: dict[Delayed, int] | None = None) -> None:
        self.deployment = deployment
        self.tenant = Tenant(delays=delays or {}, now=deployment.now)
        self.first = self.tenant.charter()
        deployment.charters = {self.tenant.name: self.first.digest()}
        deployment.tenant = self.tenant.name
        deployment.restart()

    def post(self, data: bytes, path: str = "proposals") -> httpx.Response:
        return self.deployment.http("POST", f"/v1/admin/{path}", content=data)

    def submitted(self, data: bytes) -> ProposalStatus:
        """A statement that the broker takes; what it accepts is accepted here, too."""
        answer = self.post(data)
        assert answer.status_code == 200, answer.text
        status = msgspec.json.decode(answer.content, type=ProposalStatus)
        if status.accepted:
            self.follow(unb64(status.envelope, what="envelope"))
        return status

    def follow(self, data: bytes) -> None:
        """Know of a statement that was accepted now."""
        state, at = self.tenant.state, parse_rfc3339(rfc3339(self.deployment.now))
        if state is None:
            signed = verify_statement(data, ())
            self.tenant.state = begin(signed, self.first.digest(), at)
        else:
            signed = verify_statement(data, tuple(state.charter.owners))
            self.tenant.state = apply(state, signed, at)

    def found(self) -> ProposalStatus:
        return self.submitted(envelope(self.first, self.tenant.owners))

    def proposal(self, action: Action, *by: str) -> bytes:
        self.tenant.now = self.deployment.now
        return envelope(self.tenant.statement(action), by)

    def act(self, action: Action, *by: str) -> ProposalStatus:
        """A statement that the broker accepts at once."""
        status = self.submitted(self.proposal(action, *(by or ("ann", "ben"))))
        assert status.accepted
        return status

    def actions(self, terms: Terms = OPEN) -> tuple[Action, ...]:
        """What it takes to release the deployment's model."""
        deployment = self.deployment
        (model,) = deployment.broker.models.values()
        model_id = str(deployment.model_id)
        staged = ReferenceValue(
            measurement=MEASUREMENT.hex(), tee="sev-snp", transition="stage", until=None
        )
        return (
            RegisterModel(
                manifest=str(model.manifest), model_id=model_id, terms=terms, version=model.version
            ),
            ModelVersion(
                model_id=model_id, transition="promote", until=None, version=model.version
            ),
            PublishPolicy(model_id=model_id, policy_id=str(model.policy_id)),
            staged,
            msgspec.structs.replace(staged, transition="promote"),
        )

    def serve(self, terms: Terms = OPEN) -> None:
        """Decide everything that a release needs."""
        self.found()
        for action in self.actions(terms):
            self.act(action)

    def status(self) -> TenantStatus:
        answer = self.deployment.http("GET", f"/v1/admin/statements/{self.tenant.name}/status")
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=TenantStatus)

    def refused(self, data: bytes, path: str = "proposals") -> tuple[int, str]:
        answer = self.post(data, path)
        return answer.status_code, self.deployment.refused(answer).code


def payload_digest(data: bytes) -> Digest:
    """Digest of what a signed statement says."""
    return Digest.of(dsse.parse_envelope(data, what="statement").unverified_payload)
