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
from regalia.tlog.verify import verify_proof
from regalia.wire.evidence import Role
from regalia_testing.tees.snp.authority import AuthorityKeys
from regalia_testing.tees.snp.defects import SnpDefects
from regalia_testing.tees.snp.simulator import SimulatedPlatform
from tests.broker.harness import MODEL_KEY, Deviation

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.harness import World


OTHER = hashlib.sha256(b"other").digest()


def test_a_healthy_runtime_gets_the_key(world: World) -> None:
    answer = world.ask()
    assert world.open(answer) == MODEL_KEY
    response = world.granted(answer)
    (record,) = world.records()
    logged = verify_proof(response.log, log_key=world.shared.log_key)
    assert logged.record == record
    assert (record.decision, record.hardware, record.custody) == ("release", "simulated", "broker")
    assert (record.model_id, record.model_version) == (str(world.model_id), 3)
    assert (record.policy_id, record.policy_version) == (str(world.policy.policy_id()), 5)
    assert record.lease_id == response.lease_id
    assert record.reasons == []
    assert "platform.hardware=dangerous_simulated" in record.wildcards
    assert MODEL_KEY not in answer.content


def test_the_released_key_is_bound_to_model_lease_and_entry(world: World) -> None:
    answer = world.ask()
    for change in (
        {"lease_id": "lease:" + "0" * 32},
        {"record_index": 1},
        {"model_id": str(ModelId(OTHER))},
    ):
        with pytest.raises(IntegrityError, match="HPKE_OPEN_FAILED"):
            world.open(answer, **change)


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
    ("other wrap key", Deviation(request={"wrap_public_key": b64(b"w" * 422)}), "NONCE_MISMATCH"),
    ("rubbish", Deviation(evidence=b"rubbish"), "MALFORMED"),
    ("empty evidence", Deviation(request={"evidence": ""}), "MALFORMED"),
    ("no base64", Deviation(request={"evidence": "?"}), "MALFORMED"),
    ("short key", Deviation(request={"hpke_public_key": b64(b"k" * 32)}), "MALFORMED"),
    ("bad key", Deviation(request={"hpke_public_key": b64(b"\xff" * 1216)}), "HPKE_KEY_MALFORMED"),
    ("no wrap key", Deviation(request={"wrap_public_key": ""}), "MALFORMED"),
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
    world: World, deviation: Deviation, code: str
) -> None:
    assert world.denied(world.ask(deviation)) == [code]
    (record,) = world.records()
    # Of evidence that was not verified nothing is repeated as if it were known.
    assert record.hardware == "unverified"
    assert (record.measurement, record.chip_id, record.product, record.tee) == ("", "", "", "")
    assert record.model_version in {0, 3}
    assert record.lease_id == ""


def test_evidence_of_another_root(world: World, tmp_path: Path) -> None:
    keys = world.shared.platform.authority.keys
    turned = AuthorityKeys(ark=keys.ask, ask=keys.asvk, asvk=keys.ark)
    other = SimulatedPlatform.create(tmp_path / "other", now=world.now, keys=turned)
    (code,) = world.denied(world.ask(Deviation(platform=other)))
    # Its certificates carry the same names, so the verifier may find our root above them first.
    assert code in {"ROOT_UNTRUSTED", "CHAIN_INVALID"}


def test_evidence_of_another_chip(world: World, tmp_path: Path) -> None:
    keys = world.shared.platform.authority.keys
    other = SimulatedPlatform.create(tmp_path / "other", now=world.now, keys=keys)
    assert world.denied(world.ask(Deviation(platform=other))) == ["INSTANCE_NOT_ALLOWED"]


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
    world: World, deviation: Deviation, code: str
) -> None:
    assert code in world.denied(world.ask(deviation))
    (record,) = world.records()
    # It was verified, so the log says whose it was.
    assert record.hardware == "simulated"
    assert record.chip_id == world.shared.platform.hwid.hex()


def test_all_reasons_are_given_at_once(world: World) -> None:
    weakest = Deviation(
        defects=SnpDefects(debug=True, vmpl=1), measurement=b"m" * 48, request={"model_version": 1}
    )
    codes = world.denied(world.ask(weakest))
    assert {"DEBUG_ENABLED", "VMPL_MISMATCH", "MEASUREMENT_UNKNOWN", "MODEL_ROLLBACK"} <= set(codes)


def test_a_configuration_that_trusts_another_log_or_owner(world: World) -> None:
    config = world.runtime_config()
    for field in ("log_key", "owner_key"):
        changed: Any = msgspec.structs.replace(config, **{field: "evil+00000000+AAAA"})
        codes = world.denied(world.ask(Deviation(config=changed)))
        assert "HOST_DATA_UNKNOWN" in codes
        assert {"LOG_KEY_MISMATCH", "OWNER_KEY_MISMATCH"} & set(codes)


def test_no_runtime_configuration_in_genuine_evidence(world: World) -> None:
    asked = world.challenge()
    evidence = dataclasses.replace(world.evidence(asked), runtime_config=b"{}")
    answer = world.post("/v1/release", world.request(asked, Deviation(evidence=evidence.encode())))
    assert world.denied(answer) == ["MALFORMED"]
    assert world.records()[0].hardware == "simulated"
