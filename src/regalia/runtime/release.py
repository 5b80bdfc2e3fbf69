"""Obtains the model key from the broker, and verifies that its release was logged.

    exchange   challenge -> evidence -> request -> answer
    accept     answer -> AcceptedRelease: the trusted log holds exactly this release
    unwrap     AcceptedRelease -> model key
    give_back  AcceptedRelease -> what ends its lease, once key and weights are wiped

``unwrap`` accepts only the return value of ``accept``, so the type system rules out the use of a
key whose release was not logged. Spec: docs/spec/release-exchange.md.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

from regalia.core.clock import parse_rfc3339
from regalia.core.codec import b64, unb64
from regalia.core.errors import IntegrityError, KeyAccessError, LogError, ParseError
from regalia.core.types import KeyFingerprint, PolicyId
from regalia.crypto import hpke
from regalia.crypto.key_wrapping import open_wrapped
from regalia.runtime.broker import ChallengeUnknownError
from regalia.runtime.codes import RuntimeCode
from regalia.tlog.note import parse_log_key
from regalia.tlog.verify import verify_proof
from regalia.wire.evidence import CHALLENGE_SIZE
from regalia.wire.release import (
    RETURN_EXPORT,
    RETURN_TOKEN_SIZE,
    LeaseReturn,
    ReleaseRequest,
    release_info,
)

if TYPE_CHECKING:
    from regalia.core.secret import SecretBytes
    from regalia.core.types import ModelId
    from regalia.crypto.hpke import KemKeyPair, RecipientContext
    from regalia.runtime.attester import Attester
    from regalia.runtime.broker import BrokerClient
    from regalia.runtime.keys import RuntimeKeys
    from regalia.wire.evidence import Evidence
    from regalia.wire.release import LoggedRecord, ReleaseRecord, ReleaseResponse

MODEL_KEY_SIZE = 32  # bytes
LEASE_MAX_S = 366 * 24 * 3600  # one year; the broker's answer is untrusted, so bound it

# Catches honest mistakes, as appraisal.claims.MINT does.
_MINT = object()


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request to the broker and its answer, which is untrusted.

    Attributes:
        request: the request as sent.
        evidence: the evidence in it.
        simulated: whether the evidence comes from a simulated source.
        response: the broker's answer, parsed but not verified.
    """

    request: ReleaseRequest
    evidence: Evidence
    simulated: bool
    response: ReleaseResponse


@dataclass(frozen=True, slots=True)
class AcceptedRelease:
    """A release to this runtime whose log proof was verified. Only ``accept`` makes one."""

    response: ReleaseResponse
    logged: LoggedRecord
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("accepted releases come from accept()")


def exchange(
    broker: BrokerClient,
    attester: Attester,
    *,
    log_key: str,
    model_version: int,
    lease_id: str | None,
) -> Exchange:
    """Request the model key, or the renewal of a lease.

    It asks once more if the broker does not know its own challenge, which happens to one that is
    running when another one on the same state is started after a crash.

    Args:
        broker: client of the broker, which need not be trusted.
        attester: collects evidence over this runtime's keys.
        log_key: verifier key of the trusted log, from the measured configuration.
        model_version: version of the model that will be served.
        lease_id: identifier of the lease to renew; None for the first release.

    Raises:
        UnavailableError, PolicyDenied, ParseError: as ``BrokerClient.release``.
        LocalError: the evidence source failed.
        LogError: BROKER_LOG_MISMATCH; no evidence was made for this broker.
    """
    try:
        return _exchange(broker, attester, log_key, model_version, lease_id)
    except ChallengeUnknownError:
        return _exchange(broker, attester, log_key, model_version, lease_id)


def _exchange(
    broker: BrokerClient,
    attester: Attester,
    log_key: str,
    model_version: int,
    lease_id: str | None,
) -> Exchange:
    asked = broker.challenge(attester.model_id)
    origin = parse_log_key(log_key).origin
    if asked.audience != origin:
        raise LogError(
            RuntimeCode.BROKER_LOG_MISMATCH,
            f"the broker writes {asked.audience[:100]!r}, want {origin!r}",
        )
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
    """Verify that the log holds a release of this model, to this key, for this evidence.

    Args:
        done: the exchange with the broker.
        log_key: verifier key of the trusted log, from the measured configuration.

    Raises:
        LogError: the log proof does not verify, or RELEASE_RECORD_MISMATCH.
    """
    # (1) The record is included in the log whose key is in the measured configuration.
    logged = verify_proof(done.response.log, log_key=log_key)
    # (2) The record is a release, and agrees with every field that this runtime knows.
    wrong = _differences(done, logged.record)
    # (3) The record grants at least the lease that the answer claims.
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
        # The evidence covers a fresh challenge, so an older record cannot have its digest.
        "evidence_digest": str(done.evidence.digest()),
        "hardware": "simulated" if done.simulated else "genuine",
        "recipient": str(recipient),
        "custody": done.response.custody,
        "key_wrapping": done.response.key_wrapping,
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
    # Both times are rounded to whole seconds, so their difference can be one second too small.
    if response.lease_s > logged.total_seconds() + 1:
        return [f"the lease is {response.lease_s} s, the log says {logged.total_seconds():.0f} s"]
    return []


def unwrap(release: AcceptedRelease, keys: RuntimeKeys, model_id: ModelId) -> SecretBytes:
    """Decrypt the model key. The caller closes it as soon as the model is loaded.

    Args:
        release: a release whose log proof was verified.
        keys: key pairs whose public halves are in the evidence.
        model_id: identifier of the requested model.

    Raises:
        KeyAccessError: RELEASED_KEY_UNUSABLE.
    """
    response = release.response
    try:
        channel = _channel(release, keys.release, model_id)
        key = channel.open_secret(b"", unb64(response.wrapped_key, what="wrapped_key"))
        if response.key_wrapping != "none":
            with key:
                key = open_wrapped(response.key_wrapping, key, keys.wrap)
    except (ParseError, IntegrityError) as exc:
        raise KeyAccessError(RuntimeCode.RELEASED_KEY_UNUSABLE, exc.what) from exc
    if len(key) != MODEL_KEY_SIZE:
        size = len(key)
        key.close()
        raise KeyAccessError(
            RuntimeCode.RELEASED_KEY_UNUSABLE, f"a model key of {size} bytes, want {MODEL_KEY_SIZE}"
        )
    return key


def give_back(release: AcceptedRelease, private: KemKeyPair, model_id: ModelId) -> LeaseReturn:
    """Build the message that ends a lease. It may be sent once key and weights are wiped.

    Args:
        release: the first release of the lease.
        private: key pair whose public half is in the evidence.
        model_id: identifier of the requested model.

    Raises:
        KeyAccessError: RELEASED_KEY_UNUSABLE.
    """
    try:
        channel = _channel(release, private, model_id)
    except ParseError as exc:
        raise KeyAccessError(RuntimeCode.RELEASED_KEY_UNUSABLE, exc.what) from exc
    with channel.export(RETURN_EXPORT, RETURN_TOKEN_SIZE) as token:
        return LeaseReturn(lease_id=release.response.lease_id, token=b64(bytes(token.view())))


def _channel(release: AcceptedRelease, private: KemKeyPair, model_id: ModelId) -> RecipientContext:
    """The channel from the broker. Raises ParseError."""
    # The HPKE info binds the ciphertext to model, lease and log entry, so the broker cannot pair
    # a key with the record of another release.
    info = release_info(
        model_id=str(model_id),
        lease_id=release.response.lease_id,
        record_index=release.logged.index,
    )
    enc = unb64(release.response.encapsulated_key, what="encapsulated_key")
    return hpke.setup_recipient(private, enc, info)
