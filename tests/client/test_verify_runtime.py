"""Every lie about a runtime is refused with its code, and costs the liar's audience no prompt."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest

from regalia.client.errors import RuntimeNotVerifiedError
from regalia.client.fetch import runtime_url
from regalia.client.transport import RegaliaTransport
from regalia.client.trust import load_collateral, load_trust
from regalia.client.verify import VerifiedRuntime, appraise_runtime, verify_runtime
from regalia.core.codec import b64
from regalia.core.errors import (
    AttestationError,
    LogError,
    ParseError,
    PolicyDenied,
    RegaliaError,
    UnavailableError,
    UsageError,
)
from regalia.core.types import KeyFingerprint, ModelId
from regalia.crypto.hpke import Kem, generate_keypair
from regalia.crypto.sign import SigningKey
from regalia.tlog.note import verifier_key_text
from regalia.verifier.anchors import TrustAnchors
from regalia.wire.evidence import Role
from regalia.wire.serving import EVIDENCE_PATH, parse_challenge
from regalia_testing.tees.snp.defects import SnpDefects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.client.trust import ClientTrust
    from regalia.policy.documents import ClientPolicy
    from regalia.wire.release import LogProof
    from regalia.wire.serving import ServingEvidence
    from regalia_testing.tees.snp.simulator import SnpSimulator

URL = "http://runtime.test"
NEEDLE = "the prompt that nobody else may read"


def refused(relay: object, trust: ClientTrust) -> RegaliaError:
    """Try to chat; return why nothing was sent, having checked that nothing was."""
    client = httpx.Client(transport=RegaliaTransport(URL, trust, inner=relay))
    with pytest.raises(RuntimeNotVerifiedError) as caught:
        client.post(
            f"{URL}/v1/chat/completions",
            json={"messages": [{"role": "user", "content": NEEDLE}]},
            headers={"authorization": f"Bearer {NEEDLE}"},
        )
    assert set(relay.paths()) <= {EVIDENCE_PATH}
    assert NEEDLE.encode() not in relay.everything()
    assert all(request.content == b"" for request in relay.seen)
    assert relay.runtime.requests == []
    return caught.value.error


def verify(relay: object, trust: ClientTrust) -> VerifiedRuntime:
    return verify_runtime(relay, runtime_url(URL), trust)


def test_a_good_runtime_is_verified(
    relay: object, trust: ClientTrust, platform: SnpSimulator
) -> None:
    runtime = verify(relay, trust)
    assert runtime.key_config.public_key == relay.runtime.keys.public_key
    assert runtime.key_config.key_id == 1
    assert runtime.claims.hardware == "simulated"
    assert runtime.claims.chip_id == platform.hwid
    assert runtime.document.model_version == 3
    assert runtime.logged.record.decision == "release"
    assert "placement.sites" in runtime.verdict.wildcards
    assert runtime.expires_at - runtime.verified_at == timedelta(minutes=10)
    assert [request.method for request in relay.seen] == ["GET"]


def test_only_appraisal_makes_a_verified_runtime(relay: object, trust: ClientTrust) -> None:
    runtime = verify(relay, trust)
    fields = {field.name: getattr(runtime, field.name) for field in dataclasses.fields(runtime)}
    with pytest.raises(TypeError):
        VerifiedRuntime(**fields, mint=object())
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(runtime, expires_at=runtime.expires_at + timedelta(days=1))


def test_every_question_has_a_new_challenge(relay: object, trust: ClientTrust) -> None:
    for _ in range(3):
        verify(relay, trust)
    assert len({request.url.params["challenge"] for request in relay.seen}) == 3


@pytest.mark.parametrize(
    ("defects", "code"),
    [
        (SnpDefects(debug=True), "DEBUG_ENABLED"),
        (SnpDefects(vmpl=1), "VMPL_MISMATCH"),
        (SnpDefects(missing_alias_check=True), "PLATFORM_FLAG_MISSING"),
        (SnpDefects(bad_signature=True), "SIGNATURE_INVALID"),
        (SnpDefects(leaf_tcb_mismatch=True), "LEAF_BINDING_MISMATCH"),
        (SnpDefects(stale_nonce=True), "NONCE_MISMATCH"),
        (SnpDefects(wrong_measurement=True), "MEASUREMENT_UNKNOWN"),
        (SnpDefects(wrong_host_data=True), "CONFIG_MISMATCH"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_platform(relay: object, trust: ClientTrust, defects: SnpDefects, code: str) -> None:
    relay.runtime.defects = defects
    assert refused(relay, trust).code.name == code


def swap_key(document: ServingEvidence) -> ServingEvidence:
    mine = generate_keypair(Kem.X_WING).public_key
    return dataclasses.replace(document, hpke_public_key=mine)


def swap_wrap_key(document: ServingEvidence) -> ServingEvidence:
    return dataclasses.replace(document, wrap_public_key=b"mine")


def raise_version(document: ServingEvidence) -> ServingEvidence:
    return dataclasses.replace(document, model_version=document.model_version + 1)


def swap_model(document: ServingEvidence) -> ServingEvidence:
    return dataclasses.replace(document, model_id=ModelId(bytes(32)))


def swap_recipient(document: ServingEvidence) -> ServingEvidence:
    return dataclasses.replace(document, recipient=KeyFingerprint(bytes(32)))


@pytest.mark.parametrize(
    "lie", [swap_key, swap_wrap_key, raise_version, swap_model, swap_recipient]
)
def test_relay_changes_what_is_bound(
    relay: object, trust: ClientTrust, lie: Callable[[ServingEvidence], ServingEvidence]
) -> None:
    relay.on_document = lie
    error = refused(relay, trust)
    assert isinstance(error, AttestationError)
    assert error.code.name == "NONCE_MISMATCH"


def test_relay_swaps_the_runtime_configuration(relay: object, trust: ClientTrust) -> None:
    other = msgspec.structs.replace(relay.runtime.config, owner_key="key:" + "9" * 64).encode()

    def lie(document: ServingEvidence) -> ServingEvidence:
        evidence = dataclasses.replace(document.evidence, runtime_config=other)
        return dataclasses.replace(document, evidence=evidence)

    relay.on_document = lie
    error = refused(relay, trust)
    assert isinstance(error, PolicyDenied)
    assert error.code.name == "CONFIG_MISMATCH"


def test_relay_replays_old_evidence(relay: object, trust: ClientTrust) -> None:
    kept: list[ServingEvidence] = []

    def lie(document: ServingEvidence) -> ServingEvidence:
        kept.append(document)
        return kept[0]

    relay.on_document = lie
    verify(relay, trust)
    assert refused(relay, trust).code.name == "NONCE_MISMATCH"


def test_relay_shows_another_runtimes_evidence(
    relay: object, trust: ClientTrust, other_platform: SnpSimulator
) -> None:
    """Genuine evidence of the same code on another machine, over another key."""
    other = dataclasses.replace(
        relay.runtime, platform=other_platform, keys=generate_keypair(Kem.X_WING)
    )
    relay.on_document = lambda document: dataclasses.replace(
        document, evidence=other.document(bytes(32)).evidence
    )
    assert refused(relay, trust).code.name == "NONCE_MISMATCH"


def test_evidence_of_the_release_role_is_worthless(relay: object, trust: ClientTrust) -> None:
    platform, config = relay.runtime.platform, relay.runtime.config

    def lie(document: ServingEvidence) -> ServingEvidence:
        challenge = parse_challenge(relay.seen[-1].url.params["challenge"])
        binding = dataclasses.replace(document.binding(challenge), role=Role.RELEASE)
        evidence = platform.evidence(
            binding.report_data(),
            measurement=relay.runtime.measurement,
            runtime_config=config.encode(),
        )
        return dataclasses.replace(document, evidence=evidence)

    relay.on_document = lie
    assert refused(relay, trust).code.name == "NONCE_MISMATCH"


def test_production_roots_refuse_simulation(relay: object, trust: ClientTrust) -> None:
    verifier = dataclasses.replace(trust.verifier, anchors=TrustAnchors.production())
    strict = dataclasses.replace(trust, verifier=verifier)
    error = refused(relay, strict)
    assert isinstance(error, AttestationError)
    assert error.code.name == "ROOT_UNTRUSTED"


def test_all_reasons_are_told(
    relay: object, trust: ClientTrust, make_policy: Callable[..., ClientPolicy]
) -> None:
    relay.runtime.defects = SnpDefects(debug=True, vmpl=2)
    policy = make_policy(model={"id": "model:" + "0" * 64, "version_minimum": 9})
    error = refused(relay, dataclasses.replace(trust, policy=policy))
    assert isinstance(error, PolicyDenied)
    names = {code.name for code, _ in error.reasons}
    assert {"DEBUG_ENABLED", "VMPL_MISMATCH", "MODEL_MISMATCH", "MODEL_VERSION_TOO_OLD"} <= names


def test_slow_answers_are_stale(relay: object, trust: ClientTrust) -> None:
    def delay(document: ServingEvidence) -> ServingEvidence:
        trust.clock.now += timedelta(seconds=61)
        return document

    relay.on_document = delay
    assert refused(relay, trust).code.name == "EVIDENCE_TOO_OLD"


# The log ---------------------------------------------------------------------------------------


def test_missing_release_proof(relay: object, trust: ClientTrust) -> None:
    relay.runtime.proof = None
    error = refused(relay, trust)
    assert isinstance(error, LogError)
    assert error.code.name == "RELEASE_PROOF_MISSING"


@pytest.mark.parametrize(
    "changes",
    [
        {"decision": "denial"},
        {"model_id": "model:" + "0" * 64},
        {"model_version": 2},
        {"recipient": "key:" + "0" * 64},  # another guest of the same image on the same machine
        {"hardware": "genuine"},
        {"product": "Milan"},
        {"measurement": "0" * 96},
        {"chip_id": "0" * 128},
        {"devices": ["nvidia-gpu:41"]},
        {"lease_until": "2026-11-22T09:57:59Z"},
        {"lease_until": "later"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_proof_of_another_release(
    relay: object, trust: ClientTrust, logged: Callable[..., LogProof], changes: dict[str, object]
) -> None:
    relay.runtime.proof = logged(**changes)
    error = refused(relay, trust)
    assert error.code.name == "RELEASE_PROOF_MISMATCH"
    assert next(iter(changes)).partition("_until")[0] in error.what


def test_altered_proof(relay: object, trust: ClientTrust) -> None:
    proof = relay.runtime.proof
    relay.runtime.proof = msgspec.structs.replace(proof, record=b64(b"{}"))
    assert refused(relay, trust).code.name == "PROOF_INVALID"


def test_proof_of_another_log(
    relay: object, trust: ClientTrust, make_policy: Callable[..., ClientPolicy]
) -> None:
    other = verifier_key_text("log.test/regalia", SigningKey.generate_ed25519().verify_key)
    relay.runtime.config = msgspec.structs.replace(relay.runtime.config, log_key=other)
    error = refused(relay, dataclasses.replace(trust, policy=make_policy(other)))
    assert error.code.name == "CHECKPOINT_INVALID"


def test_any_log_needs_no_proof_and_says_so(
    relay: object, trust: ClientTrust, make_policy: Callable[..., ClientPolicy]
) -> None:
    relay.runtime.proof = None
    runtime = verify(relay, dataclasses.replace(trust, policy=make_policy("any")))
    assert runtime.logged is None
    assert "runtime.log_key" in runtime.verdict.wildcards


def test_verification_ends_with_the_lease(
    relay: object, trust: ClientTrust, logged: Callable[..., LogProof]
) -> None:
    relay.runtime.proof = logged(lease_until="2026-11-22T10:01:00Z")
    runtime = verify(relay, trust)
    assert runtime.expires_at - runtime.verified_at == timedelta(minutes=3)


def test_a_lease_until_the_end_of_time(
    relay: object, trust: ClientTrust, logged: Callable[..., LogProof]
) -> None:
    """Adding anything to this date is an overflow, and a log may say what it likes."""
    relay.runtime.proof = logged(lease_until="9999-12-31T23:59:59Z")
    runtime = verify(relay, trust)
    assert runtime.expires_at - runtime.verified_at == trust.verify_every


# What is served ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ((404, "application/json", [b"{}"]), UnavailableError),
        ((302, "application/json", [b"{}"]), UnavailableError),
        ((200, "text/html", [b"<html>"]), UnavailableError),
        ((200, "application/json", [b"<html>"]), ParseError),
        ((200, "application/json", [b"x" * (1 << 20)] * 9), ParseError),
        ((200, "application/json", [httpx.ReadTimeout("slow")]), UnavailableError),
    ],
)
def test_no_evidence(
    relay: object, trust: ClientTrust, reply: tuple[int, str, list[bytes]], kind: type
) -> None:
    relay.instead = lambda _: (reply[0], reply[1], iter(reply[2]))
    assert type(refused(relay, trust)) is kind


def test_unreachable(trust: ClientTrust) -> None:
    transport = RegaliaTransport("http://127.0.0.1:9", trust)
    with pytest.raises(UnavailableError) as caught:
        transport.verify()
    assert caught.value.code.name == "PEER_UNREACHABLE"
    transport.close()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "runtime.test",
        "ftp://runtime.test",
        "http://",
        "http://u:p@h",
        "http://h?x=1",
        "http://h:x",
    ],
)
def test_bad_addresses(address: str) -> None:
    with pytest.raises(ParseError):
        runtime_url(address)


def test_appraisal_is_pure(relay: object, trust: ClientTrust) -> None:
    challenge = bytes(range(32))
    data = relay.runtime.document(challenge).encode()
    blind = dataclasses.replace(trust, clock=None)
    now = relay.runtime.clock()
    assert appraise_runtime(data, challenge, blind, asked=now, now=now).verified_at == now


@pytest.mark.parametrize("position", range(0, 12000, 331))
def test_a_flipped_byte_changes_nothing_that_is_believed(
    relay: object, trust: ClientTrust, position: int
) -> None:
    """Refused; or it hit a certificate that the client's own collateral replaces."""
    challenge = bytes(range(32))
    good = relay.runtime.document(challenge)
    data = bytearray(good.encode())
    data[position % data.index(b'"release"')] ^= 1
    now = relay.runtime.clock()
    try:
        runtime = appraise_runtime(bytes(data), challenge, trust, asked=now, now=now)
    except RegaliaError:
        return
    assert runtime.document.evidence.report == good.evidence.report
    assert dataclasses.replace(runtime.document, evidence=good.evidence) == good
    assert runtime.document.evidence.endorsements != good.evidence.endorsements


# Files ---------------------------------------------------------------------------------------


def test_trust_from_files(
    relay: object, trust: ClientTrust, platform: SnpSimulator, policy_file: Path
) -> None:
    folder = platform.collateral_directory
    loaded = load_trust(
        policy_file, collateral=folder, dangerous_simulated_anchor=folder / "ark.der"
    )
    assert loaded.policy == trust.policy
    assert loaded.verifier.anchors == trust.verifier.anchors
    found, wanted = loaded.verifier.collateral, trust.verifier.collateral
    assert set(found.certificates) == set(wanted.certificates)
    assert found.crls == wanted.crls
    verify(relay, dataclasses.replace(loaded, clock=trust.clock))
    assert loaded.clock().tzinfo is not None
    as_text = load_trust(
        str(policy_file),
        collateral=str(folder),
        dangerous_simulated_anchor=str(folder / "ark.der"),
    )
    assert as_text.policy == loaded.policy
    assert as_text.verifier.collateral.crls == found.crls


def test_simulation_must_be_asked_for_by_name(policy_file: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_trust(policy_file, collateral=None)
    assert caught.value.code.name == "DANGEROUS_NOT_ALLOWED"


def test_collateral_may_be_pem(platform: SnpSimulator, tmp_path: Path) -> None:
    def pem(label: str, der: bytes) -> str:
        text = b64(der)
        lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
        return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"

    chain = pem("CERTIFICATE", platform.ask) + pem("CERTIFICATE", platform.ark)
    (tmp_path / "chain.pem").write_text(chain)
    (tmp_path / "crl.pem").write_text(pem("X509 CRL", platform.crl))
    (tmp_path / "README.md").write_text("not collateral")
    loaded = load_collateral(tmp_path)
    assert loaded.certificates == (platform.ask, platform.ark)
    assert loaded.crls == (platform.crl,)
    (tmp_path / "bad.pem").write_text("-----BEGIN NOTHING-----\n")
    with pytest.raises(ParseError):
        load_collateral(tmp_path)


def test_freshness_needs_a_sane_clock(relay: object, trust: ClientTrust) -> None:
    runtime = verify(relay, trust)
    now = runtime.verified_at
    assert runtime.fresh(now)
    assert runtime.fresh(now - timedelta(seconds=60))
    assert not runtime.fresh(now - timedelta(seconds=121))
    assert runtime.fresh(now + timedelta(minutes=9))
    assert not runtime.fresh(now + timedelta(minutes=10))
