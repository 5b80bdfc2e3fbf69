"""A broker on a signed bundle: its start, its releases, and a bundle that ends in between."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from regalia.appraisal.collateral_rule import NO_GRACE
from regalia.broker.app import create_app
from regalia.broker.assemble import Assembler
from regalia.broker.config import load_config
from regalia.cli.main import run
from regalia.core.errors import RegaliaError
from regalia.core.secret import SecretBytes
from regalia.crypto.sign import SigningKey
from regalia.host.clock import system_clock
from regalia.host.localfs import read_folder
from regalia.verifier.collateral import NO_FLOOR, make_bundle, sort_files, verify_bundle
from regalia.wire.deny_list import FORMAT as DENY_LIST_FORMAT
from regalia.wire.deny_list import DeniedIdentity, DeniedKey, DeniedSerial, DenyList
from regalia_testing.collateral import SITE
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from regalia.broker.assemble import ReadyBroker
    from regalia.wire.deny_list import Denied
    from tests.broker.harness import Deployment

DAY = timedelta(days=1)
KEYS = (SigningKey.generate_ed25519(), SigningKey.generate_p384())


def bundle(deployment: Deployment, *extra: DenyList, **changes: Any) -> bytes:  # noqa: ANN401
    folder = deployment.shared.platform.collateral_directory
    files = read_folder(folder, endings=(".der",), limit=1 << 20, most=9)
    files |= {f"{each.name}.json": each.encode() for each in extra}
    fields: dict[str, Any] = {
        "name": SITE,
        "serial": 5,
        "issued": deployment.now - DAY,
        "next_update": deployment.now + 9 * DAY,
        "tcb_evaluation_data_number": 0,
        "keys": KEYS,
    }
    return make_bundle(sort_files(files), **(fields | changes))


def use(deployment: Deployment, data: bytes) -> None:
    """Give the running broker this bundle in place of its folder."""
    found = verify_bundle(
        data,
        name=SITE,
        signers=tuple(key.verify_key for key in KEYS),
        threshold=2,
        floor=NO_FLOOR,
        now=deployment.now,
        grace=NO_GRACE,
    )
    appraiser = deployment.broker.appraiser
    verifier = dataclasses.replace(appraiser.verifier, collateral=found.collateral)
    appraiser = dataclasses.replace(appraiser, verifier=verifier)
    deployment.broker = dataclasses.replace(deployment.broker, appraiser=appraiser)
    deployment.app = create_app(deployment.broker, deployment.metrics, deployment.limits)


def with_grace(make_deployment: Callable[..., Deployment], days: int) -> Deployment:
    platform = make_deployment().policy.platform
    late = msgspec.structs.replace(platform, dangerous_collateral_grace_days=days)
    return make_deployment(policy={"platform": late})


# -- releases --------------------------------------------------------------------------------


def test_a_release_on_a_bundle(deployment: Deployment) -> None:
    use(deployment, bundle(deployment))
    deployment.granted(deployment.ask())
    (record,) = deployment.records()
    assert (record.decision, record.revocation) == ("release", "checked")


def test_a_bundle_that_ends_while_the_broker_runs(deployment: Deployment) -> None:
    use(deployment, bundle(deployment))
    deployment.granted(deployment.ask())
    deployment.pass_time(9 * DAY.total_seconds() + 1)
    assert deployment.refused(deployment.ask()).code == "COLLATERAL_STALE"
    assert [record.decision for record in deployment.records()] == ["release", "denial"]
    assert len(deployment.store.unwrapped) == 1


def test_grace_is_a_word_of_the_policy_and_logged(
    make_deployment: Callable[..., Deployment],
) -> None:
    deployment = with_grace(make_deployment, 3)
    use(deployment, bundle(deployment))
    deployment.granted(deployment.ask())
    deployment.pass_time(9 * DAY.total_seconds() + 1)
    deployment.granted(deployment.ask())
    deployment.pass_time(3 * DAY.total_seconds())
    assert deployment.refused(deployment.ask()).code == "COLLATERAL_STALE"
    word = "platform.dangerous_collateral_grace_days=3"
    records = deployment.records()
    assert [record.revocation for record in records] == ["checked", "grace", ""]
    assert [record.decision for record in records] == ["release", "release", "denial"]
    assert all(word in record.wildcards for record in records[:2])


def test_grace_for_a_list_in_a_current_bundle(make_deployment: Callable[..., Deployment]) -> None:
    """The same word covers the vendor's own dates."""
    deployment = with_grace(make_deployment, 3)
    crl_ends = 365 * DAY
    use(deployment, bundle(deployment, next_update=deployment.now + 2 * crl_ends))
    deployment.pass_time((crl_ends + 2 * DAY).total_seconds())
    deployment.granted(deployment.ask())
    deployment.pass_time((2 * DAY).total_seconds())
    assert deployment.refused(deployment.ask()).code == "CRL_STALE"
    assert [record.revocation for record in deployment.records()] == ["grace", ""]


# -- deny-lists ------------------------------------------------------------------------------


def denied(deployment: Deployment, entry: Denied) -> str:
    listed = DenyList(entries=[entry], format=DENY_LIST_FORMAT, name="stolen")
    use(deployment, bundle(deployment, listed))
    answer = deployment.ask()
    if answer.status_code == 200:
        return ""
    refusal = deployment.refused(answer)
    assert "theft" in refusal.what
    code: str = refusal.code
    return code


def test_a_stolen_machine_gets_no_key(deployment: Deployment) -> None:
    chip = deployment.shared.platform.hwid.hex()
    entry = DeniedIdentity(identity=chip, of="sev-snp", reason="theft")
    assert denied(deployment, entry) == "DEVICE_DENIED"
    assert (
        denied(deployment, DeniedIdentity(identity="ab" * 64, of="sev-snp", reason="theft")) == ""
    )


def test_a_denied_key_vouches_for_nothing(deployment: Deployment) -> None:
    from regalia.appraisal.pki import parse_certificate  # noqa: PLC0415
    from regalia.core.types import KeyFingerprint  # noqa: PLC0415

    asked = deployment.challenge()
    leaf, ask, _ = deployment.evidence(asked).endorsements
    for der in (leaf, ask):
        key = str(KeyFingerprint.of(parse_certificate(der, what="x").spki))
        assert denied(deployment, DeniedKey(key=key, reason="theft")) == "DEVICE_DENIED"
    ask_certificate = parse_certificate(ask, what="x")
    ark = KeyFingerprint.of(parse_certificate(deployment.shared.platform.ark, what="x").spki)
    serial = f"{ask_certificate.serial:x}"
    by_number = DeniedSerial(issuer=str(ark), serial=serial, reason="theft")
    assert denied(deployment, by_number) == "DEVICE_DENIED"


# -- the start -------------------------------------------------------------------------------


def start(deployment: Deployment, folder: Path, data: bytes | None, **changes: str) -> ReadyBroker:
    """Assemble a broker from files; ``data`` is the bundle."""
    settings = {
        "attest.collateral": '"site.bundle"',
        "attest.collateral_signers": '["a.pub", "b.pub"]',
        "attest.collateral_threshold": "2",
        "attest.collateral_name": f'"{SITE}"',
    }
    config = deployment.write_config(folder, **(settings | changes))
    for name, key in zip("ab", KEYS, strict=True):
        (folder / f"{name}.pub").write_bytes(key.verify_key.to_pem())
    if data is not None:
        (folder / "site.bundle").write_bytes(data)

    def ask(_what: str, _path: Path | None) -> SecretBytes:
        return SecretBytes(bytearray(deployment.shared.passphrase))

    return Assembler(load_config(config), folder, ask).assemble()


def test_a_start_on_a_bundle(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ready = start(deployment, tmp_path / "broker", bundle(deployment))
    ready.close()
    event = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert event["event"] == "collateral.loaded"
    assert (event["name"], event["serial"], event["freshness"]) == (SITE, 5, "current")


def test_what_check_says_of_a_bundle(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(deployment, tmp_path / "broker", bundle(deployment)).close()
    command = ["broker", "check", "--config", str(tmp_path / "broker/broker.toml")]
    capsys.readouterr()
    assert run([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["collateral"]
    assert (said["name"], said["serial"], len(said["signed_by"])) == (SITE, 5, 2)
    assert run(command) == 0
    assert said["digest"] in capsys.readouterr().out
    (tmp_path / "broker/site.bundle").write_bytes(bundle(deployment, keys=()))
    assert run(command) == 5


def test_starts_that_are_refused(deployment: Deployment, tmp_path: Path) -> None:
    good = bundle(deployment)
    now = system_clock()
    cases: list[tuple[str, bytes | None, dict[str, str]]] = [
        ("COLLATERAL_STALE", bundle(deployment, next_update=now - timedelta(seconds=5)), {}),
        ("COLLATERAL_STALE", bundle(deployment, issued=now + DAY), {}),
        ("COLLATERAL_SIG_INVALID", bundle(deployment, keys=KEYS[:1]), {}),
        ("COLLATERAL_SIG_INVALID", bundle(deployment, keys=()), {}),
        ("COLLATERAL_MISSING", bundle(deployment, name="other"), {}),
        ("MALFORMED", b"rubbish", {}),
        ("FILE_MISSING", None, {}),
        ("BAD_CONFIG", good, {"attest.collateral_signers": ""}),
        ("BAD_CONFIG", good, {"attest.collateral_name": ""}),
        ("BAD_CONFIG", good, {"attest.collateral_threshold": "0"}),
        ("BAD_CONFIG", good, {"attest.collateral_threshold": "3"}),
        ("FILE_MISSING", good, {"attest.collateral_signers": '["none.pub", "owner.pub"]'}),
        # Who can put a folder in the bundle's place gets nowhere.
        ("BAD_CONFIG", good, {"attest.collateral": '"."'}),
    ]
    for index, (code, data, changes) in enumerate(cases):
        folder = tmp_path / str(index)
        refused(code, lambda f=folder, d=data, c=changes: start(deployment, f, d, **c).close())


def test_a_late_bundle_starts_only_under_a_policy_that_says_so(
    make_deployment: Callable[..., Deployment], tmp_path: Path
) -> None:
    deployment = with_grace(make_deployment, 3)
    late = bundle(deployment, issued=deployment.now - 9 * DAY, next_update=deployment.now - 2 * DAY)
    ready = start(deployment, tmp_path / "late", late)
    assert any("up to 3 days late" in banner for banner in ready.banners)
    ready.close()
    later = bundle(
        deployment, issued=deployment.now - 9 * DAY, next_update=deployment.now - 4 * DAY
    )
    refused("COLLATERAL_STALE", lambda: start(deployment, tmp_path / "later", later).close())


def test_the_newest_bundle_is_remembered_over_restarts(
    deployment: Deployment, tmp_path: Path
) -> None:
    state = {"state.database": f'"sqlite:///{tmp_path}/state.db"'}

    def code(name: str, **changes: Any) -> str:  # noqa: ANN401
        try:
            start(deployment, tmp_path / name, bundle(deployment, **changes), **state).close()
        except RegaliaError as refusal:
            return refusal.code.name
        return ""

    assert code("first", serial=5, tcb_evaluation_data_number=17) == ""
    assert code("again", serial=5, tcb_evaluation_data_number=17) == ""
    assert code("second", serial=6, tcb_evaluation_data_number=17) == ""
    assert code("back", serial=5, tcb_evaluation_data_number=17) == "COLLATERAL_ROLLBACK"
    assert code("other", serial=6, tcb_evaluation_data_number=18) == "COLLATERAL_ROLLBACK"
    assert code("lower", serial=7, tcb_evaluation_data_number=16) == "COLLATERAL_ROLLBACK"
    assert code("third", serial=7, tcb_evaluation_data_number=18) == ""
