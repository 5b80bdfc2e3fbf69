"""Held against dcap-qvl on TCB infos, identities and platforms that nobody thought of."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dcap_qvl
import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st

from regalia.core.errors import RegaliaError
from regalia.tees.intel.names import TcbStatus
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.tees.intel.defects import HEALTHY
from regalia_testing.tees.intel.documents import MODULE_SIGNER
from regalia_testing.tees.intel.quotes import (
    Workload,
    enclave_report,
    pem_chain,
    sign_quote,
    td_report,
)
from regalia_testing.testbed import REPORT_DATA

if TYPE_CHECKING:
    from regalia_testing.tees.intel.testbed import IntelTestbed

DERIVED = (TcbStatus.TD_RELAUNCH_ADVISED, TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED)
STATUSES = [status.value for status in TcbStatus if status not in DERIVED]
ISV_STATUSES = ["UpToDate", "OutOfDate", "Revoked"]
DATE = "2026-08-12T00:00:00Z"
REFUSED = "refused"


def _svns(least: int) -> st.SearchStrategy[list[int]]:
    """Sixteen components, of which few differ, so that levels are near each other."""
    small = st.integers(least, 2)
    return st.tuples(small, small, small, small).map(lambda some: [*some, *([0] * 11), some[3]])


@st.composite
def isv_levels(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Levels by falling ISVSVN, as Intel lists them."""
    svns = draw(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True))
    statuses = st.sampled_from([*ISV_STATUSES, "UpToDate", "UpToDate", "OutOfDate"])
    return [
        {
            "tcb": {"isvsvn": svn},
            "tcbDate": DATE,
            "tcbStatus": draw(statuses),
            "advisoryIDs": [f"INTEL-SA-1000{svn}"],
        }
        for svn in sorted({0, *svns} if draw(st.booleans()) else svns, reverse=True)
    ]


@dataclass(frozen=True)
class Case:
    tee: Tee
    tcb_levels: list[dict[str, Any]]
    modules: dict[str, list[dict[str, Any]]]
    qe_levels: list[dict[str, Any]]
    svns: list[int]
    pce_svn: int
    tee_tcb_svn: bytes
    tee_tcb_svn_2: bytes
    qe_svn: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A platform, and what the simulated Intel says of its kind."""
    tee = draw(st.sampled_from([Tee.TDX, Tee.SGX]))
    levels = []
    for number in range(draw(st.integers(1, 5))):
        tcb: dict[str, Any] = {
            "sgxtcbcomponents": [{"svn": svn} for svn in draw(_svns(0))],
            "pcesvn": draw(st.integers(10, 12)),
        }
        if tee is Tee.TDX:
            tcb["tdxtcbcomponents"] = [{"svn": svn} for svn in draw(_svns(0))]
        levels.append(
            {
                "tcb": tcb,
                "tcbDate": DATE,
                "tcbStatus": draw(st.sampled_from(STATUSES)),
                "advisoryIDs": [f"INTEL-SA-2000{number}"],
            }
        )
    # Best first: Intel sorts them, and so does everybody who compares lists of numbers.
    levels.sort(
        key=lambda level: (
            [each["svn"] for each in level["tcb"]["sgxtcbcomponents"]],
            level["tcb"]["pcesvn"],
            [each["svn"] for each in level["tcb"].get("tdxtcbcomponents", [])],
        ),
        reverse=True,
    )
    version = draw(st.sampled_from([0, 1, 1, 3]))
    now = draw(st.sampled_from([version, version, 1, 3]))
    rest = draw(_svns(1))[2:]
    return Case(
        tee=tee,
        tcb_levels=levels,
        modules={"TDX_01": draw(isv_levels()), "TDX_03": draw(isv_levels())},
        qe_levels=draw(isv_levels()),
        svns=draw(_svns(1)),
        pce_svn=draw(st.integers(11, 12)),
        tee_tcb_svn=bytes((draw(st.integers(0, 9)), version, *rest)),
        tee_tcb_svn_2=bytes((draw(st.integers(0, 9)), now, *rest)),
        qe_svn=draw(st.integers(0, 9)),
    )


def documents_of(testbed: IntelTestbed, case: Case) -> tuple[bytes, bytes]:
    changes: dict[str, Any] = {"tcbLevels": case.tcb_levels}
    if case.tee is Tee.TDX:
        module = {
            "mrsigner": MODULE_SIGNER.hex(),
            "attributes": "00" * 8,
            "attributesMask": "FF" * 8,
        }
        changes["tdxModuleIdentities"] = [
            {"id": name, **module, "tcbLevels": levels} for name, levels in case.modules.items()
        ]
    documents = testbed.platform.documents
    kind, enclave = ("TDX", "TD_QE") if case.tee is Tee.TDX else ("SGX", "QE")
    info = documents.tcb_info(kind, **changes)
    return info, documents.identity(enclave, tcbLevels=case.qe_levels)


def quote_of(testbed: IntelTestbed, case: Case) -> bytes:
    platform = testbed.platform
    facts = replace(
        platform.facts(),
        svns=tuple(case.svns),
        cpu_svn=bytes(case.svns),
        pce_svn=case.pce_svn,
    )
    authority = platform.authority
    chain = pem_chain(authority.pck(facts), authority.pck_ca(), authority.root())
    workload = Workload(REPORT_DATA, bytes(48), bytes(48))
    body: Any
    defects = HEALTHY
    if case.tee is Tee.TDX:
        report = td_report(workload, defects)
        assert report.later is not None
        later = msgspec.structs.replace(report.later, tee_tcb_svn_2=case.tee_tcb_svn_2)
        body = msgspec.structs.replace(report, tee_tcb_svn=case.tee_tcb_svn, later=later)
    else:
        defects = replace(defects, version=3)
        enclave = Workload(REPORT_DATA, bytes(32), bytes(64))
        body = enclave_report(enclave, defects, facts.cpu_svn)
    return sign_quote(
        body,
        keys=authority.keys,
        chain=chain,
        cpu_svn=facts.cpu_svn,
        defects=defects,
        qe_svn=case.qe_svn,
    )


@given(case=cases())
@settings(max_examples=300, deadline=None)
def test_the_same_answer(testbed: IntelTestbed, case: Case) -> None:
    info, identity = documents_of(testbed, case)
    names = ("tcb-info-tdx.json", "td-qe-identity.json")
    if case.tee is Tee.SGX:
        names = ("tcb-info-sgx.json", "qe-identity.json")
    changed = testbed.with_file(names[0], info).with_file(names[1], identity)
    quote = quote_of(testbed, case)
    try:
        claims = changed.verify(Evidence(case.tee, quote, (), b""))
    except RegaliaError:
        ours: object = REFUSED
    else:
        ours = claims.tcb_status.value, claims.advisory_ids
    bundled = {
        **_chains(testbed),
        "tcb_info": info[len(b'{"tcbInfo":') : info.rindex(b',"signature"')].decode(),
        "tcb_info_signature": json.loads(info)["signature"],
        "qe_identity": identity[
            len(b'{"enclaveIdentity":') : identity.rindex(b',"signature"')
        ].decode(),
        "qe_identity_signature": json.loads(identity)["signature"],
    }
    try:
        report = dcap_qvl.verify_with_root_ca(
            quote,
            dcap_qvl.QuoteCollateralV3.from_json(json.dumps(bundled)),
            testbed.platform.authority.root(),
            int(testbed.now.timestamp()),
        )
    except ValueError:
        theirs: object = REFUSED
    else:
        theirs = report.status, tuple(sorted(report.advisory_ids))
    event(str(ours if ours == REFUSED else claims.tcb_status))
    assert ours == theirs


def _chains(testbed: IntelTestbed) -> dict[str, str]:
    authority = testbed.platform.authority
    signing = pem_chain(authority.tcb_signing(), authority.root()).decode()
    return {
        "tcb_info_issuer_chain": signing,
        "qe_identity_issuer_chain": signing,
        "pck_crl_issuer_chain": pem_chain(authority.pck_ca(), authority.root()).decode(),
        "root_ca_crl": testbed.files["root.crl"].hex(),
        "pck_crl": testbed.files["platform.crl"].hex(),
    }
