"""Getting the model key: attest, have the release logged, check that, and only then unwrap.

    exchange   challenge -> evidence -> request -> answer
    accept     answer -> AcceptedRelease: this very release stands in the trusted log
    unwrap     AcceptedRelease -> model key

``unwrap`` takes nothing but what ``accept`` returns, so a broker that skips the log is refused
by type. Spec: docs/spec/release-exchange.md.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

from regalia.core.clock import parse_rfc3339
from regalia.core.codec import b64, unb64
from regalia.core.errors import IntegrityError, KeyAccessError, LogError, ParseError
from regalia.core.types import KeyFingerprint, PolicyId
from regalia.crypto import hpke
from regalia.runtime.codes import RuntimeCode
from regalia.tlog.verify import verify_proof
from regalia.wire.evidence import CHALLENGE_SIZE
from regalia.wire.release import ReleaseRequest, release_info

if TYPE_CHECKING:
    from regalia.core.secret import SecretBytes
    from regalia.core.types import ModelId
    from regalia.crypto.hpke import KemKeyPair
    from regalia.runtime.attester import Attester
    from regalia.runtime.broker import BrokerClient
    from regalia.wire.evidence import Evidence
    from regalia.wire.release import LoggedRecord, ReleaseRecord, ReleaseResponse

MODEL_KEY_SIZE = 32  # bytes
LEASE_MAX_S = 366 * 24 * 3600

# Catches honest mistakes, as formats.claims.MINT does.
_MINT = object()


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was asked and what came back. Nothing of the answer is trusted."""

    request: ReleaseRequest
    evidence: Evidence
    simulated: bool
    response: ReleaseResponse


@dataclass(frozen=True, slots=True)
class AcceptedRelease:
    """A release that provably stands in the log, to this runtime. Only ``accept`` makes one."""

    response: ReleaseResponse
    logged: LoggedRecord
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("accepted releases come from accept()")


def exchange(
    broker: BrokerClient, attester: Attester, *, model_version: int, lease_id: str | None
) -> Exchange:
    """Ask for the key, or for a lease to be renewed.

    Args:
        broker: whom to ask; need not be trusted.
        attester: makes evidence over this runtime's keys.
        model_version: that will be served.
        lease_id: of the lease to renew; None for the first release.

    Raises:
        UnavailableError, PolicyDenied, ParseError: what ``BrokerClient`` raises.
        LocalError: the evidence source fails.
    """
    asked = broker.challenge(attester.model_id)
    policy_id = PolicyId.parse(asked.policy_id)
    evidence = attester.for_release(
        challenge=unb64(asked.challenge, what="challenge", size=CHALLENGE_SIZE),
        audience=asked.audience,
        policy_id=policy_id,
    )
    request = ReleaseRequest(
        challenge=asked.challenge,
        model_id=str(attester.model_id),
        model_version=model_version,
        policy_id=asked.policy_id,
        hpke_public_key=b64(attester.keys.release.public_key),
        wrap_public_key=b64(attester.keys.wrap_public),
        evidence=b64(evidence.encode()),
        lease_id=lease_id,
    )
    return Exchange(request, evidence, attester.source.simulated, broker.release(request))


def accept(done: Exchange, *, log_key: str) -> AcceptedRelease:
    """Check that the log holds this release: decided so, for this model, to this key, now.

    Args:
        done: one exchange.
        log_key: the trusted log, from the measured configuration.

    Raises:
        LogError: the proof does not hold, or RELEASE_RECORD_MISMATCH.
    """
    # (1) The record stands in the log that this runtime was measured with.
    logged = verify_proof(done.response.log, log_key=log_key)
    # (2) It is a release, and every field that this runtime knows says so.
    wrong = _differences(done, logged.record)
    # (3) It gives the lease that the answer speaks of.
    wrong += _lease_differences(done.response, logged.record)
    if wrong:
        raise LogError(
            RuntimeCode.RELEASE_RECORD_MISMATCH, f"log entry {logged.index}: {'; '.join(wrong)}"
        )
    return AcceptedRelease(done.response, logged, _MINT)


def _differences(done: Exchange, record: ReleaseRecord) -> list[str]:
    recipient = KeyFingerprint.of(unb64(done.request.hpke_public_key, what="own key"))
    want = {
        "decision": "release",
        "model_id": done.request.model_id,
        "model_version": done.request.model_version,
        "policy_id": done.request.policy_id,
        # The evidence is over our fresh challenge, so its digest makes an old record useless.
        "evidence_digest": str(done.evidence.digest()),
        "hardware": "simulated" if done.simulated else "genuine",
        "recipient": str(recipient),
        "custody": done.response.custody,
        "lease_id": done.response.lease_id,
    }
    if done.request.lease_id is not None and done.response.lease_id != done.request.lease_id:
        return [f"lease {done.request.lease_id!r} was to be renewed, not another"]
    return [
        f"{name} is {str(getattr(record, name))[:100]!r}, want {str(value)[:100]!r}"
        for name, value in want.items()
        if getattr(record, name) != value
    ]


def _lease_differences(response: ReleaseResponse, record: ReleaseRecord) -> list[str]:
    if not 0 < response.lease_s <= LEASE_MAX_S:
        return [f"a lease of {response.lease_s} s"]
    try:
        logged = parse_rfc3339(record.lease_until) - parse_rfc3339(record.time)
    except ValueError:
        return ["lease_until or time is no time"]
    # Both moments are whole seconds, so that rounding may take one away.
    if response.lease_s > logged.total_seconds() + 1:
        return [f"the lease is {response.lease_s} s, the log says {logged.total_seconds():.0f} s"]
    return []


def unwrap(release: AcceptedRelease, private: KemKeyPair, model_id: ModelId) -> SecretBytes:
    """Open the model key. The caller closes it as soon as the model is loaded.

    Args:
        release: accepted: its record is proved to stand in the log.
        private: the attested key's private half.
        model_id: of the model that was asked for.

    Raises:
        KeyAccessError: RELEASED_KEY_UNUSABLE.
    """
    response = release.response
    info = release_info(
        model_id=str(model_id),
        lease_id=response.lease_id,
        record_index=release.logged.index,
    )
    try:
        key = hpke.open_secret(
            private,
            unb64(response.encapsulated_key, what="encapsulated_key"),
            info,
            b"",
            unb64(response.wrapped_key, what="wrapped_key"),
        )
    except (ParseError, IntegrityError) as exc:
        raise KeyAccessError(RuntimeCode.RELEASED_KEY_UNUSABLE, exc.what) from exc
    if len(key) != MODEL_KEY_SIZE:
        size = len(key)
        key.close()
        raise KeyAccessError(
            RuntimeCode.RELEASED_KEY_UNUSABLE, f"a model key of {size} bytes, want {MODEL_KEY_SIZE}"
        )
    return key
