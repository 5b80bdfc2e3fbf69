"""Collateral: what must be there, how old it may be, whose it is, and what it may say."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import CheckLog
from regalia.appraisal.claims import Revocation
from regalia.appraisal.collateral_rule import CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError, ParseError, RegaliaError
from regalia.tees.intel.evidence import parse, parse_json_collateral, prepare, verify_platform
from regalia.tees.intel.evidence.anchors import ROOT_NAME
from regalia.tees.intel.evidence.chain import TCB_SIGNING_NAME
from regalia.tees.intel.evidence.documents import parse_identity, parse_tcb_info
from regalia.tees.intel.evidence.vendor import collateral_of
from regalia.verifier.collateral import parse_collateral
from regalia.wire.evidence import Tee
from regalia_testing.tees.intel.documents import EVALUATION_DATA_NUMBER, NEXT_UPDATE, Documents
from regalia_testing.tees.intel.simulator import IntelSimulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.tees.intel.testbed import IntelTestbed

DAY = timedelta(days=1)
GRACE = CollateralRule(RevocationRule.REQUIRED, 10 * DAY)
ANY = CollateralRule(RevocationRule.ANY, timedelta(0))
LATE = NEXT_UPDATE + DAY  # after the platform was made


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(RegaliaError) as refusal:
        call()
    assert isinstance(refusal.value, ParseError | AttestationError)
    return refusal.value.code.name


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("tcb-info-tdx.json", "COLLATERAL_MISSING"),
        ("td-qe-identity.json", "COLLATERAL_MISSING"),
        ("root.crl", "CRL_MISSING"),
        ("platform.crl", "CRL_MISSING"),
        ("chain.pem", "COLLATERAL_MISSING"),  # nobody is known to have signed the documents
    ],
)
def test_what_must_be_there(testbed: IntelTestbed, name: str, code: str) -> None:
    without = testbed.with_file(name, None)
    assert refused(lambda: without.verify(testbed.evidence())) == code
    if code == "CRL_MISSING":
        assert without.verify(testbed.evidence(), rule=ANY).revocation is Revocation.UNKNOWN
    else:
        assert refused(lambda: without.verify(testbed.evidence(), rule=ANY)) == code


@pytest.mark.parametrize("tee", [Tee.TDX, Tee.SGX])
def test_the_other_kinds_documents_do_not_do(testbed: IntelTestbed, tee: Tee) -> None:
    own = "tdx" if tee is Tee.TDX else "sgx"
    enclave = "td-qe" if tee is Tee.TDX else "qe"
    for name in (f"tcb-info-{own}.json", f"{enclave}-identity.json"):
        without = testbed.with_file(name, None)
        assert refused(lambda: without.verify(testbed.evidence(tee))) == "COLLATERAL_MISSING"  # noqa: B023


def test_no_collateral_at_all(testbed: IntelTestbed) -> None:
    """The quote is still read, and its chain followed: a check log shows how far it is good."""
    cache, check_log = Cache(), CheckLog()
    anchors = testbed.platform.anchors()
    prepared = prepare(collateral_of(parse_collateral({})), anchors=anchors, cache=cache)
    with pytest.raises(AttestationError) as refusal:
        verify_platform(
            parse(testbed.evidence(), check_log),
            anchors=anchors,
            collateral=prepared,
            at=AppraisalContext(now=testbed.now, rule=GRACE, cache=cache, check_log=check_log),
        )
    assert refusal.value.code.name == "COLLATERAL_MISSING"
    names = [step.check.name for step in check_log.failed(refusal.value)]
    assert names == [
        "intel/quote",
        "intel/pck-chain",
        "intel/qe-report",
        "intel/attestation-key",
        "intel/dates",
        "intel/tcb-info",
    ]


def test_a_pck_ca_that_only_the_quote_brings(testbed: IntelTestbed) -> None:
    """Its list is verified against the certificate in the quote, which leads to the root."""
    platform = testbed.platform
    chain = platform.authority.tcb_signing(), platform.authority.root()
    short = testbed.with_file("chain.pem", None)
    short = short.with_file("a.der", chain[0]).with_file("b.der", chain[1])
    assert short.verify(testbed.evidence()).revocation is Revocation.CHECKED
    forged = IntelSimulator.make(now=testbed.now).authority.pck_crl()
    assert (
        refused(lambda: short.with_file("platform.crl", forged).verify(testbed.evidence()))
        == "CRL_SIG_INVALID"
    )


@pytest.mark.parametrize(
    ("member", "name", "kind"),
    [("tcb_info", "tcb-info-tdx.json", "TDX"), ("identity", "td-qe-identity.json", "TD_QE")],
)
def test_dates_of_documents(testbed: IntelTestbed, member: str, name: str, kind: str) -> None:
    make: Callable[..., bytes] = getattr(testbed.platform.documents, member)
    evidence = testbed.evidence()

    def dated(issued: timedelta, update: timedelta) -> IntelTestbed:
        dates = {
            "issueDate": rfc3339(testbed.now + issued),
            "nextUpdate": rfc3339(testbed.now + update),
        }
        return testbed.with_file(name, make(kind, **dates))

    exact = dated(timedelta(0), timedelta(0)).verify(evidence)
    assert exact.revocation is Revocation.CHECKED
    assert refused(lambda: dated(DAY, 2 * DAY).verify(evidence)) == "COLLATERAL_STALE"
    late = dated(-20 * DAY, -10 * DAY)
    assert refused(lambda: late.verify(evidence)) == "COLLATERAL_STALE"
    assert refused(lambda: late.verify(evidence, rule=ANY)) == "COLLATERAL_STALE"
    assert late.verify(evidence, rule=GRACE).revocation is Revocation.GRACE
    later = dated(-20 * DAY, -10 * DAY - timedelta(seconds=1))
    assert refused(lambda: later.verify(evidence, rule=GRACE)) == "COLLATERAL_STALE"
    future = dated(DAY, 2 * DAY)
    assert refused(lambda: future.verify(evidence, rule=GRACE)) == "COLLATERAL_STALE"


@pytest.mark.parametrize("name", ["root.crl", "platform.crl"])
def test_dates_of_lists(testbed: IntelTestbed, name: str) -> None:
    authority = testbed.platform.authority
    make: Callable[..., bytes] = authority.root_crl if name == "root.crl" else authority.pck_crl
    evidence = testbed.evidence()

    def dated(since: timedelta, until: timedelta) -> IntelTestbed:
        dates = {"this_update": testbed.now + since, "next_update": testbed.now + until}
        return testbed.with_file(name, make(**dates))

    late = dated(-20 * DAY, -10 * DAY)
    assert refused(lambda: late.verify(evidence)) == "CRL_STALE"
    assert late.verify(evidence, rule=ANY).revocation is Revocation.UNKNOWN
    assert late.verify(evidence, rule=GRACE).revocation is Revocation.GRACE
    early = dated(DAY, 2 * DAY)
    assert refused(lambda: early.verify(evidence, rule=GRACE)) == "CRL_STALE"


def test_certificates_have_no_grace(testbed: IntelTestbed) -> None:
    late = testbed.now + timedelta(days=8 * 365)
    rule = CollateralRule(RevocationRule.ANY, timedelta(days=10_000))
    assert (
        refused(lambda: testbed.verify(testbed.evidence(), now=late, rule=rule)) == "CERT_EXPIRED"
    )
    early = testbed.now - DAY
    assert refused(lambda: testbed.verify(testbed.evidence(), now=early)) == "CERT_NOT_YET_VALID"


@pytest.mark.parametrize("rule", [ANY, GRACE])
@pytest.mark.parametrize(
    ("name", "revoked"),
    [
        ("root.crl", "platform_ca"),
        ("root.crl", "tcb_signing"),
        ("root.crl", "root"),
        ("platform.crl", "pck"),
    ],
)
def test_what_a_list_names_is_refused(
    testbed: IntelTestbed, name: str, revoked: str, rule: CollateralRule
) -> None:
    authority = testbed.platform.authority
    make = authority.root_crl if name == "root.crl" else authority.pck_crl
    crl = make([revoked])
    evidence = testbed.evidence()
    assert (
        refused(lambda: testbed.with_file(name, crl).verify(evidence, rule=rule)) == "CERT_REVOKED"
    )
    # Beside a list that does not name it, and out of date, it still is.
    old = make([revoked], this_update=testbed.now - 30 * DAY, next_update=testbed.now - DAY)
    both = testbed.with_file("more.crl", old)
    assert refused(lambda: both.verify(evidence, rule=rule)) == "CERT_REVOKED"


@pytest.mark.parametrize("revoked", ["tcb_signing", "pck"])
def test_a_list_names_the_signer_of_either_document(testbed: IntelTestbed, revoked: str) -> None:
    """The TCB info and the identity of the quoting enclave may have two signers."""
    authority = testbed.platform.authority
    plan = authority._plan(TCB_SIGNING_NAME, "pck", ROOT_NAME, "root")
    identity = Documents(authority.keys.pck, authority.since).identity("TD_QE")
    two = testbed.with_file("second-signer.der", plan.sign(authority.keys.root))
    two = two.with_file("td-qe-identity.json", identity)
    evidence = testbed.evidence()
    assert two.verify(evidence).revocation is Revocation.CHECKED
    listed = two.with_file("root.crl", authority.root_crl([revoked]))
    assert refused(lambda: listed.verify(evidence)) == "CERT_REVOKED"


def test_a_list_of_the_other_ca_says_nothing(testbed: IntelTestbed) -> None:
    authority = testbed.platform.authority
    others = testbed.with_file("processor.crl", authority.pck_crl(["pck"], processor=True))
    assert others.verify(testbed.evidence()).revocation is Revocation.CHECKED
    assert refused(lambda: others.verify(testbed.evidence(processor_ca=True))) == "CERT_REVOKED"


def test_lists_signed_by_somebody_else(testbed: IntelTestbed) -> None:
    attacker = IntelSimulator.make(now=testbed.now).authority
    for name, crl in (("root.crl", attacker.root_crl()), ("platform.crl", attacker.pck_crl())):
        for rule in (ANY, GRACE):
            assert (
                refused(lambda: testbed.with_file(name, crl).verify(testbed.evidence(), rule=rule))  # noqa: B023
                == "CRL_SIG_INVALID"
            )


def test_documents_signed_by_somebody_else(testbed: IntelTestbed) -> None:
    attacker = IntelSimulator.make(now=testbed.now)
    for name in ("tcb-info-tdx.json", "td-qe-identity.json"):
        forged = testbed.with_file(name, attacker.files()[name])
        assert refused(lambda: forged.verify(testbed.evidence())) == "COLLATERAL_SIG_INVALID"  # noqa: B023
    # With the attacker's own issuer chain: its root is not the pinned one.
    forged = testbed.with_file("chain.pem", attacker.files()["chain.pem"])
    assert refused(lambda: forged.verify(testbed.evidence())) == "ROOT_UNTRUSTED"


def test_a_pck_ca_signs_no_documents(testbed: IntelTestbed) -> None:
    platform = testbed.platform
    documents = type(platform.documents)(platform.authority.keys.platform_ca, testbed.now)
    forged = testbed.with_file("tcb-info-tdx.json", documents.tcb_info("TDX"))
    assert refused(lambda: forged.verify(testbed.evidence())) == "COLLATERAL_SIG_INVALID"


@pytest.mark.parametrize("spoil", [lambda d: b" " + d, lambda d: d.replace(b":", b": ", 1)])
def test_only_the_exact_bytes_are_signed(
    testbed: IntelTestbed, spoil: Callable[[bytes], bytes]
) -> None:
    raw = testbed.raw()
    body, signature = raw.tcb_infos[1].body, raw.tcb_infos[1].signature
    document = type(raw.tcb_infos[1])(spoil(body), signature)
    altered = type(raw)((document,), raw.identities, raw.certificates, raw.crls)
    assert (
        refused(lambda: prepare(altered, anchors=testbed.platform.anchors(), cache=Cache()))
        == "COLLATERAL_SIG_INVALID"
    )


def test_of_several_documents_the_newest_evaluation_in_date_counts(testbed: IntelTestbed) -> None:
    documents = testbed.platform.documents
    evidence = testbed.evidence()

    def more(**members: Any) -> IntelTestbed:  # noqa: ANN401 - any member
        return testbed.with_file("more.json", documents.tcb_info("TDX", **members))

    identity = documents.identity("TD_QE", tcbEvaluationDataNumber=99)
    high = testbed.with_file("td-qe-identity.json", identity)
    both = high.with_file("more.json", documents.tcb_info("TDX", tcbEvaluationDataNumber=20))
    assert both.verify(evidence).tcb_evaluation_data_number == 20
    older = high.with_file("more.json", documents.tcb_info("TDX", tcbEvaluationDataNumber=3))
    assert older.verify(evidence).tcb_evaluation_data_number == EVALUATION_DATA_NUMBER
    past = rfc3339(testbed.now - DAY)
    stale = more(tcbEvaluationDataNumber=20, issueDate=past, nextUpdate=past)
    assert stale.verify(evidence).tcb_evaluation_data_number == EVALUATION_DATA_NUMBER
    other = more(tcbEvaluationDataNumber=20, fmspc="00aabb000000")
    assert other.verify(evidence).tcb_evaluation_data_number == EVALUATION_DATA_NUMBER
    # The floor is for the lower of the two documents.
    low = testbed.with_file(
        "td-qe-identity.json", documents.identity("TD_QE", tcbEvaluationDataNumber=5)
    )
    assert low.verify(evidence).tcb_evaluation_data_number == 5


TCB_INFO_DEFECTS = [
    ({"version": 2}, "UNSUPPORTED_VERSION"),
    ({"id": "QVE"}, "UNSUPPORTED_VERSION"),
    ({"tcbType": 1}, "UNSUPPORTED_VERSION"),
    ({"fmspc": "00ff"}, "MALFORMED"),
    ({"fmspc": "zz" * 6}, "MALFORMED"),
    ({"pceId": ""}, "MALFORMED"),
    ({"issueDate": "2026-01-01"}, "MALFORMED"),
    ({"nextUpdate": "tomorrow"}, "MALFORMED"),
    ({"tcbEvaluationDataNumber": -1}, "MALFORMED"),
    ({"tcbEvaluationDataNumber": 1 << 16}, "MALFORMED"),
    ({"tcbEvaluationDataNumber": "18"}, "MALFORMED"),
    ({"tcbLevels": []}, "MALFORMED"),
    ({"tdxModule": None}, "MALFORMED"),
]


@pytest.mark.parametrize(("change", "code"), TCB_INFO_DEFECTS)
def test_malformed_tcb_infos(testbed: IntelTestbed, change: dict[str, Any], code: str) -> None:
    data = testbed.platform.documents.tcb_info("TDX", **change)
    assert refused(lambda: parse_json_collateral(data, what="x")) == code


LEVEL_DEFECTS: list[Callable[[dict[str, Any]], object]] = [
    lambda level: level.update(tcbStatus="Fine"),
    lambda level: level.update(tcbStatus="TDRelaunchAdvised"),
    lambda level: level.update(tcbDate="once"),
    lambda level: level["tcb"].update(pcesvn=1 << 16),
    lambda level: level["tcb"]["sgxtcbcomponents"].pop(),
    lambda level: level["tcb"]["sgxtcbcomponents"].append({"svn": 1}),
    lambda level: level["tcb"]["sgxtcbcomponents"][3].update(svn=256),
    lambda level: level["tcb"]["tdxtcbcomponents"][3].update(svn=-1),
    lambda level: level["tcb"].pop("tdxtcbcomponents"),
    lambda level: level.pop("tcbStatus"),
]


@pytest.mark.parametrize("spoil", LEVEL_DEFECTS)
def test_malformed_levels(testbed: IntelTestbed, spoil: Callable[[dict[str, Any]], object]) -> None:
    info = json.loads(testbed.files["tcb-info-tdx.json"])["tcbInfo"]
    parse_tcb_info(json.dumps(info).encode())
    spoil(info["tcbLevels"][2])
    assert refused(lambda: parse_tcb_info(json.dumps(info).encode())) == "MALFORMED"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"version": 1}, "UNSUPPORTED_VERSION"),
        ({"id": "QVE"}, "UNSUPPORTED_VERSION"),
        ({"mrsigner": "00"}, "MALFORMED"),
        ({"miscselectMask": "F"}, "MALFORMED"),
        ({"isvprodid": 1 << 16}, "MALFORMED"),
        ({"tcbLevels": []}, "MALFORMED"),
        (
            {
                "tcbLevels": [
                    {
                        "tcb": {"isvsvn": 1},
                        "tcbDate": "2026-01-01T00:00:00Z",
                        "tcbStatus": "SWHardeningNeeded",
                    }
                ]
            },
            "MALFORMED",
        ),
    ],
)
def test_malformed_identities(testbed: IntelTestbed, change: dict[str, Any], code: str) -> None:
    data = testbed.platform.documents.identity("QE", **change)
    assert refused(lambda: parse_json_collateral(data, what="x")) == code


def test_members_that_nobody_knows_yet_are_signed_like_the_others(testbed: IntelTestbed) -> None:
    data = testbed.platform.documents.tcb_info("TDX", somethingNew=[1, 2, 3])
    evidence = testbed.evidence()
    assert testbed.with_file("tcb-info-tdx.json", data).verify(evidence) == testbed.verify(evidence)


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"{",
        b'{"tcbInfo":{},"signature":""}',
        b'{"tcbInfo":1,"signature":"00"}',
        b'{"enclaveIdentity":[],"signature":"00"}',
        b'{"tcb_info":"{}"}',
        b'{"\\ud800":1}',
        b"{" * 100_000,
    ],
)
def test_other_json_is_no_collateral(data: bytes) -> None:
    assert refused(lambda: parse_collateral({"x.json": data})) == "MALFORMED"


@pytest.mark.parametrize("spoil", [str.upper, lambda s: s[:-2], lambda s: s + "00"])
def test_signatures_have_one_spelling(testbed: IntelTestbed, spoil: Callable[[str], str]) -> None:
    response = json.loads(testbed.files["tcb-info-tdx.json"])
    response["signature"] = spoil(response["signature"])
    data = json.dumps(response).encode()
    assert refused(lambda: parse_json_collateral(data, what="x")) == "MALFORMED"


@given(data=st.binary(max_size=300))
def test_hostile_documents(data: bytes) -> None:
    for read in (
        parse_tcb_info,
        parse_identity,
        lambda raw: parse_json_collateral(raw, what="x"),
    ):
        with pytest.raises(ParseError):
            read(data)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["tcbInfo", "signature", "tcbLevels", "id", "enclaveIdentity"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    )
)
def test_hostile_json(value: object) -> None:
    data = json.dumps(value).encode()
    for read in (
        parse_tcb_info,
        parse_identity,
        lambda raw: parse_json_collateral(raw, what="x"),
    ):
        with pytest.raises(ParseError):
            read(data)
