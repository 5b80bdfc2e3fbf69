"""Against a live TPM 2.0 (swtpm): enrol, quote, and everything that must not pass."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CC,
    TPM2_SE,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_PUBLIC,
    TPMT_SYM_DEF,
    TSS2_Exception,
)

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.claims import Hardware, Revocation
from regalia.appraisal.config_binding import expected_slot
from regalia.appraisal.pki import Cache
from regalia.core.errors import AttestationError, LocalError, UnavailableError, UsageError
from regalia.core.types import Digest, ModelId, PolicyId
from regalia.tees.tpm.device import EK_KINDS, TpmDevice
from regalia.tees.tpm.evidence import (
    Authorities,
    TpmAnchors,
    begin_enrolment,
    finish_enrolment,
)
from regalia.tees.tpm.evidence.credential import make_credential
from regalia.tees.tpm.evidence.document import parse_tpm_quote
from regalia.tees.tpm.evidence.enrol_steps import EnrolmentRequest, answer_data
from regalia.tees.tpm.evidence.layout import HashAlg, sized
from regalia.tees.tpm.evidence.plugin import TPM
from regalia.tees.tpm.evidence.public import Attribute, KeyScheme, Scheme, parse_public
from regalia.tees.tpm.key_templates import AK_TEMPLATES
from regalia.tees.tpm.recording import BANK
from regalia.tees.tpm.source import open_source
from regalia.verifier.anchors import TrustAnchors
from regalia.verifier.verifier import Verifier
from regalia.wire.evidence import NO_DEVICES, Binding, Role, Tee, parse_evidence
from regalia_testing.anchors import simulated_anchors
from regalia_testing.collateral import tpm_set
from regalia_testing.mutation import every_flip, none_accepted
from regalia_testing.tees.tpm.live_enrolment import NO_LISTS, enrol
from regalia_testing.tees.tpm.swtpm import TpmMaker, missing_programs
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.tees.tpm.claims import TpmClaims
    from regalia.tees.tpm.evidence import TpmCollateral
    from regalia.wire.evidence import Evidence, EvidenceSource
    from regalia_testing.tees.tpm.live_enrolment import EnrolledTpm
    from regalia_testing.tees.tpm.swtpm import SoftwareTpm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {missing_programs()}"),
]

# swtpm certifies its EKs at the moment it is made, and forever.
NOW = datetime.now(UTC) + timedelta(days=1)
REPORT_DATA = bytes(range(64))
KINDS = {"ecc-p384": EK_KINDS[:1], "rsa-2048": EK_KINDS[2:]}


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> TpmMaker:
    return TpmMaker.create(tmp_path_factory.mktemp("tpm-maker") / "ca")


@pytest.fixture
def tpm(maker: TpmMaker) -> Iterator[SoftwareTpm]:
    with maker.make() as made:
        yield made


def enrolled(maker: TpmMaker, tpm: SoftwareTpm, **options: Any) -> EnrolledTpm:  # noqa: ANN401 - of ``enrol``
    return enrol(
        tpm.tcti, roots=[maker.root], intermediates=[maker.intermediate], now=NOW, **options
    )


def source_of(tpm: SoftwareTpm, **options: object) -> EvidenceSource:
    return open_source({"tcti": tpm.tcti, "event_log": "", **options})


def at() -> AppraisalContext:
    return AppraisalContext(now=NOW, rule=NO_LISTS, cache=Cache())


def verify(
    evidence: Evidence, collateral: TpmCollateral, *, report_data: bytes = REPORT_DATA
) -> TpmClaims:
    return verify_fresh(
        TPM,
        evidence,
        anchors=TpmAnchors.production(),
        collateral=collateral.prepare(),
        report_data=report_data,
        at=at(),
    )


def refusal_of(
    evidence: Evidence, collateral: TpmCollateral, *, report_data: bytes = REPORT_DATA
) -> str:
    with pytest.raises(AttestationError) as refusal:
        verify(evidence, collateral, report_data=report_data)
    return refusal.value.code.name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ak", AK_TEMPLATES)
def test_enrol_and_quote(maker: TpmMaker, tpm: SoftwareTpm, kind: str, ak: str) -> None:
    known = enrolled(maker, tpm, ak=ak, ek_kinds=KINDS[kind])
    assert known.enrolment.hardware is Hardware.SIMULATED
    source = source_of(tpm, ak=ak)
    assert source.simulated
    assert source.collect_devices(bytes(32)) == ()
    evidence = replace(source.collect(REPORT_DATA, b"configuration"), endorsements=())
    claims = verify(evidence, known.collateral)
    assert claims.hardware is Hardware.SIMULATED  # under production anchors
    assert claims.revocation is Revocation.UNKNOWN
    assert claims.manufacturer == "id:00001014"
    assert claims.same_boot
    assert claims.config_binding == expected_slot(Tee.TPM, b"configuration")
    assert parse_tpm_quote(evidence.report).encode() == evidence.report


def test_through_the_one_verifier(maker: TpmMaker, tpm: SoftwareTpm) -> None:
    """As a broker appraises it: a binding, anchors of all vendors, one set of collateral."""
    known = enrolled(maker, tpm)
    binding = Binding(
        role=Role.RELEASE,
        audience="log.example",
        challenge=bytes(range(32)),
        hpke_public_key=b"hpke",
        wrap_public_key=b"wrap",
        model_id=ModelId(bytes(32)),
        policy_id=PolicyId(bytes(32)),
        device_evidence=Digest(NO_DEVICES),
    )
    evidence = source_of(tpm).collect(binding.report_data(), b"configuration")
    evidence = replace(parse_evidence(evidence.encode()), endorsements=())
    given = tpm_set(known.collateral)
    for anchors in (
        TrustAnchors.production(),
        simulated_anchors([maker.root]),
    ):
        verifier = Verifier(anchors=anchors, collateral=given)
        claims = verifier.verify(evidence, expected=binding, rule=NO_LISTS, now=NOW)
        assert claims.tee is Tee.TPM
        assert claims.hardware is Hardware.SIMULATED
        with pytest.raises(AttestationError) as refusal:
            verifier.verify(
                evidence, expected=replace(binding, role=Role.SERVE), rule=NO_LISTS, now=NOW
            )
        assert refusal.value.code.name == "NONCE_MISMATCH"


def test_the_same_ak_after_a_restart_of_the_runtime(maker: TpmMaker, tpm: SoftwareTpm) -> None:
    known = enrolled(maker, tpm)
    for _ in range(5):  # and no slot of the TPM is left taken
        evidence = source_of(tpm).collect(REPORT_DATA, b"configuration")
        assert verify(evidence, known.collateral).ak_name == known.enrolment.ak_name


def test_a_reboot_shows(maker: TpmMaker, tpm: SoftwareTpm) -> None:
    known = enrolled(maker, tpm)
    tpm.reboot()
    claims = verify(source_of(tpm).collect(REPORT_DATA, b"configuration"), known.collateral)
    assert claims.reset_count == known.enrolment.reset_count + 1
    assert not claims.same_boot
    later = replace(known.enrolment, reset_count=claims.reset_count + 1)
    evidence = source_of(tpm).collect(REPORT_DATA, b"configuration")
    collateral = replace(known.collateral, enrolments=(later.encode(),))
    assert refusal_of(evidence, collateral) == "TPM_RESET_COUNT"


def test_another_nonce(maker: TpmMaker, tpm: SoftwareTpm) -> None:
    known = enrolled(maker, tpm)
    evidence = source_of(tpm).collect(REPORT_DATA, b"configuration")
    other = REPORT_DATA[::-1]
    assert refusal_of(evidence, known.collateral, report_data=other) == "NONCE_MISMATCH"


def test_another_makers_root(maker: TpmMaker, tpm: SoftwareTpm) -> None:
    known = enrolled(maker, tpm)
    other = TpmMaker.create(maker.folder.parent / secrets.token_hex(4))
    with other.make() as stranger:
        evidence = source_of(tpm).collect(REPORT_DATA, b"configuration")
        wrong = replace(known.collateral, ek_roots=(other.root,))
        assert refusal_of(evidence, wrong) == "ROOT_UNTRUSTED"
        with pytest.raises(AttestationError) as refusal:
            enrolled(maker, stranger)  # the same names, other keys
        assert refusal.value.code.name in {"ROOT_UNTRUSTED", "CHAIN_INVALID"}
        strangers = source_of(stranger).collect(REPORT_DATA, b"configuration")
        assert refusal_of(strangers, known.collateral) == "AK_UNBOUND"


def test_registers_and_quote_bit_by_bit(maker: TpmMaker, tpm: SoftwareTpm) -> None:
    known = enrolled(maker, tpm)
    evidence = source_of(tpm).collect(REPORT_DATA, b"configuration")
    quote = parse_tpm_quote(evidence.report)

    def altered(**changes: Any) -> TpmClaims:  # noqa: ANN401 - fields
        return verify(
            replace(evidence, report=replace(quote, **changes).encode()), known.collateral
        )

    none_accepted(lambda data: altered(quoted=data), every_flip(quote.quoted))
    none_accepted(lambda data: altered(signature=data), every_flip(quote.signature))
    bank = dict(quote.pcrs[BANK])
    for pcr in bank:
        wrong = {**bank, pcr: bytes(31) + b"\x01"}
        with pytest.raises(AttestationError) as refusal:
            altered(pcrs={BANK: wrong})
        assert refusal.value.code.name == "QUOTE_PCR_MISMATCH"


def test_a_register_that_was_extended_afterwards(maker: TpmMaker, tpm: SoftwareTpm) -> None:
    known = enrolled(maker, tpm)
    before = source_of(tpm).collect(REPORT_DATA, b"configuration")
    with TpmDevice.open(tpm.tcti) as device:
        device.extend(4, b"another kernel")
        assert HashAlg.SHA384 in device.banks()
        assert any(device.pcrs(HashAlg.SHA384)[4])
    after = source_of(tpm).collect(REPORT_DATA, b"configuration")
    old, new = (verify(each, known.collateral) for each in (before, after))
    assert old.pcrs[4] != new.pcrs[4]
    assert old.measurement != new.measurement


def test_one_configuration_for_each_boot(tpm: SoftwareTpm) -> None:
    source = source_of(tpm)
    source.collect(REPORT_DATA, b"configuration")
    source.collect(REPORT_DATA, b"configuration")
    with pytest.raises(LocalError) as refusal:
        source.collect(REPORT_DATA, b"another")
    assert refusal.value.code.name == "CONFIG_SLOT_TAKEN"
    tpm.reboot()
    source.collect(REPORT_DATA, b"another")


def test_requests_at_the_same_time(maker: TpmMaker, tpm: SoftwareTpm) -> None:
    """The configuration is recorded once, whoever comes first."""
    known = enrolled(maker, tpm)
    source = source_of(tpm)
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(source.collect, REPORT_DATA, b"configuration") for _ in range(16)]
    slots = {verify(job.result(), known.collateral).config_binding for job in jobs}
    assert slots == {expected_slot(Tee.TPM, b"configuration")}


def test_a_credential_for_another_ak(tpm: SoftwareTpm) -> None:
    with TpmDevice.open(tpm.tcti) as device:
        ek = device.ek()
        public = parse_public(ek.public)
        mine, other = AK_TEMPLATES["ecdsa-p256"], AK_TEMPLATES["rsa-2048"]
        secret = secrets.token_bytes(32)
        for kinds in KINDS.values():
            ek = device.ek(kinds)
            public = parse_public(ek.public)
            credential = make_credential(public, device.attestation_key(mine).name, secret)
            blobs = (credential.id_object, credential.encrypted_secret)
            assert device.activate(ek, mine, *blobs) == secret
            with pytest.raises(LocalError) as refusal:
                device.activate(ek, other, *blobs)
            assert refusal.value.code.name == "TPM_COMMAND_FAILED"


def test_a_credential_for_another_tpm(maker: TpmMaker, tpm: SoftwareTpm) -> None:
    template = AK_TEMPLATES["ecdsa-p256"]
    with maker.make() as other, TpmDevice.open(other.tcti) as strange:
        ek = parse_public(strange.ek().public)
        credential = make_credential(ek, strange.attestation_key(template).name, bytes(32))
    with TpmDevice.open(tpm.tcti) as device, pytest.raises(LocalError):
        device.activate(device.ek(), template, credential.id_object, credential.encrypted_secret)


def test_every_bit_of_a_credential_counts(tpm: SoftwareTpm) -> None:
    template = AK_TEMPLATES["ecdsa-p256"]
    with TpmDevice.open(tpm.tcti) as device:
        ek = device.ek()
        name = device.attestation_key(template).name
        credential = make_credential(parse_public(ek.public), name, b"\x07" * 32)
        opened = 0
        for _, blob in list(every_flip(credential.id_object, start=2))[::7]:
            with pytest.raises(LocalError):
                device.activate(ek, template, blob, credential.encrypted_secret)
            opened += 1
        assert opened > 5


def test_an_ak_that_is_not_restricted(maker: TpmMaker, tpm: SoftwareTpm) -> None:
    """Such a key signs anything, a forged quote too; the TPM makes one if it is asked."""
    template = AK_TEMPLATES["ecdsa-p256"]
    loose = replace(template, attributes=template.attributes & ~Attribute.RESTRICTED)
    authorities = Authorities((maker.root,), (maker.intermediate,), (), at())
    with TpmDevice.open(tpm.tcti) as device:
        ek = device.ek()
        public = device.attestation_key(loose)
        request = EnrolmentRequest(public.encode(), ek.public, ek.certificates)
        with pytest.raises(AttestationError) as refusal:
            begin_enrolment(request, authorities=authorities, secret=bytes(32))
        assert refusal.value.code.name == "AK_NOT_RESTRICTED"
        quote = device.quote(loose, b"data", BANK)
    known = enrolled(maker, tpm)
    evidence = replace(source_of(tpm).collect(REPORT_DATA, b"configuration"), report=quote.encode())
    assert refusal_of(evidence, known.collateral) == "AK_NOT_RESTRICTED"


@pytest.mark.parametrize("by_policy", [False, True])
def test_a_key_of_which_the_tpm_has_the_public_half_only(
    tpm: SoftwareTpm, *, by_policy: bool
) -> None:
    """Anybody can load one, under any attributes: the TPM must not open a credential for it."""
    point = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    x, y = (value.to_bytes(32, "big") for value in (point.x, point.y))
    template = AK_TEMPLATES["ecdsa-p256"]
    esapi = ESAPI(tpm.tcti)
    policy = activation_session(esapi, TPM2_SE.TRIAL)
    outside = replace(
        template,
        attributes=template.attributes | (Attribute.ADMIN_WITH_POLICY if by_policy else 0),
        auth_policy=bytes(esapi.policy_get_digest(policy)) if by_policy else b"",
        parameters=replace(template.parameters, x=x, y=y),
    )
    esapi.flush_context(policy)
    area, _ = TPM2B_PUBLIC.unmarshal(sized(outside.encode()))
    handle = esapi.load_external(area, hierarchy=ESYS_TR.NULL)
    persistent = esapi.tr_from_tpmpublic(0x81010016)  # swtpm's P-384 EK
    ek = parse_public(bytes(esapi.read_public(persistent)[0].publicArea.marshal()))
    credential = make_credential(ek, outside.name, bytes(range(32)))
    blob, _ = TPM2B_ID_OBJECT.unmarshal(credential.id_object)
    secret, _ = TPM2B_ENCRYPTED_SECRET.unmarshal(credential.encrypted_secret)
    session = activation_session(esapi, TPM2_SE.POLICY) if by_policy else ESYS_TR.PASSWORD
    with pytest.raises(TSS2_Exception, match="not available"):
        esapi.activate_credential(
            handle, persistent, blob, secret, session1=session, session2=ESYS_TR.PASSWORD
        )
    esapi.close()


def activation_session(esapi: ESAPI, kind: TPM2_SE) -> ESYS_TR:
    """Under the policy that the key may be used for TPM2_ActivateCredential."""
    session = esapi.start_auth_session(
        ESYS_TR.NONE,
        ESYS_TR.NONE,
        kind,
        TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL),
        TPM2_ALG.SHA256,
    )
    esapi.policy_command_code(session, TPM2_CC.ActivateCredential)
    return session


def test_an_answer_to_another_challenge(maker: TpmMaker, tpm: SoftwareTpm) -> None:
    template = AK_TEMPLATES["ecdsa-p256"]
    authorities = Authorities((maker.root,), (maker.intermediate,), (), at())
    with TpmDevice.open(tpm.tcti) as device:
        ek = device.ek()
        public = device.attestation_key(template).encode()
        request = EnrolmentRequest(public, ek.public, ek.certificates)
        answer = device.quote(template, answer_data(bytes(32)), BANK)
        with pytest.raises(AttestationError) as refusal:
            finish_enrolment(request, answer, authorities=authorities, secret=b"\x01" * 32)
    assert refusal.value.code.name == "CREDENTIAL_REJECTED"


def test_an_ecdsa_p384_scheme_that_this_tpm_makes(tpm: SoftwareTpm) -> None:
    template = AK_TEMPLATES["ecdsa-p256"]
    longer = replace(
        template,
        parameters=replace(template.parameters, scheme=Scheme(KeyScheme.ECDSA, HashAlg.SHA384)),
    )
    with TpmDevice.open(tpm.tcti) as device:
        made = device.attestation_key(longer)
    assert made.parameters.scheme.hash_alg is HashAlg.SHA384


def test_sources_that_do_not_open(tpm: SoftwareTpm) -> None:
    for options, error in (
        ({"tcti": "swtpm:path=/nonexistent/sock"}, UnavailableError),
        ({"tcti": ""}, UsageError),
        ({"tcti": tpm.tcti, "ak": "dsa"}, UsageError),
        ({"tcti": tpm.tcti, "event_log": 7}, UsageError),
        ({"tcti": tpm.tcti, "certificates": "file"}, UsageError),
        ({"tcti": tpm.tcti, "certificates": ["/nonexistent"]}, LocalError),
        ({"unknown": 1}, UsageError),
    ):
        with pytest.raises(error):
            open_source(options)
