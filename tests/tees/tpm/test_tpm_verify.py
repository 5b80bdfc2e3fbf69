"""A whole TPM appraisal: who vouches for the key, since when, and for what boot."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import CheckLog
from regalia.appraisal.claims import Hardware, Revocation
from regalia.appraisal.collateral_rule import CollateralRule, RevocationRule
from regalia.appraisal.config_binding import expected_slot
from regalia.appraisal.pki import Cache
from regalia.core.errors import AttestationError, ParseError
from regalia.tees.tpm.claims import AkBinding, workload_digest
from regalia.tees.tpm.evidence import TpmAnchors, TpmCollateral, parse, verify_genuine
from regalia.tees.tpm.evidence.document import parse_tpm_quote, qualifying_data
from regalia.tees.tpm.evidence.layout import HashAlg
from regalia.tees.tpm.evidence.plugin import TPM
from regalia.tees.tpm.evidence.public import Attribute
from regalia.tees.tpm.model import TpmModel
from regalia.wire.evidence import Tee
from regalia_testing.anchors import simulated_tpm_anchors
from regalia_testing.mutation import dropped, duplicated, every_flip, none_accepted, reordered
from regalia_testing.tees.boot.eventlog import SimulatedBoot
from regalia_testing.tees.tpm.authority import YEAR, TpmAuthority
from regalia_testing.tees.tpm.simulator import (
    REPORT_DATA,
    RESET_COUNT,
    RUNTIME_CONFIG,
    TpmSimulator,
    registers,
)
from regalia_testing.tees.tpm.testbed import TpmTestbed
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from regalia.tees.tpm.claims import TpmClaims
    from regalia.wire.evidence import Evidence

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ANY = CollateralRule(RevocationRule.ANY, timedelta(0))


@pytest.fixture(scope="module")
def testbed() -> TpmTestbed:
    return TpmTestbed.create(now=NOW)


def with_report(testbed: TpmTestbed, report: bytes) -> TpmTestbed:
    return replace(testbed, evidence=replace(testbed.evidence, report=report))


def with_tpm(testbed: TpmTestbed, tpm: TpmSimulator) -> TpmTestbed:
    return replace(testbed, evidence=tpm.evidence(REPORT_DATA))


def test_accepted(testbed: TpmTestbed) -> None:
    claims = testbed.verify()
    assert claims.tee is Tee.TPM
    assert claims.hardware is Hardware.GENUINE
    assert claims.revocation is Revocation.CHECKED
    assert claims.binding is AkBinding.ENROLMENT
    assert (claims.manufacturer, claims.model, claims.version) == (
        "id:58595A00",
        "XYZ 9000",
        "id:00070002",
    )
    assert claims.product == "XYZ 9000"
    assert claims.ak_name == testbed.tpm.ak.name
    assert (claims.reset_count, claims.enrolled_reset_count) == (RESET_COUNT, RESET_COUNT)
    assert claims.same_boot
    assert claims.report_data == qualifying_data(REPORT_DATA)
    assert claims.config_binding == expected_slot(Tee.TPM, RUNTIME_CONFIG)
    assert claims.guest == b"\x00\x00\x00\x07"
    assert len(claims.instance) == 32
    assert not claims.debug
    assert not claims.migratable
    assert claims.boot is not None
    assert claims.boot.secure_boot
    assert claims.boot.kernel_command_lines == ("/vmlinuz quiet",)
    assert claims.evidence_digest == testbed.evidence.digest()


def test_the_measurement_is_what_booted(testbed: TpmTestbed) -> None:
    claims = testbed.verify()
    assert claims.measurement == workload_digest("sha256", claims.pcrs)
    for pcr in (4, 8, 9, 11):
        other = {**claims.pcrs, pcr: b"\x05" * 32}
        assert workload_digest("sha256", other) != claims.measurement
    assert workload_digest("sha384", claims.pcrs) != claims.measurement


def test_the_sha384_bank(testbed: TpmTestbed) -> None:
    quote = testbed.tpm.quote(qualifying_data(REPORT_DATA), bank=HashAlg.SHA384)
    claims = with_report(testbed, quote.encode()).verify()
    assert claims.bank == "sha384"
    assert claims.boot is not None


def test_every_check_is_told(testbed: TpmTestbed) -> None:
    check_log = CheckLog()
    testbed.verify(check_log=check_log)
    names = [step.check.name for step in check_log.steps()]
    assert names == [
        "tpm/ak-attributes",
        "tpm/format",
        "tpm/scheme",
        "tpm/quote-signature",
        "tpm/ak-bound",
        "tpm/ek-chain",
        "tpm/reset-count",
        "tpm/selection",
        "tpm/pcr-digest",
        "tpm/event-log",
        "tpm/nonce",
    ]
    told = {step.check.name: (step.seen, step.wanted) for step in check_log.steps()}
    assert told["tpm/ak-attributes"][0] == "objectAttributes 0x00050072"
    assert told["tpm/reset-count"] == (str(RESET_COUNT), f"at least {RESET_COUNT}")


def test_what_is_remembered_is_what_was_proven(testbed: TpmTestbed) -> None:
    """The same collateral, warm: the same claims, the same steps, the same refusals."""
    prepared, cache = testbed.collateral.prepare(), Cache()

    def verify(evidence: Evidence, check_log: CheckLog) -> TpmClaims:
        return verify_fresh(
            TPM,
            evidence,
            anchors=testbed.anchors,
            collateral=prepared,
            report_data=REPORT_DATA,
            at=AppraisalContext(now=NOW, rule=testbed.rule, cache=cache, check_log=check_log),
        )

    trails = [CheckLog(), CheckLog()]
    cold, warm = (verify(testbed.evidence, check_log) for check_log in trails)
    assert cold == warm
    names = [[step.check.name for step in check_log.steps()] for check_log in trails]
    assert names[0] == names[1]
    other = SimulatedBoot(kernel=b"evil").pcr_log().encode()
    for evidence in (
        replace(testbed.evidence, event_log=other),
        replace(testbed.evidence, event_log=testbed.evidence.event_log[:-1]),
    ):
        with pytest.raises((AttestationError, ParseError)):
            verify(evidence, CheckLog())
    insecure = SimulatedBoot(secure_boot=b"\x00")
    rebooted = replace(testbed.tpm, boot=insecure, pcrs=registers(insecure))
    # The log that was replayed for other registers, before and after their own is known.
    stale = replace(rebooted.evidence(REPORT_DATA), event_log=testbed.evidence.event_log)
    with pytest.raises(AttestationError):
        verify(stale, CheckLog())
    boot = verify(rebooted.evidence(REPORT_DATA), CheckLog()).boot
    assert boot is not None
    assert boot.secure_boot is False
    with pytest.raises(AttestationError):
        verify(stale, CheckLog())


def test_other_report_data(testbed: TpmTestbed) -> None:
    assert replace(testbed, report_data=bytes(64)).code() == "NONCE_WELL_KNOWN"
    assert replace(testbed, report_data=b"\x01" * 64).code() == "NONCE_MISMATCH"
    with pytest.raises(ValueError, match="63 bytes"):
        replace(testbed, report_data=bytes(63)).verify()
    with pytest.raises(ValueError, match="time zone"):
        replace(testbed, now=datetime(2026, 11, 22)).verify()  # noqa: DTZ001 - to show it


def test_a_replay_is_genuine(testbed: TpmTestbed) -> None:
    genuine = verify_genuine(
        parse(testbed.evidence),
        anchors=testbed.anchors,
        collateral=testbed.collateral.prepare(),
        at=AppraisalContext(now=NOW, rule=testbed.rule, cache=Cache()),
    )
    assert genuine.dangerous_without_freshness().hardware is Hardware.GENUINE
    with pytest.raises(TypeError, match="claims come from"):
        replace(genuine, mint=None)


@pytest.mark.parametrize("part", ["quoted", "signature", "ak_public"])
def test_every_bit_counts(testbed: TpmTestbed, part: str) -> None:
    document = parse_tpm_quote(testbed.evidence.report)
    cache = Cache()
    none_accepted(
        lambda altered: with_report(testbed, replace(document, **{part: altered}).encode()).verify(
            cache
        ),
        every_flip(getattr(document, part)),
    )


def test_every_byte_of_the_event_log_that_is_measured_counts(testbed: TpmTestbed) -> None:
    """Types and labels are the log's word: a flip there may pass, and must prove nothing new."""
    log = testbed.evidence.event_log
    cache = Cache()
    honest = testbed.verify(cache).boot
    for what, altered in every_flip(log):
        changed = replace(testbed, evidence=replace(testbed.evidence, event_log=altered))
        try:
            claims = changed.verify(cache)
        except (AttestationError, ParseError):
            continue
        assert claims.boot is not None, what
        assert honest is not None
        assert claims.boot.secure_boot in {honest.secure_boot, None}, what


def test_an_event_log_of_another_boot(testbed: TpmTestbed) -> None:
    other = SimulatedBoot(kernel_command_line="/vmlinuz init=/bin/sh").pcr_log().encode()
    changed = replace(testbed, evidence=replace(testbed.evidence, event_log=other))
    assert changed.code() == "EVENTLOG_MISMATCH"
    assert (
        replace(testbed, evidence=replace(testbed.evidence, event_log=b"x")).code() == "MALFORMED"
    )


def test_without_an_event_log_there_are_no_facts(testbed: TpmTestbed) -> None:
    check_log = CheckLog()
    silent = replace(testbed, evidence=replace(testbed.evidence, event_log=b""))
    assert silent.verify(check_log=check_log).boot is None
    assert "tpm/event-log" not in [step.check.name for step in check_log.steps()]


def test_registers_that_the_system_goes_on_extending(testbed: TpmTestbed) -> None:
    """systemd extends PCR 11 after the log is closed: its sections then prove nothing."""
    boot = SimulatedBoot(uki_sections=((".linux", b"kernel"),))
    values = registers(boot)
    tpm = replace(testbed.tpm, boot=boot, pcrs=values)
    claims = with_tpm(testbed, tpm).verify()
    assert claims.boot is not None
    assert [name for name, _ in claims.boot.uki_sections] == [".linux"]
    values[HashAlg.SHA256][11] = b"\x0b" * 32
    claims = with_tpm(testbed, replace(tpm, pcrs=values)).verify()
    assert claims.boot is not None
    assert claims.boot.uki_sections == ()


@pytest.mark.parametrize(
    ("alter", "code"),
    [
        (lambda a: a & ~Attribute.RESTRICTED, "AK_NOT_RESTRICTED"),
        (lambda a: a & ~Attribute.FIXED_TPM, "AK_NOT_RESTRICTED"),
        (lambda a: a | Attribute.NO_DA, "AK_UNBOUND"),  # another name, so nobody's AK
    ],
)
def test_an_ak_that_was_not_enrolled_so(testbed: TpmTestbed, alter, code: str) -> None:  # noqa: ANN001 - of the list above
    ak = replace(testbed.tpm.ak, attributes=alter(testbed.tpm.ak.attributes))
    assert with_tpm(testbed, replace(testbed.tpm, ak=ak)).code() == code


def test_nobody_vouches(testbed: TpmTestbed) -> None:
    assert replace(testbed, collateral=TpmCollateral()).code() == "AK_UNBOUND"
    assert testbed.provided(enrolments=()).code() == "AK_UNBOUND"
    certificates = testbed.tpm.request().ek_certificates
    sent = replace(testbed, evidence=replace(testbed.evidence, endorsements=certificates))
    assert sent.provided(enrolments=()).code() == "AK_UNBOUND"


def test_another_machines_ak(testbed: TpmTestbed) -> None:
    other = TpmSimulator.create(testbed.tpm.authority)
    assert with_tpm(testbed, other).code() == "AK_UNBOUND"
    mixed = replace(testbed.tpm, ak_key=other.ak_key)  # under the enrolled name
    assert with_tpm(testbed, mixed).code() == "SIGNATURE_INVALID"


def test_another_root_of_the_same_name(testbed: TpmTestbed) -> None:
    other = TpmAuthority.create(now=NOW)
    assert testbed.provided(ek_roots=(other.root(),)).code() == "ROOT_UNTRUSTED"
    assert testbed.provided(ek_roots=()).code() == "ROOT_UNTRUSTED"
    both = testbed.provided(ek_roots=(other.root(), testbed.tpm.authority.root()))
    assert both.code() == ""


def test_an_ak_root_is_no_ek_root(testbed: TpmTestbed) -> None:
    swapped = testbed.provided(ek_roots=(), ak_roots=testbed.collateral.ek_roots)
    assert swapped.code() == "ROOT_UNTRUSTED"


def test_ek_certificates_that_came_along_are_those_enrolled(testbed: TpmTestbed) -> None:
    certificates = testbed.tpm.enrolment(NOW).ek_certificates
    testbed = testbed.enrolled(ek_certificates=certificates)

    def verify(sent: tuple[bytes, ...]) -> TpmClaims:
        return replace(testbed, evidence=replace(testbed.evidence, endorsements=sent)).verify()

    verify(certificates)
    mutants = [*dropped(certificates), *duplicated(certificates), *reordered(certificates)]
    assert none_accepted(verify, mutants) == {"ENROLMENT_MISMATCH"}


def test_every_certificate_of_an_enrolment_counts(testbed: TpmTestbed) -> None:
    enrolment, cache = testbed.tpm.enrolment(NOW), Cache()
    certificates = enrolment.ek_certificates

    def verify(enrolled: tuple[bytes, ...]) -> TpmClaims:
        altered = replace(enrolment, ek_certificates=enrolled).encode()
        return testbed.provided(enrolments=(altered,)).verify(cache)

    mutants = [*dropped(certificates), *duplicated(certificates), *reordered(certificates)]
    assert none_accepted(verify, mutants) == {"CHAIN_INVALID", "EK_UNSUITABLE", "ROOT_UNTRUSTED"}
    for place, der in enumerate(certificates):
        none_accepted(
            lambda altered, place=place: verify(
                (*certificates[:place], altered, *certificates[place + 1 :])
            ),
            every_flip(der),
        )


def test_an_enrolment_for_another_ek(testbed: TpmTestbed) -> None:
    other = TpmSimulator.create(testbed.tpm.authority)
    assert testbed.enrolled(ek_public=other.ek.encode()).code() == "LEAF_BINDING_MISMATCH"


def test_an_enrolment_that_says_more_than_its_certificate(testbed: TpmTestbed) -> None:
    flattering = TpmModel("id:49465800", "SLB9672", "id:1")
    assert testbed.enrolled(model=flattering).code() == "ENROLMENT_MISMATCH"
    assert testbed.enrolled(hardware=Hardware.SIMULATED).code() == "ENROLMENT_MISMATCH"


def test_one_ak_enrolled_twice(testbed: TpmTestbed) -> None:
    twice = testbed.collateral.enrolments * 2
    with pytest.raises(ParseError, match="twice"):
        testbed.provided(enrolments=twice).verify()


def test_fewer_resets_than_at_enrolment(testbed: TpmTestbed) -> None:
    assert testbed.enrolled(reset_count=RESET_COUNT + 1).code() == "TPM_RESET_COUNT"
    rebooted = testbed.enrolled(reset_count=RESET_COUNT - 1).verify()
    assert not rebooted.same_boot
    assert rebooted.enrolled_reset_count == RESET_COUNT - 1


def test_simulated_anchors(testbed: TpmTestbed) -> None:
    root = testbed.tpm.authority.root()
    simulated = replace(testbed, anchors=simulated_tpm_anchors(root))
    assert simulated.verify().hardware is Hardware.SIMULATED
    assert simulated.provided(ek_roots=()).verify().hardware is Hardware.SIMULATED
    other = simulated_tpm_anchors(TpmAuthority.create(now=NOW).root())
    assert replace(testbed, anchors=other).code() == "ROOT_UNTRUSTED"
    with pytest.raises(ParseError):
        simulated_tpm_anchors(b"")
    with pytest.raises(TypeError, match="production"):
        TpmAnchors(Hardware.GENUINE, b"", object())


def test_a_warm_cache_refuses_the_same(testbed: TpmTestbed) -> None:
    cache = Cache()
    testbed.verify(cache)
    other = testbed.provided(ek_roots=(TpmAuthority.create(now=NOW).root(),))
    with pytest.raises(AttestationError):
        other.verify(cache)
    later = replace(testbed, now=NOW + 30 * YEAR, rule=ANY)
    with pytest.raises(AttestationError) as refusal:
        later.verify(cache)
    assert refusal.value.code.name == "CERT_EXPIRED"
    testbed.verify(cache)


def test_two_banks_of_values(testbed: TpmTestbed) -> None:
    document = parse_tpm_quote(testbed.evidence.report)
    both = replace(document, pcrs={**document.pcrs, HashAlg.SHA384: {}})
    assert with_report(testbed, both.encode()).code() == "QUOTE_SELECTION"
    assert with_report(testbed, replace(document, pcrs={}).encode()).code() == "QUOTE_SELECTION"
