"""What a broker reads at its start: manifests, policies, approvals, collateral."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from regalia.broker.assemble import read_collateral
from regalia.broker.models import by_id, load_model
from regalia.core.clock import rfc3339
from regalia.core.errors import LocalError, ParseError, RegaliaError
from regalia.core.types import ModelId, PolicyId
from regalia.crypto import dsse
from regalia.crypto.sign import SigningKey
from regalia.policy.documents import Approvals
from regalia.policy.signed import sign_release_policy
from regalia.seal.format.manifest import PAYLOAD_TYPE, parse_manifest
from regalia.seal.manifest import countersign_manifest
from regalia.tlog.note import verifier_key_text
from regalia.wire import approval as approval_format
from regalia.wire.approval import Approval, parse_approval
from tests.broker.harness import ORIGIN, Deviation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.broker.harness import Deployment


def load(deployment: Deployment, **changes: Any) -> str:  # noqa: ANN401
    with pytest.raises(RegaliaError) as caught:
        load_model(
            deployment.model_files(**changes),
            store=deployment.store,
            log_key=deployment.shared.log_key,
        )
    return caught.value.code.name


def test_documents_of_another_owner(deployment: Deployment) -> None:
    other = SigningKey.generate_ed25519()
    assert load(deployment, owner_keys=(other.verify_key,)) == "SIGNER_UNKNOWN"
    assert load(deployment, owner_keys=()) == "SIGNER_UNKNOWN"
    assert (
        load(deployment, policy=sign_release_policy(deployment.policy, (other,)))
        == "SIGNER_UNKNOWN"
    )
    assert load(deployment, policy=sign_release_policy(deployment.policy, ())) == "UNSIGNED"
    assert load(deployment, policy=deployment.manifest) == "WRONG_PAYLOAD_TYPE"
    assert load(deployment, policy=b"{}") == "MALFORMED"
    assert load(deployment, manifest=b"") == "MALFORMED"
    both = (deployment.shared.owner.verify_key, other.verify_key)
    assert load(deployment, owner_keys=both, owner_threshold=2) == "SIGNER_UNKNOWN"
    manifest = dsse.parse_envelope(deployment.manifest, what="m")
    assert load(deployment, manifest=msgspec_envelope(manifest, other)) == "SIGNER_UNKNOWN"


def msgspec_envelope(envelope: dsse.Envelope, key: SigningKey) -> bytes:
    return dsse.sign(envelope.payload_type, envelope.unverified_payload, (key,)).encode()


def test_documents_that_do_not_belong_together(deployment: Deployment) -> None:
    owner = (deployment.shared.owner,)
    replace = msgspec.structs.replace
    model = replace(deployment.policy.model, id=str(ModelId(b"x" * 32)))
    other = sign_release_policy(replace(deployment.policy, model=model), owner)
    assert load(deployment, policy=other) == "POLICY_OTHER_MODEL"
    newer = replace(deployment.policy.model, version_minimum=4)
    other = sign_release_policy(replace(deployment.policy, model=newer), owner)
    assert load(deployment, policy=other) == "VERSION_ROLLBACK"
    runtime = replace(deployment.policy.runtime, log_key="log.other+00000000+AAAA")
    other = sign_release_policy(replace(deployment.policy, runtime=runtime), owner)
    assert load(deployment, policy=other) == "POLICY_OTHER_LOG"


def test_key_wrapped_by_another_kind_of_store(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(deployment.store), "wrap_algorithm", "pkcs11/aes-kwp")
    assert load(deployment) == "WRAP_UNKNOWN"


def test_a_policy_that_wants_signatures_for_long(deployment: Deployment, alice: SigningKey) -> None:
    """Whoever is trusted must sign with ML-DSA-65 too: owners, approvers and the log."""
    owner = SigningKey.generate_ml_dsa_65_ed25519()
    log = verifier_key_text(ORIGIN, SigningKey.generate_ml_dsa_65_ed25519().verify_key)
    content = msgspec.structs.replace
    wanted = content(
        deployment.policy,
        signatures="post-quantum",
        runtime=content(deployment.policy.runtime, log_key="any"),
    )
    manifest = dsse.parse_envelope(deployment.manifest, what="m")
    parsed = parse_manifest(manifest.unverified_payload)
    again = replace(parsed, signer=owner.verify_key.spki)
    rules: dict[str, Any] = {
        "policy": sign_release_policy(wanted, (owner,)),
        "manifest": dsse.sign(PAYLOAD_TYPE, again.encode(), (owner,)).encode(),
        "owner_keys": (owner.verify_key,),
    }

    def code(log_key: str, **changes: Any) -> str:  # noqa: ANN401
        files = deployment.model_files(**(rules | changes))
        try:
            load_model(files, store=deployment.store, log_key=log_key)
        except RegaliaError as exc:
            return exc.code.name
        return "served"

    assert code(log) == "served"
    assert code(deployment.log.log_key) == "SIGNATURES_CLASSICAL"
    assert code(log, approver_keys=(alice.verify_key,)) == "SIGNATURES_CLASSICAL"
    both = (owner.verify_key, alice.verify_key)
    assert code(log, owner_keys=both) == "SIGNATURES_CLASSICAL"
    assert code(log, policy=sign_release_policy(wanted, (alice,))) == "SIGNER_UNKNOWN"


def test_the_threshold_is_for_the_manifest_too(deployment: Deployment, alice: SigningKey) -> None:
    owner = deployment.shared.owner
    owners = (owner.verify_key, alice.verify_key)
    policy = sign_release_policy(deployment.policy, (owner, alice))
    rules: dict[str, Any] = {"policy": policy, "owner_keys": owners, "owner_threshold": 2}
    assert load(deployment, **rules) == "SIGNER_UNKNOWN"
    both = countersign_manifest(deployment.manifest, alice, owners=owners)
    files = deployment.model_files(**(rules | {"manifest": both}))
    model = load_model(files, store=deployment.store, log_key=deployment.log.log_key)
    assert model.version == 3
    with pytest.raises(RegaliaError, match="MALFORMED"):
        countersign_manifest(both, alice, owners=owners)  # it counts once
    with pytest.raises(RegaliaError, match="SIGNER_UNKNOWN"):
        countersign_manifest(deployment.manifest, owner, owners=(alice.verify_key,))
    stranger = SigningKey.generate_ed25519()
    other = countersign_manifest(deployment.manifest, stranger, owners=owners)
    assert load(deployment, **(rules | {"manifest": other})) == "SIGNER_UNKNOWN"


def test_one_seal_for_a_model(deployment: Deployment) -> None:
    (model,) = deployment.broker.models.values()
    with pytest.raises(RegaliaError, match="BAD_CONFIG"):
        by_id((model, model))


# -- approvals ------------------------------------------------------------------------------------


@pytest.fixture
def alice() -> SigningKey:
    return SigningKey.generate_ed25519()


@pytest.fixture
def bob() -> SigningKey:
    return SigningKey.generate_p384()


def approved(deployment: Deployment, *keys: SigningKey, **changes: Any) -> bytes:  # noqa: ANN401
    fields: dict[str, Any] = {
        "format": approval_format.FORMAT,
        "policy_id": str(deployment.policy.policy_id()),
        "model_id": str(deployment.model_id),
        "not_after": rfc3339(deployment.now + timedelta(hours=1)),
    }
    payload = Approval(**(fields | changes)).encode()
    return dsse.sign(approval_format.PAYLOAD_TYPE, payload, keys).encode()


@pytest.fixture
def guarded(
    make_deployment: Callable[..., Deployment], alice: SigningKey, bob: SigningKey
) -> Deployment:
    """A deployment whose policy wants both approvals."""
    both = [str(key.verify_key.fingerprint) for key in (alice, bob)]
    deployment = make_deployment(policy={"approvals": Approvals(threshold=2, approvers=both)})
    deployment.approvers = (alice, bob)
    return deployment


def codes(deployment: Deployment) -> list[str]:
    answer = deployment.ask()
    return [] if answer.status_code == 200 else [r.code for r in deployment.refused(answer).reasons]


def test_m_of_n_approvals(guarded: Deployment, alice: SigningKey, bob: SigningKey) -> None:
    assert codes(guarded) == ["APPROVALS_MISSING"]
    guarded.approvals = {"a": approved(guarded, alice), "a2": approved(guarded, alice)}
    guarded.restart()
    assert codes(guarded) == ["APPROVALS_MISSING"]  # one person counts once
    guarded.approvals["b"] = approved(guarded, bob)
    guarded.restart()
    assert codes(guarded) == []
    guarded.pass_time(3601)
    assert codes(guarded) == ["APPROVALS_MISSING"]  # approvals end


def test_two_signatures_on_one_statement(
    guarded: Deployment, alice: SigningKey, bob: SigningKey
) -> None:
    guarded.approvals = {"both": approved(guarded, alice, bob)}
    guarded.restart()
    assert codes(guarded) == []


def test_a_stranger_beside_an_approver_does_not_count(
    guarded: Deployment, alice: SigningKey
) -> None:
    guarded.approvals = {"a": approved(guarded, alice, SigningKey.generate_ed25519())}
    guarded.restart()
    assert codes(guarded) == ["APPROVALS_MISSING"]


def test_a_forged_signature_of_an_approver_whose_key_is_not_configured(
    guarded: Deployment, alice: SigningKey, bob: SigningKey
) -> None:
    """Bob is an approver in the policy; what stands under his name was never verified."""
    good = dsse.parse_envelope(approved(guarded, alice), what="approval")
    forged = (str(bob.verify_key.fingerprint), b"\x30" * 100)
    envelope = dsse.Envelope(good.payload_type, good.unverified_payload, (*good.signatures, forged))
    guarded.approvers = (alice,)
    guarded.approvals = {"both": envelope.encode()}
    guarded.restart()
    assert codes(guarded) == ["APPROVALS_MISSING"]
    guarded.approvers = (alice, bob)
    with pytest.raises(RegaliaError, match="SIGNATURE_INVALID"):
        guarded.restart()


def test_statements_that_do_not_count_are_refused(guarded: Deployment, alice: SigningKey) -> None:
    cases = [
        (approved(guarded, SigningKey.generate_ed25519()), "SIGNER_UNKNOWN"),
        (approved(guarded), "UNSIGNED"),
        (approved(guarded, alice, policy_id=str(PolicyId(b"p" * 32))), "APPROVAL_INVALID"),
        (approved(guarded, alice, model_id=str(ModelId(b"m" * 32))), "APPROVAL_INVALID"),
        (approved(guarded, alice, format="regalia/approval/v2"), "MALFORMED"),
        (approved(guarded, alice, not_after="tomorrow"), "MALFORMED"),
        (guarded.manifest, "WRONG_PAYLOAD_TYPE"),
        (b"rubbish", "MALFORMED"),
    ]
    for data, code in cases:
        assert load(guarded, approvals={"x": data}) == code


def test_approvals_with_no_approver_key(guarded: Deployment, alice: SigningKey) -> None:
    data = {"a": approved(guarded, alice)}
    assert load(guarded, approvals=data, approver_keys=()) == "SIGNER_UNKNOWN"


@given(st.binary(max_size=64), st.integers(0, 2**31))
def test_approval_round_trip(digest: bytes, seconds: int) -> None:
    from datetime import UTC, datetime  # noqa: PLC0415

    approval = Approval(
        format=approval_format.FORMAT,
        policy_id=str(PolicyId(digest.ljust(32, b".")[:32])),
        model_id=str(ModelId(digest.rjust(32, b".")[:32])),
        not_after=rfc3339(datetime.fromtimestamp(seconds, UTC)),
    )
    assert parse_approval(approval.encode()) == approval


# -- collateral -----------------------------------------------------------------------------------


def test_collateral_in_pem_and_der(deployment: Deployment, tmp_path: Path) -> None:
    platform = deployment.shared.platform
    folder = tmp_path / "collateral"
    folder.mkdir()
    chain = b"".join(
        x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
        for der in (platform.ask, platform.ark)
    )
    (folder / "chain.pem").write_bytes(chain)
    (folder / "asvk.crt").write_bytes(platform.asvk)
    (folder / "list.crl").write_bytes(platform.crl)
    (folder / "list.pem").write_bytes(
        x509.load_der_x509_crl(platform.crl).public_bytes(Encoding.PEM)
    )
    (folder / "README").write_text("not collateral")
    found = read_collateral(folder)
    assert sorted(found.certificates) == sorted((platform.ask, platform.ark, platform.asvk))
    assert found.crls == (platform.crl,)  # the same list in two files


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "FORM_UNKNOWN"),
        (b"rubbish", "FORM_UNKNOWN"),
        (b"-----BEGIN CERTIFICATE-----\n", "MALFORMED"),
        (b"-----BEGIN X509 CRL-----\nAA", "MALFORMED"),
    ],
)
def test_collateral_that_is_none(tmp_path: Path, data: bytes, code: str) -> None:
    (tmp_path / "x.pem").write_bytes(data)
    with pytest.raises(ParseError, match=code):
        read_collateral(tmp_path)


def test_collateral_folder(tmp_path: Path) -> None:
    assert read_collateral(tmp_path).certificates == ()  # and the verifier then refuses
    with pytest.raises(LocalError, match="FILE_MISSING"):
        read_collateral(tmp_path / "none")
    for number in range(1025):
        (tmp_path / f"{number}.der").write_bytes(b"")
    with pytest.raises(LocalError, match="TOO_LARGE"):
        read_collateral(tmp_path)


def test_no_collateral_and_no_crl_mean_no_release(deployment: Deployment, tmp_path: Path) -> None:
    import dataclasses  # noqa: PLC0415

    verifier = dataclasses.replace(
        deployment.broker.appraiser.verifier, collateral=read_collateral(tmp_path)
    )
    appraiser = dataclasses.replace(deployment.broker.appraiser, verifier=verifier)
    deployment.broker = dataclasses.replace(deployment.broker, appraiser=appraiser)
    from regalia.broker.app import create_app  # noqa: PLC0415

    deployment.app = create_app(deployment.broker, deployment.metrics, deployment.limits)
    refusal = deployment.refused(deployment.ask(Deviation()))
    assert refusal.code == "CRL_MISSING"
