"""The whole release through HTTP, and every defect with the refusal that it deserves."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.core.codec import b64
from regalia.core.errors import IntegrityError
from regalia.core.types import Digest, ModelId, PolicyId
from regalia.crypto.sign import SigningKey
from regalia.tlog.note import verifier_key_text
from regalia.tlog.verify import verify_proof
from regalia.wire.evidence import Role
from regalia_testing.tees.snp.authority import SnpKeys
from regalia_testing.tees.snp.defects import SnpDefects
from regalia_testing.tees.snp.simulator import SnpSimulator
from tests.broker.harness import MODEL_KEY, Deviation, wrap_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.broker.harness import Deployment


OTHER = hashlib.sha256(b"other").digest()


def test_a_healthy_runtime_gets_the_key(deployment: Deployment) -> None:
    answer = deployment.ask()
    assert deployment.open(answer) == MODEL_KEY
    response = deployment.granted(answer)
    (record,) = deployment.records()
    logged = verify_proof(response.log, log_key=deployment.shared.log_key)
    assert logged.record == record
    assert (record.decision, record.hardware, record.custody) == ("release", "simulated", "broker")
    assert (record.model_id, record.model_version) == (str(deployment.model_id), 3)
    assert (record.policy_id, record.policy_version) == (str(deployment.policy.policy_id()), 5)
    assert record.lease_id == response.lease_id
    assert record.reasons == []
    assert "platform.hardware=dangerous_simulated" in record.wildcards
    assert MODEL_KEY not in answer.content


def test_the_released_key_is_bound_to_model_lease_and_entry(deployment: Deployment) -> None:
    answer = deployment.ask()
    for change in (
        {"lease_id": "lease:" + "0" * 32},
        {"record_index": 1},
        {"model_id": str(ModelId(OTHER))},
    ):
        with pytest.raises(IntegrityError, match="HPKE_OPEN_FAILED"):
            deployment.open(answer, **change)


UNGENUINE: list[tuple[str, Deviation, str]] = [
    ("bad signature", Deviation(defects=SnpDefects(bad_signature=True)), "SIGNATURE_INVALID"),
    ("stale nonce", Deviation(defects=SnpDefects(stale_nonce=True)), "NONCE_MISMATCH"),
    ("no report data", Deviation(defects=SnpDefects(zero_report_data=True)), "NONCE_MISMATCH"),
    ("masked chip", Deviation(defects=SnpDefects(mask_chip_id=True)), "LEAF_BINDING_MISMATCH"),
    ("no chain", Deviation(defects=SnpDefects(no_endorsements=True)), "COLLATERAL_MISSING"),
    ("wrong role", Deviation(role=Role.SERVE), "NONCE_MISMATCH"),
    ("other audience", Deviation(audience="log.evil.example"), "NONCE_MISMATCH"),
    ("other key", Deviation(bound_key=b"k" * 1216), "NONCE_MISMATCH"),
    ("other policy", Deviation(bound_policy=PolicyId(OTHER)), "NONCE_MISMATCH"),
    ("other model", Deviation(bound_model=ModelId(OTHER)), "NONCE_MISMATCH"),
    ("other devices", Deviation(bound_devices=Digest(OTHER)), "NONCE_MISMATCH"),
    (
        "other wrap key",
        Deviation(request={"wrap_public_key": b64(wrap_key("other"))}),
        "NONCE_MISMATCH",
    ),
    ("rubbish", Deviation(evidence=b"rubbish"), "MALFORMED"),
    ("empty evidence", Deviation(request={"evidence": ""}), "MALFORMED"),
    ("no base64", Deviation(request={"evidence": "?"}), "MALFORMED"),
    ("short key", Deviation(request={"hpke_public_key": b64(b"k" * 32)}), "MALFORMED"),
    ("bad key", Deviation(request={"hpke_public_key": b64(b"\xff" * 1216)}), "HPKE_KEY_MALFORMED"),
    ("no wrap key", Deviation(request={"wrap_public_key": ""}), "MALFORMED"),
    (
        "wrap key is none",
        Deviation(request={"wrap_public_key": b64(b"w" * 422)}),
        "WRAP_KEY_MALFORMED",
    ),
    (
        "small wrap key",
        Deviation(request={"wrap_public_key": b64(wrap_key("s", bits=2048))}),
        "WRAP_KEY_MALFORMED",
    ),
    (
        "wrap key with exponent 3",
        Deviation(request={"wrap_public_key": b64(wrap_key("e", exponent=3))}),
        "WRAP_KEY_MALFORMED",
    ),
    (
        "wrap key that goes on",
        Deviation(request={"wrap_public_key": b64(wrap_key("t") + b"x")}),
        "WRAP_KEY_MALFORMED",
    ),
    (
        "wrap key of another kind",
        Deviation(request={"wrap_public_key": b64(SigningKey.generate_ed25519().verify_key.spki)}),
        "WRAP_KEY_MALFORMED",
    ),
    ("big wrap key", Deviation(request={"wrap_public_key": b64(b"w" * 2000)}), "TOO_LARGE"),
    ("no version", Deviation(request={"model_version": 0}), "MALFORMED"),
    ("huge version", Deviation(request={"model_version": 1 << 70}), "MALFORMED"),
    ("no lease id", Deviation(request={"lease_id": "\x1b[31m"}), "MALFORMED"),
    ("asks other model", Deviation(request={"model_id": str(ModelId(OTHER))}), "REQUEST_MISMATCH"),
    (
        "asks other policy",
        Deviation(request={"policy_id": f"policy:{OTHER.hex()}"}),
        "REQUEST_MISMATCH",
    ),
    ("no model id", Deviation(request={"model_id": "model"}), "MALFORMED"),
]


@pytest.mark.parametrize(
    ("deviation", "code"), [case[1:] for case in UNGENUINE], ids=[case[0] for case in UNGENUINE]
)
def test_what_is_not_genuine_is_denied_and_logged(
    deployment: Deployment, deviation: Deviation, code: str
) -> None:
    assert deployment.denied(deployment.ask(deviation)) == [code]
    (record,) = deployment.records()
    # Of evidence that was not verified nothing is repeated as if it were known.
    assert record.hardware == "unverified"
    assert (record.measurement, record.chip_id, record.product, record.tee) == ("", "", "", "")
    assert record.model_version in {0, 3}
    assert record.lease_id == ""


def test_evidence_of_another_root(deployment: Deployment, tmp_path: Path) -> None:
    keys = deployment.shared.platform.authority.keys
    turned = SnpKeys(ark=keys.ask, ask=keys.asvk, asvk=keys.ark)
    other = SnpSimulator.create(tmp_path / "other", now=deployment.now, keys=turned)
    (code,) = deployment.denied(deployment.ask(Deviation(platform=other)))
    # Its certificates carry the same names, so the verifier may find our root above them first.
    assert code in {"ROOT_UNTRUSTED", "CHAIN_INVALID"}


def test_evidence_of_another_chip(deployment: Deployment, tmp_path: Path) -> None:
    keys = deployment.shared.platform.authority.keys
    other = SnpSimulator.create(tmp_path / "other", now=deployment.now, keys=keys)
    assert deployment.denied(deployment.ask(Deviation(platform=other))) == ["INSTANCE_NOT_ALLOWED"]


UNACCEPTABLE: list[tuple[str, Deviation, str]] = [
    ("debug", Deviation(defects=SnpDefects(debug=True)), "DEBUG_ENABLED"),
    ("migration", Deviation(defects=SnpDefects(migrate=True)), "MIGRATION_ALLOWED"),
    ("old tcb", Deviation(defects=SnpDefects(old_tcb=True)), "TCB_BELOW_MINIMUM"),
    ("vmpl", Deviation(defects=SnpDefects(vmpl=1)), "VMPL_MISMATCH"),
    ("measurement", Deviation(measurement=b"m" * 48), "MEASUREMENT_UNKNOWN"),
    (
        "alias check",
        Deviation(defects=SnpDefects(missing_alias_check=True)),
        "PLATFORM_FLAG_MISSING",
    ),
    ("provisional", Deviation(defects=SnpDefects(provisional_firmware=True)), "TCB_PROVISIONAL"),
    ("older model", Deviation(request={"model_version": 2}), "MODEL_ROLLBACK"),
    ("newer model", Deviation(request={"model_version": 4}), "MODEL_VERSION_MISMATCH"),
]


@pytest.mark.parametrize(
    ("deviation", "code"),
    [case[1:] for case in UNACCEPTABLE],
    ids=[case[0] for case in UNACCEPTABLE],
)
def test_what_is_not_acceptable_is_denied_and_logged(
    deployment: Deployment, deviation: Deviation, code: str
) -> None:
    assert code in deployment.denied(deployment.ask(deviation))
    (record,) = deployment.records()
    # It was verified, so the log says whose it was.
    assert record.hardware == "simulated"
    assert record.chip_id == deployment.shared.platform.hwid.hex()


def test_all_reasons_are_given_at_once(deployment: Deployment) -> None:
    weakest = Deviation(
        defects=SnpDefects(debug=True, vmpl=1), measurement=b"m" * 48, request={"model_version": 1}
    )
    codes = deployment.denied(deployment.ask(weakest))
    assert {"DEBUG_ENABLED", "VMPL_MISMATCH", "MEASUREMENT_UNKNOWN", "MODEL_ROLLBACK"} <= set(codes)


def test_a_configuration_that_trusts_another_log_or_owner(deployment: Deployment) -> None:
    config = deployment.runtime_config()
    for field in ("log_key", "owner_key"):
        changed: Any = msgspec.structs.replace(config, **{field: "evil+00000000+AAAA"})
        codes = deployment.denied(deployment.ask(Deviation(config=changed)))
        assert "HOST_DATA_UNKNOWN" in codes
        assert {"LOG_KEY_MISMATCH", "OWNER_KEY_MISMATCH"} & set(codes)


def test_a_configuration_that_trusts_a_log_of_another_name(
    make_deployment: Callable[..., Deployment],
) -> None:
    """Even where the policy accepts any log: the runtime would refuse what stands in this one."""
    deployment = make_deployment()
    runtime = msgspec.structs.replace(deployment.policy.runtime, log_key="any")
    other = verifier_key_text("log.other.example", deployment.shared.log_signer.verify_key)
    config = msgspec.structs.replace(deployment.runtime_config(), log_key=other)
    deployment = make_deployment(policy={"runtime": runtime})
    codes = deployment.denied(deployment.ask(Deviation(config=config)))
    assert "AUDIENCE_MISMATCH" in codes
    assert "LOG_KEY_MISMATCH" not in codes


def test_no_runtime_configuration_in_genuine_evidence(deployment: Deployment) -> None:
    asked = deployment.challenge()
    evidence = dataclasses.replace(deployment.evidence(asked), runtime_config=b"{}")
    answer = deployment.post(
        "/v1/release", deployment.request(asked, Deviation(evidence=evidence.encode()))
    )
    assert deployment.denied(answer) == ["MALFORMED"]
    assert deployment.records()[0].hardware == "simulated"
