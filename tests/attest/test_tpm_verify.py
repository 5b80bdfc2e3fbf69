"""A whole TPM appraisal: who vouches for the key, since when, and for what boot."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from regalia.attest.circumstances import Circumstances
from regalia.attest.pki import Cache
from regalia.attest.rules import CollateralRule, RevocationRule
from regalia.attest.tpm import Anchors, TpmCollateral, verify_genuine, verify_tpm
from regalia.attest.trail import Trail
from regalia.core.errors import AttestationError, ParseError
from regalia.formats.claims import Hardware, Revocation
from regalia.formats.claims_tpm import AkBinding, workload_digest
from regalia.formats.config_slot import expected_slot
from regalia.formats.evidence import Tee
from regalia.formats.tpm_model import TpmModel
from regalia.formats.tpm_public import Attribute
from regalia.formats.tpm_quote import parse_tpm_quote, qualifying_data
from regalia.formats.tpm_wire import HashAlg
from regalia.testing.eventlog import SimulatedBoot
from regalia.testing.mutation import dropped, duplicated, every_flip, none_accepted, reordered
from regalia.testing.tpm import REPORT_DATA, RESET_COUNT, RUNTIME_CONFIG, SimulatedTpm, registers
from regalia.testing.tpm_authority import HARDWARE_TPM, SOFTWARE_TPM, YEAR, LeafSpec, TpmAuthority
from regalia.testing.tpm_scene import TpmScene

if TYPE_CHECKING:
    from regalia.formats.claims_tpm import TpmClaims
    from regalia.formats.evidence import Evidence

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ANY = CollateralRule(RevocationRule.ANY, timedelta(0))


@pytest.fixture(scope="module")
def scene() -> TpmScene:
    return TpmScene.create(now=NOW)


def with_report(scene: TpmScene, report: bytes) -> TpmScene:
    return replace(scene, evidence=replace(scene.evidence, report=report))


def with_tpm(scene: TpmScene, tpm: SimulatedTpm) -> TpmScene:
    return replace(scene, evidence=tpm.evidence(REPORT_DATA))


def test_accepted(scene: TpmScene) -> None:
    claims = scene.verify()
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
    assert claims.ak_name == scene.tpm.ak.name
    assert (claims.reset_count, claims.enrolled_reset_count) == (RESET_COUNT, RESET_COUNT)
    assert claims.same_boot
    assert claims.report_data == qualifying_data(REPORT_DATA)
    assert claims.config_slot == expected_slot(Tee.TPM, RUNTIME_CONFIG)
    assert claims.guest == b"\x00\x00\x00\x07"
    assert len(claims.instance) == 32
    assert not claims.debug
    assert not claims.migratable
    assert claims.boot is not None
    assert claims.boot.secure_boot
    assert claims.boot.kernel_command_lines == ("/vmlinuz quiet",)
    assert claims.evidence_digest == scene.evidence.digest()


def test_the_measurement_is_what_booted(scene: TpmScene) -> None:
    claims = scene.verify()
    assert claims.measurement == workload_digest("sha256", claims.pcrs)
    for pcr in (4, 8, 9, 11):
        other = {**claims.pcrs, pcr: b"\x05" * 32}
        assert workload_digest("sha256", other) != claims.measurement
    assert workload_digest("sha384", claims.pcrs) != claims.measurement


def test_the_sha384_bank(scene: TpmScene) -> None:
    quote = scene.tpm.quote(qualifying_data(REPORT_DATA), bank=HashAlg.SHA384)
    claims = with_report(scene, quote.encode()).verify()
    assert claims.bank == "sha384"
    assert claims.boot is not None


def test_every_check_is_told(scene: TpmScene) -> None:
    trail = Trail()
    scene.verify(trail=trail)
    names = [step.check.name for step in trail.steps()]
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


def test_what_is_remembered_is_what_was_proven(scene: TpmScene) -> None:
    """The same collateral, warm: the same claims, the same steps, the same refusals."""
    prepared, cache = scene.collateral.prepare(), Cache()

    def verify(evidence: Evidence, trail: Trail) -> TpmClaims:
        return verify_tpm(
            evidence,
            anchors=scene.anchors,
            collateral=prepared,
            report_data=REPORT_DATA,
            at=Circumstances(now=NOW, rule=scene.rule, cache=cache, trail=trail),
        )

    trails = [Trail(), Trail()]
    cold, warm = (verify(scene.evidence, trail) for trail in trails)
    assert cold == warm
    names = [[step.check.name for step in trail.steps()] for trail in trails]
    assert names[0] == names[1]
    other = SimulatedBoot(kernel=b"evil").pcr_log().encode()
    for evidence in (
        replace(scene.evidence, event_log=other),
        replace(scene.evidence, event_log=scene.evidence.event_log[:-1]),
    ):
        with pytest.raises((AttestationError, ParseError)):
            verify(evidence, Trail())
    insecure = SimulatedBoot(secure_boot=b"\x00")
    rebooted = replace(scene.tpm, boot=insecure, pcrs=registers(insecure))
    boot = verify(rebooted.evidence(REPORT_DATA), Trail()).boot
    assert boot is not None
    assert boot.secure_boot is False
    stale = replace(rebooted.evidence(REPORT_DATA), event_log=scene.evidence.event_log)
    with pytest.raises(AttestationError):
        verify(stale, Trail())


def test_other_report_data(scene: TpmScene) -> None:
    assert replace(scene, report_data=bytes(64)).code() == "NONCE_WELL_KNOWN"
    assert replace(scene, report_data=b"\x01" * 64).code() == "NONCE_MISMATCH"
    with pytest.raises(ValueError, match="63 bytes"):
        replace(scene, report_data=bytes(63)).verify()
    with pytest.raises(ValueError, match="time zone"):
        replace(scene, now=datetime(2026, 11, 22)).verify()  # noqa: DTZ001 - to show it


def test_a_replay_is_genuine(scene: TpmScene) -> None:
    genuine = verify_genuine(
        scene.evidence,
        anchors=scene.anchors,
        collateral=scene.collateral.prepare(),
        at=Circumstances(now=NOW, rule=scene.rule, cache=Cache()),
    )
    assert genuine.hardware is Hardware.GENUINE
    with pytest.raises(TypeError, match="verify_genuine"):
        replace(genuine, mint=None)


@pytest.mark.parametrize("part", ["quoted", "signature", "ak_public"])
def test_every_bit_counts(scene: TpmScene, part: str) -> None:
    document = parse_tpm_quote(scene.evidence.report)
    cache = Cache()
    none_accepted(
        lambda altered: with_report(scene, replace(document, **{part: altered}).encode()).verify(
            cache
        ),
        every_flip(getattr(document, part)),
    )


def test_every_byte_of_the_event_log_that_is_measured_counts(scene: TpmScene) -> None:
    """Types and labels are the log's word: a flip there may pass, and must prove nothing new."""
    log = scene.evidence.event_log
    cache = Cache()
    honest = scene.verify(cache).boot
    for what, altered in every_flip(log):
        changed = replace(scene, evidence=replace(scene.evidence, event_log=altered))
        try:
            claims = changed.verify(cache)
        except (AttestationError, ParseError):
            continue
        assert claims.boot is not None, what
        assert honest is not None
        assert claims.boot.secure_boot in {honest.secure_boot, None}, what


def test_an_event_log_of_another_boot(scene: TpmScene) -> None:
    other = SimulatedBoot(kernel_command_line="/vmlinuz init=/bin/sh").pcr_log().encode()
    changed = replace(scene, evidence=replace(scene.evidence, event_log=other))
    assert changed.code() == "EVENTLOG_MISMATCH"
    assert replace(scene, evidence=replace(scene.evidence, event_log=b"x")).code() == "MALFORMED"


def test_without_an_event_log_there_are_no_facts(scene: TpmScene) -> None:
    trail = Trail()
    silent = replace(scene, evidence=replace(scene.evidence, event_log=b""))
    assert silent.verify(trail=trail).boot is None
    assert "tpm/event-log" not in [step.check.name for step in trail.steps()]


def test_registers_that_the_system_goes_on_extending(scene: TpmScene) -> None:
    """systemd extends PCR 11 after the log is closed: its sections then prove nothing."""
    boot = SimulatedBoot(uki_sections=((".linux", b"kernel"),))
    values = registers(boot)
    tpm = replace(scene.tpm, boot=boot, pcrs=values)
    claims = with_tpm(scene, tpm).verify()
    assert claims.boot is not None
    assert [name for name, _ in claims.boot.uki_sections] == [".linux"]
    values[HashAlg.SHA256][11] = b"\x0b" * 32
    claims = with_tpm(scene, replace(tpm, pcrs=values)).verify()
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
def test_an_ak_that_was_not_enrolled_so(scene: TpmScene, alter, code: str) -> None:  # noqa: ANN001 - of the list above
    ak = replace(scene.tpm.ak, attributes=alter(scene.tpm.ak.attributes))
    assert with_tpm(scene, replace(scene.tpm, ak=ak)).code() == code


def test_nobody_vouches(scene: TpmScene) -> None:
    assert replace(scene, collateral=TpmCollateral()).code() == "AK_UNBOUND"
    assert scene.provided(enrolments=()).code() == "AK_UNBOUND"
    certificates = scene.tpm.request().ek_certificates
    sent = replace(scene, evidence=replace(scene.evidence, endorsements=certificates))
    assert sent.provided(enrolments=()).code() == "AK_UNBOUND"


def test_another_machines_ak(scene: TpmScene) -> None:
    other = SimulatedTpm.create(scene.tpm.authority)
    assert with_tpm(scene, other).code() == "AK_UNBOUND"
    mixed = replace(scene.tpm, ak_key=other.ak_key)  # under the enrolled name
    assert with_tpm(scene, mixed).code() == "SIGNATURE_INVALID"


def test_another_root_of_the_same_name(scene: TpmScene) -> None:
    other = TpmAuthority.create(now=NOW)
    assert scene.provided(ek_roots=(other.root(),)).code() == "ROOT_UNTRUSTED"
    assert scene.provided(ek_roots=()).code() == "ROOT_UNTRUSTED"
    both = scene.provided(ek_roots=(other.root(), scene.tpm.authority.root()))
    assert both.code() == ""


def test_an_ak_root_is_no_ek_root(scene: TpmScene) -> None:
    swapped = scene.provided(ek_roots=(), ak_roots=scene.collateral.ek_roots)
    assert swapped.code() == "ROOT_UNTRUSTED"


def test_ek_certificates_that_came_along_are_those_enrolled(scene: TpmScene) -> None:
    certificates = scene.tpm.enrolment(NOW).ek_certificates
    scene = scene.enrolled(ek_certificates=certificates)

    def verify(sent: tuple[bytes, ...]) -> TpmClaims:
        return replace(scene, evidence=replace(scene.evidence, endorsements=sent)).verify()

    verify(certificates)
    mutants = [*dropped(certificates), *duplicated(certificates), *reordered(certificates)]
    assert none_accepted(verify, mutants) == {"ENROLMENT_MISMATCH"}


def test_every_certificate_of_an_enrolment_counts(scene: TpmScene) -> None:
    certificates = scene.tpm.enrolment(NOW).ek_certificates

    def verify(enrolled: tuple[bytes, ...]) -> TpmClaims:
        return scene.enrolled(ek_certificates=enrolled).verify()

    mutants = [*dropped(certificates), *duplicated(certificates), *reordered(certificates)]
    assert none_accepted(verify, mutants)
    for place, der in enumerate(certificates):
        none_accepted(
            lambda altered, place=place: verify(
                (*certificates[:place], altered, *certificates[place + 1 :])
            ),
            every_flip(der),
        )


def test_an_enrolment_for_another_ek(scene: TpmScene) -> None:
    other = SimulatedTpm.create(scene.tpm.authority)
    assert scene.enrolled(ek_public=other.ek.encode()).code() == "LEAF_BINDING_MISMATCH"


def test_an_enrolment_that_says_more_than_its_certificate(scene: TpmScene) -> None:
    flattering = TpmModel("id:49465800", "SLB9672", "id:1")
    assert scene.enrolled(model=flattering).code() == "ENROLMENT_MISMATCH"
    assert scene.enrolled(hardware=Hardware.SIMULATED).code() == "ENROLMENT_MISMATCH"


def test_one_ak_enrolled_twice(scene: TpmScene) -> None:
    twice = scene.collateral.enrolments * 2
    with pytest.raises(ParseError, match="twice"):
        scene.provided(enrolments=twice).verify()


def test_fewer_resets_than_at_enrolment(scene: TpmScene) -> None:
    assert scene.enrolled(reset_count=RESET_COUNT + 1).code() == "TPM_RESET_COUNT"
    rebooted = scene.enrolled(reset_count=RESET_COUNT - 1).verify()
    assert not rebooted.same_boot
    assert rebooted.enrolled_reset_count == RESET_COUNT - 1


def ek_scene(scene: TpmScene, spec: LeafSpec, model: TpmModel | None = None) -> TpmScene:
    authority = scene.tpm.authority
    certificates = (authority.leaf(spec), authority.issuer())
    changes: dict[str, object] = {"ek_certificates": certificates}
    if model is not None:
        changes |= {"model": model, "hardware": Hardware.SIMULATED}
    return scene.enrolled(**changes)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ""),
        ({"usage": "2.23.133.8.3"}, "EK_UNSUITABLE"),
        ({"usage": ""}, "EK_UNSUITABLE"),
        ({"usage": "1.3.6.1.5.5.7.3.2"}, "EK_UNSUITABLE"),
        ({"key_usages": ("digital_signature",)}, "EK_UNSUITABLE"),
        ({"key_usages": ("key_encipherment",)}, "EK_UNSUITABLE"),  # RSA's word on an ECC key
        ({"key_usages": ("key_agreement", "key_cert_sign")}, "EK_UNSUITABLE"),
        ({"key_usages": ()}, "EK_UNSUITABLE"),
        ({"model": None}, "EK_UNSUITABLE"),
        ({"ca": True}, "EK_UNSUITABLE"),
        ({"critical": "1.2.3.4"}, "CHAIN_INVALID"),
        ({"life": YEAR / 2}, "CERT_EXPIRED"),
        ({"age": -YEAR}, "CERT_NOT_YET_VALID"),
    ],
)
def test_ek_certificates(scene: TpmScene, changes: dict[str, object], code: str) -> None:
    spec = replace(LeafSpec.ek(scene.tpm.ek_key.public_key()), **changes)  # type: ignore[arg-type] # of the list above
    assert ek_scene(scene, spec).code() == code


def test_an_rsa_ek_and_an_unknown_kind_of_key(scene: TpmScene) -> None:
    spec = LeafSpec.ek(rsa.generate_private_key(65537, 2048).public_key())
    assert ek_scene(scene, spec).code() == "LEAF_BINDING_MISMATCH"
    spec = replace(spec, key=ec.generate_private_key(ec.SECP256R1()).public_key())
    assert ek_scene(scene, spec).code() == "EK_UNSUITABLE"


@pytest.mark.parametrize(
    "model",
    [
        SOFTWARE_TPM,
        replace(HARDWARE_TPM, model="SWTPM "),
        replace(HARDWARE_TPM, model="libtpms"),
        replace(HARDWARE_TPM, manufacturer="ID:00001014"),
    ],
)
def test_a_software_tpm_is_simulated_whoever_vouches(scene: TpmScene, model: TpmModel) -> None:
    spec = replace(LeafSpec.ek(scene.tpm.ek_key.public_key()), model=model)
    assert ek_scene(scene, spec, model).verify().hardware is Hardware.SIMULATED


def test_issuers_are_authorities(scene: TpmScene) -> None:
    authority = scene.tpm.authority
    for issuer, code in (
        (authority.issuer(ca=False), "CHAIN_INVALID"),
        (authority.issuer(path_length=None), ""),
    ):
        certificates = (scene.tpm.ek_certificate, issuer)
        assert scene.enrolled(ek_certificates=certificates).code() == code
    short = scene.provided(ek_roots=(authority.root(path_length=0),))
    assert short.code() == "CHAIN_INVALID"


def test_the_issuer_may_come_with_the_collateral(scene: TpmScene) -> None:
    alone = scene.enrolled(ek_certificates=(scene.tpm.ek_certificate,))
    assert alone.code() == "ROOT_UNTRUSTED"
    assert alone.provided(intermediates=(scene.tpm.authority.issuer(),)).code() == ""


def test_an_issuer_of_the_right_name_with_another_key(scene: TpmScene) -> None:
    authority = scene.tpm.authority
    impostor = replace(authority, issuer_key=ec.generate_private_key(ec.SECP384R1()))
    certificates = (scene.tpm.ek_certificate, impostor.issuer())
    assert scene.enrolled(ek_certificates=certificates).code() == "CHAIN_INVALID"


def test_revocation(scene: TpmScene) -> None:
    authority = scene.tpm.authority
    assert scene.provided(crls=()).code() == "CRL_MISSING"
    assert scene.provided(crls=authority.crls()[:1]).code() == "CRL_MISSING"
    assert scene.provided(crls=authority.crls()[1:]).code() == "CRL_MISSING"
    assert scene.provided(crls=authority.crls(revoked=4711)).code() == "CERT_REVOKED"
    assert scene.provided(crls=authority.crls(revoked=1000)).code() == "CERT_REVOKED"
    late = scene.provided(crls=authority.crls(age=timedelta(days=31)))
    assert late.code() == "CRL_STALE"
    forged = replace(authority, issuer_key=ec.generate_private_key(ec.SECP384R1()))
    assert scene.provided(crls=forged.crls()).code() == "CRL_SIG_INVALID"
    lenient = CollateralRule(RevocationRule.REQUIRED, timedelta(days=2))
    assert replace(late, rule=lenient).verify().revocation is Revocation.GRACE
    assert replace(late, rule=ANY).verify().revocation is Revocation.UNKNOWN
    assert replace(scene.provided(crls=()), rule=ANY).verify().revocation is Revocation.UNKNOWN
    revoked = replace(scene.provided(crls=authority.crls(revoked=4711)), rule=ANY)
    assert revoked.code() == "CERT_REVOKED"


def ak_scene(scene: TpmScene, spec: LeafSpec) -> TpmScene:
    """Bound by an AK certificate in place of an enrolment."""
    authority = scene.tpm.authority
    certificates = (authority.leaf(spec), authority.issuer())
    return replace(
        scene.provided(enrolments=(), ek_roots=(), ak_roots=(authority.root(),)),
        evidence=replace(scene.evidence, endorsements=certificates),
    )


def ak_spec(scene: TpmScene) -> LeafSpec:
    return LeafSpec.ak(scene.tpm.ak_key.public_key())


def test_an_ak_certificate(scene: TpmScene) -> None:
    claims = ak_scene(scene, ak_spec(scene)).verify()
    assert claims.binding is AkBinding.AK_CERTIFICATE
    assert claims.enrolled_reset_count is None
    assert not claims.same_boot
    assert claims.model == "XYZ 9000"
    nameless = ak_scene(scene, replace(ak_spec(scene), model=None, usage="")).verify()
    assert (nameless.product, nameless.hardware) == ("unnamed", Hardware.GENUINE)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"usage": "2.23.133.8.1"}, ""),  # as Google's cloud does
        ({"usage": "1.3.6.1.5.5.7.3.2"}, "EK_UNSUITABLE"),
        ({"key_usages": ("key_agreement",)}, "EK_UNSUITABLE"),
        ({"ca": True}, "EK_UNSUITABLE"),
        ({"life": YEAR / 2}, "CERT_EXPIRED"),
    ],
)
def test_ak_certificates(scene: TpmScene, changes: dict[str, object], code: str) -> None:
    assert ak_scene(scene, replace(ak_spec(scene), **changes)).code() == code  # type: ignore[arg-type] # of the list above


def test_an_ak_certificate_for_another_key(scene: TpmScene) -> None:
    other = SimulatedTpm.create(scene.tpm.authority)
    assert ak_scene(scene, ak_spec(TpmScene.create(now=NOW, tpm=other))).code() == "AK_UNBOUND"


def test_an_ek_root_does_not_certify_aks(scene: TpmScene) -> None:
    certified = ak_scene(scene, ak_spec(scene))
    swapped = certified.provided(ek_roots=certified.collateral.ak_roots, ak_roots=())
    assert swapped.code() == "AK_UNBOUND"
    other = TpmAuthority.create(now=NOW)
    assert certified.provided(ak_roots=(other.root(),)).code() == "ROOT_UNTRUSTED"


def test_ak_chains_are_whole_and_in_order(scene: TpmScene) -> None:
    certified = ak_scene(scene, ak_spec(scene))
    chain = certified.evidence.endorsements

    def verify(sent: tuple[bytes, ...]) -> TpmClaims:
        evidence = replace(certified.evidence, endorsements=sent)
        return replace(certified, evidence=evidence).verify()

    none_accepted(verify, [*dropped(chain), *duplicated(chain), *reordered(chain)])


def test_simulated_anchors(scene: TpmScene) -> None:
    root = scene.tpm.authority.root()
    simulated = replace(scene, anchors=Anchors.dangerous_simulated(root))
    assert simulated.verify().hardware is Hardware.SIMULATED
    assert simulated.provided(ek_roots=()).verify().hardware is Hardware.SIMULATED
    other = Anchors.dangerous_simulated(TpmAuthority.create(now=NOW).root())
    assert replace(scene, anchors=other).code() == "ROOT_UNTRUSTED"
    with pytest.raises(ParseError):
        Anchors.dangerous_simulated(b"")
    with pytest.raises(TypeError, match="production"):
        Anchors(Hardware.GENUINE, b"", object())


def test_a_warm_cache_refuses_the_same(scene: TpmScene) -> None:
    cache = Cache()
    scene.verify(cache)
    other = scene.provided(ek_roots=(TpmAuthority.create(now=NOW).root(),))
    with pytest.raises(AttestationError):
        other.verify(cache)
    later = replace(scene, now=NOW + 30 * YEAR, rule=ANY)
    with pytest.raises(AttestationError) as refusal:
        later.verify(cache)
    assert refusal.value.code.name == "CERT_EXPIRED"
    scene.verify(cache)


def test_two_banks_of_values(scene: TpmScene) -> None:
    document = parse_tpm_quote(scene.evidence.report)
    both = replace(document, pcrs={**document.pcrs, HashAlg.SHA384: {}})
    assert with_report(scene, both.encode()).code() == "QUOTE_SELECTION"
    assert with_report(scene, replace(document, pcrs={}).encode()).code() == "QUOTE_SELECTION"
