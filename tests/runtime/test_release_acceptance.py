"""The key is unwrapped only when the trusted log says that it went here, for this, now."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from regalia.core.codec import b64, canonical_json, unb64
from regalia.core.errors import KeyAccessError, LogError, PolicyDenied
from regalia.core.secret import SecretBytes
from regalia.core.types import KeyFingerprint, ModelId, PolicyId
from regalia.crypto import hpke
from regalia.crypto.key_wrapping import wrap_to
from regalia.crypto.sign import SigningKey
from regalia.runtime.broker import ChallengeUnknownError
from regalia.runtime.codes import RuntimeCode
from regalia.runtime.keys import RuntimeKeys
from regalia.runtime.release import (
    AcceptedRelease,
    Exchange,
    accept,
    exchange,
    give_back,
    unwrap,
)
from regalia.tlog.codes import TlogCode
from regalia.tlog.database import open_engine
from regalia.tlog.log import Log
from regalia.tlog.note import parse_log_key, verifier_key_text
from regalia.wire.evidence import Evidence, Tee
from regalia.wire.release import (
    RECORD_FORMAT,
    ChallengeResponse,
    ReleaseRecord,
    ReleaseRequest,
    ReleaseResponse,
    release_info,
)
from regalia_testing.kms.envelopes import sealed_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.wire.release import LogProof

MODEL = ModelId(hashlib.sha256(b"model").digest())
POLICY = "policy:" + "cd" * 32
MODEL_KEY = hashlib.sha256(b"model key").digest()
PAIR = hpke.generate_keypair(hpke.Kem.X_WING)
RSA = rsa.generate_private_key(65537, 3072)
KEYS = RuntimeKeys(release=PAIR, serving=PAIR, wrap=RSA)
SIGNER = SigningKey.generate_ed25519()
LOG_KEY = verifier_key_text("log.example", SIGNER.verify_key)
EVIDENCE = Evidence(Tee.SEV_SNP, b"report", (), b"config")


@dataclass
class RuntimeTestbed:
    """A log, and exchanges that are right unless told otherwise."""

    log: Log

    def record(self, **changes: Any) -> ReleaseRecord:  # noqa: ANN401
        fields: dict[str, Any] = {
            "format": RECORD_FORMAT,
            "decision": "release",
            "time": "2026-11-22T10:00:00Z",
            "broker": "log.example",
            "model_id": str(MODEL),
            "model_version": 3,
            "policy_id": POLICY,
            "policy_version": 1,
            "hardware": "simulated",
            "tee": "sev-snp",
            "product": "Genoa",
            "measurement": "00" * 48,
            "chip_id": "00" * 64,
            "devices": [],
            "revocation": "checked",
            "evidence_digest": str(EVIDENCE.digest()),
            "recipient": str(KeyFingerprint.of(PAIR.public_key)),
            "custody": "broker",
            "key_wrapping": "none",
            "control": "",
            "lease_id": "lease-1",
            "lease_until": "2026-11-22T10:10:00Z",
            "wildcards": [],
            "reasons": [],
        }
        return ReleaseRecord(**(fields | changes))

    def proof(self, **changes: Any) -> LogProof:  # noqa: ANN401
        self.log.append(self.record(lease_id="somebody else's", decision="denial"))
        return self.log.append(self.record(**changes)).proof

    def exchange(
        self,
        proof: LogProof,
        *,
        lease_id: str | None = None,
        **answer: Any,  # noqa: ANN401
    ) -> Exchange:
        info = release_info(model_id=str(MODEL), lease_id="lease-1", record_index=proof.index)
        enc, wrapped = hpke.seal(PAIR.public_key, info, b"", MODEL_KEY)
        fields: dict[str, Any] = {
            "encapsulated_key": b64(enc),
            "wrapped_key": b64(wrapped),
            "custody": "broker",
            "key_wrapping": "none",
            "lease_id": "lease-1",
            "lease_s": 600,
            "log": proof,
        }
        request = ReleaseRequest(
            challenge=b64(bytes(32)),
            model_id=str(MODEL),
            model_version=3,
            policy_id=POLICY,
            hpke_public_key=b64(PAIR.public_key),
            wrap_public_key=b64(b"rsa"),
            evidence=b64(EVIDENCE.encode()),
            lease_id=lease_id,
        )
        return Exchange(
            request=request,
            evidence=EVIDENCE,
            simulated=True,
            response=ReleaseResponse(**(fields | answer)),
        )


@pytest.fixture
def testbed(tmp_path: Any) -> Iterator[RuntimeTestbed]:  # noqa: ANN401
    engine = open_engine(f"sqlite:///{tmp_path}/log.db")
    yield RuntimeTestbed(Log(engine, origin="log.example", key=SIGNER))
    engine.dispose()


def test_a_logged_release_gives_the_key(testbed: RuntimeTestbed) -> None:
    accepted = accept(testbed.exchange(testbed.proof()), log_key=LOG_KEY)
    with unwrap(accepted, KEYS, MODEL) as key:
        assert isinstance(key, SecretBytes)
        assert bytes(key.view()) == MODEL_KEY


def test_a_renewal_is_accepted(testbed: RuntimeTestbed) -> None:
    accept(testbed.exchange(testbed.proof(), lease_id="lease-1"), log_key=LOG_KEY)


def test_only_accept_makes_one(testbed: RuntimeTestbed) -> None:
    done = testbed.exchange(testbed.proof())
    accepted = accept(done, log_key=LOG_KEY)
    with pytest.raises(TypeError):
        AcceptedRelease(done.response, accepted.logged, object())
    with pytest.raises((TypeError, ValueError)):
        replace(accepted, response=done.response)


WRONG: dict[str, dict[str, Any]] = {
    "denial": {"decision": "denial"},
    "another model": {"model_id": "model:" + "00" * 32},
    "another version": {"model_version": 2},
    "another policy": {"policy_id": "policy:" + "00" * 32},
    "another key": {"recipient": "key:" + "00" * 32},
    "older evidence": {"evidence_digest": "sha256:" + "00" * 32},
    "genuine, says the record": {"hardware": "genuine"},
    "unverified": {"hardware": "unverified"},
    "another lease": {"lease_id": "lease-2"},
    "another custody": {"custody": "hsm"},
    "another wrapping": {"key_wrapping": "rsa-oaep-sha256"},
    "a shorter lease": {"lease_until": "2026-11-22T10:09:58Z"},
    "a lease that ended before": {"lease_until": "2026-11-22T09:00:00Z"},
    "no time": {"lease_until": ""},
    "no time either": {"time": "yesterday"},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_record_of_something_else_is_refused(name: str, testbed: RuntimeTestbed) -> None:
    done = testbed.exchange(testbed.proof(**WRONG[name]))
    with pytest.raises(LogError) as caught:
        accept(done, log_key=LOG_KEY)
    assert caught.value.code is RuntimeCode.RELEASE_RECORD_MISMATCH


@pytest.mark.parametrize(
    "answer", [{"lease_id": "lease-2"}, {"custody": "hsm"}, {"key_wrapping": "rsa-oaep-sha1"},
               {"lease_s": 0}, {"lease_s": -5}, {"lease_s": 602}, {"lease_s": 1 << 40}]
)  # fmt: skip
def test_an_answer_that_says_more_than_the_log_is_refused(
    answer: dict[str, Any], testbed: RuntimeTestbed
) -> None:
    with pytest.raises(LogError) as caught:
        accept(testbed.exchange(testbed.proof(), **answer), log_key=LOG_KEY)
    assert caught.value.code is RuntimeCode.RELEASE_RECORD_MISMATCH


@pytest.mark.parametrize("seconds", [1, 599, 601])
def test_a_lease_may_be_shorter_and_rounded(seconds: int, testbed: RuntimeTestbed) -> None:
    """The log holds two moments in whole seconds, ten minutes apart."""
    accept(testbed.exchange(testbed.proof(), lease_s=seconds), log_key=LOG_KEY)


def test_no_lease_is_longer_than_a_leap_year(testbed: RuntimeTestbed) -> None:
    proof = testbed.proof(time="2028-01-01T00:00:00Z", lease_until="2030-01-01T00:00:00Z")
    year = 366 * 24 * 60 * 60
    accept(testbed.exchange(proof, lease_s=year), log_key=LOG_KEY)
    with pytest.raises(LogError, match=f"RELEASE_RECORD_MISMATCH: .*a lease of {year + 1} s"):
        accept(testbed.exchange(proof, lease_s=year + 1), log_key=LOG_KEY)


def test_renewing_another_lease_is_refused(testbed: RuntimeTestbed) -> None:
    with pytest.raises(LogError) as caught:
        accept(testbed.exchange(testbed.proof(), lease_id="lease-0"), log_key=LOG_KEY)
    assert caught.value.code is RuntimeCode.RELEASE_RECORD_MISMATCH


def change_entry(proof: LogProof) -> LogProof:
    """The same leaf with another recipient."""
    record = msgspec.json.decode(__import__("base64").b64decode(proof.record))
    record["recipient"] = "key:" + "11" * 32
    return msgspec.structs.replace(proof, record=b64(canonical_json(record)))


TAMPERED: dict[str, tuple[Callable[[LogProof], LogProof], object]] = {
    "record": (change_entry, TlogCode.PROOF_INVALID),
    "index": (
        lambda p: msgspec.structs.replace(p, index=p.index - 1),
        TlogCode.PROOF_INVALID,
    ),
    "path": (
        lambda p: msgspec.structs.replace(p, path=[b64(bytes(32)), *p.path[1:]]),
        TlogCode.PROOF_INVALID,
    ),
    "no path": (lambda p: msgspec.structs.replace(p, path=[]), TlogCode.PROOF_INVALID),
    "checkpoint": (
        lambda p: msgspec.structs.replace(p, checkpoint=p.checkpoint.replace("\n2\n", "\n3\n")),
        TlogCode.CHECKPOINT_INVALID,
    ),
    "no checkpoint": (
        lambda p: msgspec.structs.replace(p, checkpoint=""),
        TlogCode.CHECKPOINT_INVALID,
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_proof_is_refused(name: str, testbed: RuntimeTestbed) -> None:
    change, code = TAMPERED[name]
    with pytest.raises(LogError) as caught:
        accept(testbed.exchange(change(testbed.proof())), log_key=LOG_KEY)
    assert caught.value.code is code


def test_another_log_is_refused(testbed: RuntimeTestbed) -> None:
    other = verifier_key_text("log.example", SigningKey.generate_ed25519().verify_key)
    with pytest.raises(LogError) as caught:
        accept(testbed.exchange(testbed.proof()), log_key=other)
    assert caught.value.code is TlogCode.CHECKPOINT_INVALID
    elsewhere = verifier_key_text("other.example", SIGNER.verify_key)
    with pytest.raises(LogError):
        accept(testbed.exchange(testbed.proof()), log_key=elsewhere)


def resealed(testbed: RuntimeTestbed, proof: LogProof, plaintext: bytes, **info: Any) -> Exchange:  # noqa: ANN401
    bound = {"model_id": str(MODEL), "lease_id": "lease-1", "record_index": proof.index}
    enc, wrapped = hpke.seal(PAIR.public_key, release_info(**(bound | info)), b"", plaintext)
    return testbed.exchange(proof, encapsulated_key=b64(enc), wrapped_key=b64(wrapped))


UNUSABLE: dict[str, Callable[[RuntimeTestbed, LogProof], Exchange]] = {
    "for another entry": lambda b, p: resealed(b, p, MODEL_KEY, record_index=p.index + 1),
    "for another lease": lambda b, p: resealed(b, p, MODEL_KEY, lease_id="lease-2"),
    "for another model": lambda b, p: resealed(b, p, MODEL_KEY, model_id="model:" + "0" * 64),
    "short": lambda b, p: resealed(b, p, MODEL_KEY[:31]),
    "long": lambda b, p: resealed(b, p, MODEL_KEY + b"x"),
    "empty": lambda b, p: b.exchange(p, wrapped_key=""),
    "no base64": lambda b, p: b.exchange(p, encapsulated_key="!"),
    "enc of a wrong size": lambda b, p: b.exchange(p, encapsulated_key=b64(b"x" * 32)),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_key_that_does_not_open(name: str, testbed: RuntimeTestbed) -> None:
    accepted = accept(UNUSABLE[name](testbed, testbed.proof()), log_key=LOG_KEY)
    with pytest.raises(KeyAccessError) as caught:
        unwrap(accepted, KEYS, MODEL)
    assert caught.value.code is RuntimeCode.RELEASED_KEY_UNUSABLE
    assert MODEL_KEY.hex() not in str(caught.value)


def rewrapped(testbed: RuntimeTestbed, wrapping: str, body: bytes) -> Exchange:
    """An exchange whose record and answer name a wrapping, and whose key is ``body``."""
    says = {"custody": "hsm", "key_wrapping": wrapping}
    proof = testbed.proof(**says)
    sealed = resealed(testbed, proof, body).response
    return testbed.exchange(
        proof, encapsulated_key=sealed.encapsulated_key, wrapped_key=sealed.wrapped_key, **says
    )


CMS = "cms-rsa-oaep-sha256-aes256-cbc"


@pytest.mark.parametrize(
    "wrapping", ["rsa-oaep-sha1", "rsa-oaep-sha256", "rsa-oaep-sha256-aes-kwp"]
)
def test_a_key_that_a_token_has_wrapped(testbed: RuntimeTestbed, wrapping: str) -> None:
    with SecretBytes(bytearray(MODEL_KEY)) as key:
        body = wrap_to(wrapping, key, RSA.public_key())
    done = rewrapped(testbed, wrapping, body)
    with unwrap(accept(done, log_key=LOG_KEY), KEYS, MODEL) as opened:
        assert opened.view() == MODEL_KEY


def test_a_key_that_kms_has_sealed(testbed: RuntimeTestbed) -> None:
    done = rewrapped(testbed, CMS, sealed_to(RSA.public_key(), MODEL_KEY))
    with unwrap(accept(done, log_key=LOG_KEY), KEYS, MODEL) as opened:
        assert opened.view() == MODEL_KEY


def stranger() -> rsa.RSAPublicKey:
    return rsa.generate_private_key(65537, 3072).public_key()


def to_another(wrapping: str, key: bytes) -> bytes:
    with SecretBytes(bytearray(key)) as secret:
        return wrap_to(wrapping, secret, stranger())


def to_us(wrapping: str, key: bytes) -> bytes:
    with SecretBytes(bytearray(key)) as secret:
        return wrap_to(wrapping, secret, RSA.public_key())


TWO_LAYERS = "rsa-oaep-sha256-aes-kwp"
WRAPPED_OTHERWISE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "to another runtime": ("rsa-oaep-sha256", lambda: to_another("rsa-oaep-sha256", MODEL_KEY)),
    "with another hash": ("rsa-oaep-sha256", lambda: to_us("rsa-oaep-sha1", MODEL_KEY)),
    "not wrapped at all": ("rsa-oaep-sha256", lambda: MODEL_KEY),
    "wrapped, and not said": ("none", lambda: to_us("rsa-oaep-sha256", MODEL_KEY)),
    "cut": ("rsa-oaep-sha256", lambda: to_us("rsa-oaep-sha256", MODEL_KEY)[:-1]),
    "of another size": ("rsa-oaep-sha256", lambda: to_us("rsa-oaep-sha256", MODEL_KEY + b"x")),
    "nothing": ("rsa-oaep-sha1", lambda: b""),
    "without the key between": (TWO_LAYERS, lambda: to_us("rsa-oaep-sha256", MODEL_KEY)),
    "two layers, cut": (TWO_LAYERS, lambda: to_us(TWO_LAYERS, MODEL_KEY)[:-8]),
    "two layers, longer": (TWO_LAYERS, lambda: to_us(TWO_LAYERS, MODEL_KEY) + bytes(8)),
    "two layers to another runtime": (TWO_LAYERS, lambda: to_another(TWO_LAYERS, MODEL_KEY)),
    "CMS to another runtime": (CMS, lambda: sealed_to(stranger(), MODEL_KEY)),
    "CMS of another size": (CMS, lambda: sealed_to(RSA.public_key(), MODEL_KEY + b"x")),
    "no CMS": (CMS, lambda: to_us("rsa-oaep-sha256", MODEL_KEY)),
    "two layers, none of them there": (TWO_LAYERS, lambda: b""),
}


@pytest.mark.parametrize("name", WRAPPED_OTHERWISE)
def test_a_key_that_was_not_wrapped_as_the_log_says(name: str, testbed: RuntimeTestbed) -> None:
    wrapping, make = WRAPPED_OTHERWISE[name]
    accepted = accept(rewrapped(testbed, wrapping, make()), log_key=LOG_KEY)
    with pytest.raises(KeyAccessError) as caught:
        unwrap(accepted, KEYS, MODEL)
    assert caught.value.code is RuntimeCode.RELEASED_KEY_UNUSABLE
    assert MODEL_KEY.hex() not in str(caught.value)


@pytest.mark.parametrize("size", [31, 33])
def test_a_key_of_another_size_is_forgotten(
    testbed: RuntimeTestbed, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    opened: list[SecretBytes] = []
    real = hpke.RecipientContext.open_secret

    def open_secret(*args: Any) -> SecretBytes:  # noqa: ANN401 - as the method
        opened.append(real(*args))
        return opened[-1]

    monkeypatch.setattr(hpke.RecipientContext, "open_secret", open_secret)
    done = resealed(testbed, testbed.proof(), bytes(range(1, size + 1)))
    with pytest.raises(KeyAccessError, match=f"a model key of {size} bytes, want 32"):
        unwrap(accept(done, log_key=LOG_KEY), KEYS, MODEL)
    (secret,) = opened
    with pytest.raises(RuntimeError):
        secret.view()


def test_the_token_that_gives_the_lease_back(testbed: RuntimeTestbed) -> None:
    """Both sides of the release's channel know it, and nobody else."""
    done = testbed.exchange(testbed.proof())
    message = give_back(accept(done, log_key=LOG_KEY), PAIR, MODEL)
    assert message.lease_id == "lease-1"
    assert len(unb64(message.token, what="token")) == 32
    assert message.token not in repr(message)
    other = hpke.generate_keypair(hpke.Kem.X_WING)
    assert give_back(accept(done, log_key=LOG_KEY), other, MODEL).token != message.token


def test_a_channel_that_is_none_gives_no_token(testbed: RuntimeTestbed) -> None:
    done = testbed.exchange(testbed.proof(), encapsulated_key=b64(b"short"))
    with pytest.raises(KeyAccessError, match="RELEASED_KEY_UNUSABLE"):
        give_back(accept(done, log_key=LOG_KEY), PAIR, MODEL)


def test_a_key_for_another_runtime(testbed: RuntimeTestbed) -> None:
    accepted = accept(testbed.exchange(testbed.proof()), log_key=LOG_KEY)
    with pytest.raises(KeyAccessError):
        unwrap(accepted, replace(KEYS, release=hpke.generate_keypair(hpke.Kem.X_WING)), MODEL)


class Forgetful:
    """A broker that does not know its first challenges, and then refuses for another reason."""

    def __init__(self, forgets: int) -> None:
        self.forgets = forgets
        self.challenges: list[bytes] = []

    def challenge(self, _: ModelId) -> ChallengeResponse:
        self.challenges.append(bytes([len(self.challenges)]) * 32)
        return ChallengeResponse(
            challenge=b64(self.challenges[-1]),
            audience=parse_log_key(LOG_KEY).origin,
            policy_id=str(PolicyId(bytes(32))),
            expires_in_s=60,
        )

    def release(self, request: ReleaseRequest) -> ReleaseResponse:
        assert request.challenge == b64(self.challenges[-1])
        known = len(self.challenges) > self.forgets
        error = PolicyDenied if known else ChallengeUnknownError
        raise error(RuntimeCode.RELEASE_DENIED, "denied")


class Answering:
    """An attester of evidence that nobody looks at."""

    model_id = ModelId(bytes(32))
    keys = SimpleNamespace(release=SimpleNamespace(public_key=b"hpke"), wrap_public=b"rsa")
    source = SimpleNamespace(simulated=False)

    def for_release(self, *, challenge: bytes, **_: object) -> Evidence:
        return Evidence(Tee.SEV_SNP, challenge, (), b"")


@pytest.mark.parametrize(("forgets", "asked"), [(0, 1), (1, 2), (9, 2)])
def test_a_challenge_that_the_broker_forgot_is_asked_for_once_more(
    forgets: int, asked: int
) -> None:
    broker = Forgetful(forgets)
    with pytest.raises(PolicyDenied):
        exchange(
            broker,  # type: ignore[arg-type] # a double
            Answering(),  # type: ignore[arg-type] # a double
            log_key=LOG_KEY,
            model_version=1,
            lease_id=None,
        )
    assert len(broker.challenges) == asked
