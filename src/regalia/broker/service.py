"""Decides about releases, in a fixed order of steps. Spec: docs/spec/release-exchange.md.

    (1) consume the challenge          bytes             -> ConsumedChallenge
    (2) verify the evidence            ConsumedChallenge -> Claims
    (3) evaluate policy and statements Claims            -> Allow
    (4) take a lease, within the cap   Allow             -> AuthorizedRelease
    (5) append the record to the log   AuthorizedRelease -> LoggedRecord, and the lease lasts
    (6) rewrap the model key           LoggedRecord      -> SecretBytes
    (7) seal it to the attested key    SecretBytes       -> ReleaseResponse

Every step takes a value that only the previous step returns, so no step can be skipped or
reordered. From (1) on every refusal is logged as a denial.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import contextmanager, suppress
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

from regalia.broker.appraise import (
    audience_findings,
    base_findings,
    verdict_of,
    version_findings,
)
from regalia.broker.challenges import ChallengeRefused
from regalia.broker.codes import BrokerCode
from regalia.broker.denials import TOLD_AFTER
from regalia.broker.leases import holder_of
from regalia.broker.records import (
    ReleaseAttempt,
    denial_record,
    release_record,
    returned_notice,
)
from regalia.broker.refusal import Denial, ReleaseDenied
from regalia.broker.request import (
    decode,
    evidence_digest_of,
    lease_of,
    parse_challenge_request,
    parse_lease_return,
    parse_release_request,
    recipient_for,
    recipient_of,
    version_of,
)
from regalia.broker.tenants import control_findings
from regalia.core.codec import b64
from regalia.core.errors import (
    AttestationError,
    IntegrityError,
    LogError,
    ParseError,
    PolicyDenied,
    RegaliaError,
    UnavailableError,
)
from regalia.core.types import ModelId, PolicyId
from regalia.crypto import hpke
from regalia.crypto.hpke import Kem
from regalia.host.events import ServiceEvent, emit
from regalia.policy.verdict import Deny
from regalia.wire.release import (
    RETURN_EXPORT,
    RETURN_TOKEN_SIZE,
    ChallengeResponse,
    LeaseReturned,
    ReleaseResponse,
    release_info,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from regalia.appraisal.claims import Claims
    from regalia.broker.administration import Administration
    from regalia.broker.appraise import Appraiser
    from regalia.broker.challenges import ChallengeStore, ConsumedChallenge, IssuedFor
    from regalia.broker.denials import DenialCounter
    from regalia.broker.floors import FloorStore
    from regalia.broker.leases import Confirmed, Lease, LeaseStore
    from regalia.broker.models import ServedModel
    from regalia.broker.peers import Peers
    from regalia.broker.request import DecodedRequest
    from regalia.broker.watch import Watch
    from regalia.broker.watermarks import LogWatch
    from regalia.crypto.hpke import SenderContext
    from regalia.host.clock import Clock
    from regalia.keys.base import KeyStore, Recipient
    from regalia.policy.verdict import Allow
    from regalia.tlog.log import Log
    from regalia.wire.release import LoggedRecord, ReleaseRequest


# Catches honest mistakes, such as a release that was never appraised; no wall against hostile code.
_MINT = object()


@dataclass(frozen=True, slots=True)
class AuthorizedRelease:
    """A request that passed steps (1) to (4), and its lease. Only those steps make one."""

    attempt: ReleaseAttempt
    asked: DecodedRequest
    recipient: Recipient
    model: ServedModel
    claims: Claims
    allow: Allow
    lease: Lease
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("a request is cleared by the broker's steps (1) to (4)")


@dataclass(frozen=True, slots=True)
class _LoggedRelease:
    """A release that stands in the log, and the channel on which its key will be sent."""

    logged: LoggedRecord
    encapsulated_key: bytes
    channel: SenderContext

    @classmethod
    def of(cls, cleared: AuthorizedRelease, logged: LoggedRecord) -> _LoggedRelease:
        info = release_info(
            model_id=str(cleared.model.model_id),
            lease_id=cleared.lease.lease_id,
            record_index=logged.index,
        )
        return cls(logged, *hpke.setup_sender(Kem.X_WING, cleared.asked.hpke_public_key, info))

    def token_digest(self) -> bytes:
        """What the state keeps of the token that gives the lease back."""
        with self.channel.export(RETURN_EXPORT, RETURN_TOKEN_SIZE) as token:
            return hashlib.sha256(token.view()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Decides about releases. Thread-safe, and independent of HTTP."""

    models: dict[str, ServedModel]
    appraiser: Appraiser
    challenges: ChallengeStore
    leases: LeaseStore
    floors: FloorStore
    log: Log
    seen: LogWatch
    peers: Peers
    administration: Administration
    denials: DenialCounter
    keys: KeyStore
    clock: Clock
    watch: Watch

    def challenge(self, body: bytes) -> ChallengeResponse:
        """Issue a challenge.

        Args:
            body: a ``ChallengeRequest``, raw and untrusted.

        Raises:
            ParseError: the request is malformed.
            UnavailableError: MODEL_UNKNOWN.
        """
        model_id = parse_challenge_request(body)
        model = self.models.get(str(model_id))
        if model is None:
            raise UnavailableError(BrokerCode.MODEL_UNKNOWN, f"no key for {model_id} here")
        with self._stage("challenge"):
            challenge = self.challenges.issue(model_id, model.policy_id, self.clock())
        emit(ServiceEvent.CHALLENGE_ISSUED, model_id=str(model_id))
        return ChallengeResponse(
            challenge=b64(challenge),
            audience=self.log.origin,
            policy_id=str(model.policy_id),
            expires_in_s=self.challenges.ttl_s,
        )

    def release(self, body: bytes, peer: str) -> ReleaseResponse:
        """Decide about one request, log the decision, and answer a release with the key.

        Args:
            body: a ``ReleaseRequest``, raw and untrusted.
            peer: address that it came from.

        Raises:
            ParseError: the request is malformed; no challenge was consumed.
            ChallengeRefused: the challenge is not valid, and this refusal is not logged.
            ReleaseDenied: the request was denied, and the denial was logged.
            PolicyDenied: it was denied, and is one of too many, which the log only counts.
            LogError: the decision could not be logged; the key store was not used.
            KeyAccessError, UnavailableError: the key store or the database failed, or PEER_LIMITED.
        """
        now = self.clock()
        self.tell(now, after=TOLD_AFTER)
        with self.peers.admitted(peer, now):
            return self._release(body, peer, now)

    def take_back(self, body: bytes, peer: str) -> LeaseReturned:
        """End a lease whose holder has wiped key and weights, so that its place is free at once.

        Args:
            body: a ``LeaseReturn``, raw and untrusted.
            peer: address that it came from.

        Raises:
            ParseError: the request is malformed.
            PolicyDenied: LEASE_UNKNOWN, also for a token that is not the lease's.
            LogError: the log cannot be written, and the lease runs on.
            UnavailableError: the database failed, or PEER_LIMITED.
        """
        now = self.clock()
        with self.peers.admitted(peer, now):
            lease_id, token = parse_lease_return(body)
            with self.leases.returning:
                if self.leases.runs(lease_id, token, now):
                    self._take_back(lease_id, now)
        return LeaseReturned(lease_id=lease_id)

    def _take_back(self, lease_id: str, now: datetime) -> None:
        """End a lease: state, log, state. Killed in between, it still counts."""
        self.seen.catch_up()
        if self.leases.begin_return(lease_id, now):
            try:
                checkpoint = self.log.note(returned_notice(self.log.origin, lease_id, now))
            except LogError:
                # If this fails too, the next return ends the lease, and the log is not told: it
                # then counts a holder too many, and never too few.
                with suppress(UnavailableError):
                    self.leases.keep(lease_id)
                raise
            with self.seen.owing(checkpoint):
                self.leases.end(lease_id, checkpoint)
        emit(ServiceEvent.LEASE_TAKEN_BACK, lease=lease_id)

    def tell(self, now: datetime, *, after: timedelta) -> None:
        """Write into the log how many denials have no entry of their own.

        Args:
            now: current time, timezone-aware.
            after: since the first denial that was counted; zero to write at once.

        Raises:
            LogError: the log cannot be written; what was counted is kept.
            UnavailableError: STATE_UNAVAILABLE.
        """
        notice = self.denials.notice(self.log.origin, now, after=after)
        if notice is None:
            return
        try:
            self.seen.saw(self.log.note(notice))
        except LogError:
            self.denials.put_back(notice)
            raise

    def _release(self, body: bytes, peer: str, now: datetime) -> ReleaseResponse:
        request, challenge = parse_release_request(body)
        self.seen.catch_up()
        try:
            consumed = self.challenges.consume(challenge, self._offers(request), now)  # (1)
        except ChallengeRefused as refused:
            if refused.issued is None:
                raise
            attempt = self._attempt(request, refused.issued, now, peer)
            denial = Denial(attempt, None, (), ((refused.code, refused.what),))
            raise self._denied(denial) from refused
        attempt = self._attempt(request, consumed.issued, now, peer)
        decided = self._decide(attempt, request, consumed)
        if isinstance(decided, Denial):
            raise self._denied(decided)
        return self._grant(decided)

    def _offers(self, request: ReleaseRequest) -> Iterator[tuple[ModelId, PolicyId]]:
        """What a challenge may have been issued for: what the request says, or what is served."""
        with suppress(ParseError):
            yield ModelId.parse(request.model_id), PolicyId.parse(request.policy_id)
        for model in self.models.values():
            yield model.model_id, model.policy_id

    def _attempt(
        self, request: ReleaseRequest, issued: IssuedFor, now: datetime, peer: str
    ) -> ReleaseAttempt:
        model = self.models.get(issued.model_id)
        return ReleaseAttempt(
            now=now,
            broker=self.log.origin,
            custody=self.keys.custody,
            key_wrapping=self.keys.key_wrapping,
            model_id=issued.model_id,
            policy_id=issued.policy_id,
            policy_version=0 if model is None else model.policy.version,
            model_version=version_of(request),
            evidence_digest=evidence_digest_of(request),
            recipient=recipient_of(request),
            lease_id=lease_of(request),
            standing=self.administration.tenants.standing(model),
            peer=peer,
        )

    def _decide(
        self, attempt: ReleaseAttempt, request: ReleaseRequest, challenge: ConsumedChallenge
    ) -> AuthorizedRelease | Denial:
        """Run steps (2) to (4). Failures of the broker itself are raised and are not denials."""
        claims: Claims | None = None
        wildcards: tuple[str, ...] = ()
        try:
            asked = decode(request)
            model = self._model_for(asked, challenge.issued)
            with self._stage("verify"):
                claims, config = self.appraiser.claims(asked, challenge, model, attempt.now)  # (2)
            with self._stage("holders"):
                holder = holder_of(claims, asked.hpke_public_key)
                active = self.leases.active(str(model.model_id), attempt.now, besides=holder)
            with self._stage("policy"):
                verdict = verdict_of(  # (3)
                    claims,
                    config,
                    asked=asked,
                    challenge=challenge,
                    model=model,
                    custody=self.keys.custody,
                    active_holders=active,
                    now=attempt.now,
                )
            wildcards = verdict.wildcards
            reasons = version_findings(asked, model) + audience_findings(config, self.log.origin)
            reasons += base_findings(config, model)
            reasons += control_findings(
                attempt.standing,
                model,
                claims,
                config,
                model_version=asked.model_version,
                recipient=attempt.recipient,
                now=attempt.now,
            )
            if isinstance(verdict, Deny):
                reasons = [(found.code, found.what) for found in verdict.reasons] + reasons
            if isinstance(verdict, Deny) or reasons:
                return Denial(attempt, claims, wildcards, tuple(reasons))
            self.floors.require_current(model.versions)
            recipient = recipient_for(asked)
            self.keys.require_recipient(recipient)
            with self._stage("lease"):
                lease = self._lease(asked, model, holder, attempt)  # (4)
        except (ParseError, AttestationError, IntegrityError, PolicyDenied) as exc:
            each = exc.reasons if isinstance(exc, PolicyDenied) else ((exc.code, exc.what),)
            return Denial(attempt, claims, wildcards, tuple(each))
        return AuthorizedRelease(attempt, asked, recipient, model, claims, verdict, lease, _MINT)

    def _model_for(self, asked: DecodedRequest, issued: IssuedFor) -> ServedModel:
        """Look up the model of the challenge, and check that the request names the same one."""
        model = self.models.get(issued.model_id)
        if model is None:
            raise PolicyDenied(BrokerCode.MODEL_UNKNOWN, f"no key for {issued.model_id} any more")
        for name, seen, want in (
            ("model", str(asked.model_id), issued.model_id),
            ("policy", str(asked.policy_id), issued.policy_id),
        ):
            if seen != want:
                raise PolicyDenied(
                    BrokerCode.REQUEST_MISMATCH, f"the challenge is for {name} {want}, not {seen}"
                )
        if issued.policy_id != str(model.policy_id):
            raise PolicyDenied(BrokerCode.POLICY_CHANGED, f"the policy is now {model.policy_id}")
        return model

    def _lease(
        self, asked: DecodedRequest, model: ServedModel, holder: str, attempt: ReleaseAttempt
    ) -> Lease:
        return self.leases.take(
            model_id=str(model.model_id),
            holder=holder,
            peer=attempt.peer,
            holders_max=model.policy.holders_max,
            lease_s=model.policy.lease_s,
            now=attempt.now,
            renew=asked.lease_id,
        )

    def _denied(self, denial: Denial) -> PolicyDenied:
        """Log a denial, or count it if there are too many. Raises LogError if that fails."""
        codes = tuple(code.name for code, _ in denial.reasons)
        verified = denial.claims is not None
        if self.denials.counted(codes, verified=verified, now=denial.attempt.now):
            self.watch.decision("counted", codes)
            code, what = denial.reasons[0]
            return PolicyDenied(code, what, denial.reasons)
        record = denial_record(denial.attempt, denial.claims, denial.wildcards, denial.reasons)
        with self._stage("log"):
            logged = self.log.append(record)
            self.seen.saw(self.log.checkpoint_of(logged.proof))
        self.watch.decision("denial", codes)
        emit(
            ServiceEvent.RELEASE_DENIED,
            index=logged.index,
            model_id=record.model_id,
            hardware=record.hardware,
            codes=list(codes),
        )
        return ReleaseDenied(denial, logged)

    def _grant(self, cleared: AuthorizedRelease) -> ReleaseResponse:
        """Run steps (5) to (7). If any of them fails, the lease is given back."""
        confirmed: Confirmed | None = None
        try:
            with self._stage("log"):  # (5)
                released, confirmed = self._append(cleared)
            response = self._rewrap(cleared, released)  # (6) (7)
        except BaseException as exc:
            # Catch everything: key stores are plug-ins that may raise any exception, and a lease
            # without a released key would block a holder until it expires.
            self._give_back(cleared.lease, confirmed)
            code = exc.code if isinstance(exc, RegaliaError) else BrokerCode.INTERNAL_ERROR
            emit(ServiceEvent.RELEASE_FAILED, model_id=str(cleared.model.model_id), code=code.name)
            raise
        self.peers.granted(cleared.attempt.peer, cleared.lease.until)
        self.watch.decision("release", ())
        record = released.logged.record
        emit(
            ServiceEvent.RELEASE_GRANTED,
            index=released.logged.index,
            model_id=record.model_id,
            hardware=record.hardware,
            product=record.product,
            recipient=record.recipient,
            lease_id=record.lease_id,
            lease_until=record.lease_until,
            wildcards=record.wildcards,
        )
        return response

    def _append(self, cleared: AuthorizedRelease) -> tuple[_LoggedRelease, Confirmed]:
        record = release_record(
            cleared.attempt, cleared.claims, cleared.allow.wildcards, cleared.lease
        )
        logged = self.log.append(record)
        checkpoint = self.log.checkpoint_of(logged.proof)
        with self.seen.owing(checkpoint):
            released = _LoggedRelease.of(cleared, logged)
            confirmed = self.leases.confirm(
                cleared.lease, checkpoint, released.token_digest(), self.clock()
            )
        return released, confirmed

    def _rewrap(self, cleared: AuthorizedRelease, released: _LoggedRelease) -> ReleaseResponse:
        """Have the model key rewrapped, and seal the result to the attested key.

        If the key store rewraps nothing itself, this is the only place where the broker has the
        model key in clear; ``with`` wipes it.
        """
        wrapped, logged = cleared.model.wrapped_key, released.logged
        with self._stage("unwrap"):
            rewrapped = self.keys.rewrap_logged(
                wrapped.kek,
                wrapped.blob,
                cleared.model.wrap_context,
                recipient=cleared.recipient,
                logged=logged,
            )
        with rewrapped, self._stage("rewrap"):
            self.floors.opened(cleared.model.versions)
            sealed = released.channel.seal(b"", rewrapped.view())
        return ReleaseResponse(
            encapsulated_key=b64(released.encapsulated_key),
            wrapped_key=b64(sealed),
            custody=self.keys.custody,
            key_wrapping=self.keys.key_wrapping,
            lease_id=cleared.lease.lease_id,
            lease_s=cleared.model.policy.lease_s,
            log=logged.proof,
        )

    def _give_back(self, lease: Lease, confirmed: Confirmed | None) -> None:
        try:
            self.leases.undo(lease, confirmed)
        except UnavailableError as exc:
            # The lease then counts until it expires, which admits too few holders and never too
            # many.
            emit(ServiceEvent.RELEASE_FAILED, lease_id=lease.lease_id, code=exc.code.name)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.watch.stage(name, time.perf_counter() - start)
