"""Real Azure evidence gets the verdict that shared/vectors/README.md states for it.

Their nonces are not Regalia's digests, so what is shown is every check but freshness, with the
nonce that each quote has. No CRL and, for TDX, no TCB info of the platform came along.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec.structs import replace as replace_struct

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.claims import Hardware, Revocation
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.core.errors import AttestationError, RegaliaError
from regalia.policy.baseline import BaselineWords, baseline
from regalia.policy.platform import PlatformRules
from regalia.tees.azure.evidence import (
    parse_snp,
    parse_tdx,
    verify_genuine_snp,
    verify_genuine_tdx,
)
from regalia.tees.azure.evidence.guest import (
    SELECTION,
    parse_parts,
    require_vouched,
    verify_guest_quote,
)
from regalia.tees.azure.evidence.hcl import ReportType, parse_hcl, parse_runtime_data
from regalia.tees.azure.evidence.plugin import AZURE_SNP
from regalia.tees.azure.evidence.verify import require_same_td
from regalia.tees.azure.evidence.wire import AzureDocument, parse_azure
from regalia.tees.intel.evidence import IntelAnchors, prepare
from regalia.tees.intel.evidence.bodies import TdReport
from regalia.tees.intel.evidence.collateral import parse_json_collateral
from regalia.tees.intel.evidence.wire import parse_quote
from regalia.tees.snp.evidence import SnpAnchors, SnpCollateral
from regalia.tees.tpm.evidence.layout import HashAlg, SignatureAlg
from regalia.tees.tpm.evidence.wire import RsaSignature
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.mutation import every_flip, none_accepted
from regalia_testing.tees.azure.testbed import altered_document
from regalia_testing.verify import verify_fresh, verify_fresh_quote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.policy.documents import Platform
    from regalia.tees.azure.claims import AzureSnpClaims

NOW = datetime(2025, 6, 1, tzinfo=UTC)
ANY = CollateralRule(RevocationRule.ANY, NO_GRACE)
REQUIRED = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)
SNP = {
    "evidence-v0.json": "6a063be9",
    "evidence-v1.json": "6a063be9",
    "evidence-v2.json": "5b0ce64a",
}


def _bytes(value: Any) -> bytes:  # noqa: ANN401 - three spellings in three versions
    if isinstance(value, list):
        return bytes(value)
    return bytes.fromhex(value)


def _base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def read(path: Path, tee: Tee) -> tuple[Evidence, bytes]:
    """Evidence in our document, and the nonce that the vTPM was given."""
    data = json.loads(path.read_bytes())
    quote = data.get("tpm_quote") or data["quote"]
    old = "report" in data
    vcek = data.get("vcek", "")
    der = base64.b64decode("".join(vcek.splitlines()[1:-1])) if old else _base64url(vcek)
    document = AzureDocument(
        hcl_report=bytes(data["report"]) if old else _base64url(data["hcl_report"]),
        td_quote=_base64url(data["td_quote"]) if tee is Tee.AZURE_TDX else b"",
        quoted=_bytes(quote["message"]),
        signature=RsaSignature(
            SignatureAlg.RSASSA, HashAlg.SHA256, _bytes(quote["signature"])
        ).encode(),
        pcrs={HashAlg.SHA256: dict(enumerate(map(_bytes, quote["pcrs"])))},
    )
    nonce = document.quoted[44 : 44 + document.quoted[43]]
    endorsements = (der,) if tee is Tee.AZURE_SNP else ()
    return Evidence(tee, document.encode(), endorsements, b""), nonce


@dataclass(frozen=True)
class Appraiser:
    folder: Path
    collateral: SnpCollateral
    rule: CollateralRule = ANY

    def snp(self, evidence: Evidence) -> AzureSnpClaims:
        found = verify_genuine_snp(
            parse_snp(evidence),
            anchors=SnpAnchors.production(),
            collateral=self.collateral,
            at=AppraisalContext(now=NOW, rule=self.rule, cache=Cache()),
        )
        return found.dangerous_without_freshness()


@pytest.fixture
def appraiser(vectors: Path, certificates: Callable[[Path], tuple[bytes, ...]]) -> Appraiser:
    chain = certificates(vectors / "snp/milan/ask_ark.pem")
    return Appraiser(vectors / "az", SnpCollateral(chain, ()))


@pytest.mark.parametrize(("name", "measurement"), SNP.items(), ids=list(SNP))
def test_snp(appraiser: Appraiser, name: str, measurement: str) -> None:
    evidence, nonce = read(appraiser.folder / "snp" / name, Tee.AZURE_SNP)
    genuine = appraiser.snp(evidence)
    assert genuine.snp.hardware is Hardware.GENUINE
    assert genuine.snp.revocation is Revocation.UNKNOWN
    assert genuine.snp.product == "Milan"
    assert genuine.snp.vmpl == 0
    assert genuine.snp.measurement.hex().startswith(measurement)
    assert not genuine.snp.debug
    vm = genuine.vm
    assert (vm.secure_boot, vm.console_enabled, vm.tpm_enabled) == (True, True, True)
    assert len(vm.vm_unique_id) == 36
    assert nonce == b"challenge" or len(nonce) == 48
    parts = parse_snp(evidence).report
    context = AppraisalContext(now=NOW, rule=ANY, cache=Cache())
    guest, document = require_vouched(parts, genuine.snp.report_data, context), parts.document
    verify_fresh_quote(
        document.quoted,
        document.signature,
        document.pcrs,
        key=guest.ak,
        expected_data=nonce,
        selection=SELECTION,
    )


@pytest.mark.parametrize("name", SNP)
def test_a_nonce_that_is_no_digest_of_ours(appraiser: Appraiser, name: str) -> None:
    evidence, _ = read(appraiser.folder / "snp" / name, Tee.AZURE_SNP)
    with pytest.raises(AttestationError) as refusal:
        verify_fresh(
            AZURE_SNP,
            evidence,
            anchors=SnpAnchors.production(),
            collateral=appraiser.collateral,
            report_data=b"\x01" * 64,
            at=AppraisalContext(now=NOW, rule=ANY, cache=Cache()),
        )
    assert refusal.value.code.name == "NONCE_MISMATCH"


def test_quotes_of_other_vms(appraiser: Appraiser) -> None:
    """Two genuine VMs: neither's quote goes with the other's report."""
    first, _ = read(appraiser.folder / "snp" / "evidence-v1.json", Tee.AZURE_SNP)
    second, _ = read(appraiser.folder / "snp" / "evidence-v2.json", Tee.AZURE_SNP)
    theirs = parse_azure(second.report)
    swapped = altered_document(first, quoted=theirs.quoted, signature=theirs.signature)
    with pytest.raises(AttestationError) as refusal:
        appraiser.snp(swapped)
    assert refusal.value.code.name == "SIGNATURE_INVALID"


def test_without_a_crl_the_word_any_is_needed(appraiser: Appraiser) -> None:
    evidence, _ = read(appraiser.folder / "snp" / "evidence-v1.json", Tee.AZURE_SNP)
    strict = replace(appraiser, rule=REQUIRED)
    with pytest.raises(AttestationError) as refusal:
        strict.snp(evidence)
    assert refusal.value.code.name == "CRL_MISSING"


def test_the_runtime_data_as_received(appraiser: Appraiser) -> None:
    """Any byte of it, and of the headers around it."""
    evidence, _ = read(appraiser.folder / "snp" / "evidence-v1.json", Tee.AZURE_SNP)
    raw = parse_azure(evidence.report).hcl_report

    def verify(hcl: bytes) -> object:
        return appraiser.snp(altered_document(evidence, hcl_report=hcl))

    verify(raw)
    none_accepted(verify, every_flip(raw, end=32))
    codes = none_accepted(verify, list(every_flip(raw, start=0x4C0))[::3])
    assert {"RUNTIME_DATA_UNBOUND", "TRAILING_DATA"} <= codes


@pytest.mark.parametrize(("folder", "kind"), [("snp", "SNP"), ("tdx", "TDX")])
def test_single_files(appraiser: Appraiser, folder: str, kind: str) -> None:
    hcl = parse_hcl((appraiser.folder / folder / "hcl-report.bin").read_bytes())
    assert hcl.report_type is ReportType[kind]
    assert parse_runtime_data(hcl.runtime_data).vm_configuration.secure_boot


def test_tdx_by_parts(appraiser: Appraiser) -> None:
    """TD report, quote, runtime data and vTPM quote belong together."""
    evidence, nonce = read(appraiser.folder / "tdx" / "evidence-v1.json", Tee.AZURE_TDX)
    parts = parse_parts(evidence, tee=Tee.AZURE_TDX, report_type=ReportType.TDX, check_log=NO_LOG)
    body = parse_quote(parts.document.td_quote).body
    assert isinstance(body, TdReport)
    require_same_td(parts.hcl.hardware_report, body)
    at = AppraisalContext(now=NOW, rule=ANY, cache=Cache())
    guest = require_vouched(parts, body.report_data, at)
    assert nonce == b"challenge"
    assert guest.vm.tpm_persisted is False
    assert guest.vm.root_cert_thumbprint
    vtpm = verify_guest_quote(guest, replace(at, cache=Cache()))
    values = b"".join(vtpm.pcrs[index] for index in range(24))
    assert hashlib.sha256(values).digest() in parts.document.quoted
    with pytest.raises(AttestationError) as refusal:
        require_same_td(
            parts.hcl.hardware_report, msgspec.structs.replace(body, rtmr1=b"\x01" * 48)
        )
    assert refusal.value.code.name == "TD_REPORT_MISMATCH"
    with pytest.raises(AttestationError) as refusal:
        require_vouched(parts, b"\x01" + body.report_data[1:], replace(at, cache=Cache()))
    assert refusal.value.code.name == "RUNTIME_DATA_UNBOUND"


def test_tdx_without_collateral_of_its_platform(appraiser: Appraiser, vectors: Path) -> None:
    """Its FMSPC is 00806f050000, for which no TCB info is at hand: the quote stands alone."""
    evidence, _ = read(appraiser.folder / "tdx" / "evidence-v1.json", Tee.AZURE_TDX)
    name = "assembled-2026-03-50806f_collateral.json"
    collateral = parse_json_collateral((vectors / "tdx" / name).read_bytes(), what=name)
    anchors, cache = IntelAnchors.production(), Cache()
    with pytest.raises(RegaliaError) as refusal:
        verify_genuine_tdx(
            parse_tdx(evidence),
            anchors=anchors,
            collateral=prepare(collateral, anchors=anchors, cache=cache),
            at=AppraisalContext(now=datetime(2026, 3, 17, tzinfo=UTC), rule=ANY, cache=cache),
        )
    assert refusal.value.code.name == "LEAF_BINDING_MISMATCH"


@pytest.mark.parametrize("name", SNP)
def test_what_a_policy_says_of_real_vms(appraiser: Appraiser, name: str) -> None:
    """Every sample is a Milan with the serial console on: neither passes unless by name."""
    evidence, _ = read(appraiser.folder / "snp" / name, Tee.AZURE_SNP)
    claims = appraiser.snp(evidence)
    machine = claims.instance.hex()
    words = BaselineWords(hardware="genuine", revocation="any", machines=(), grace_days=0)
    platform = baseline(words)

    def codes(platform: Platform) -> list[str]:
        return [
            each.code.name for each in PlatformRules(platform, built_in=True).judge(claims).findings
        ]

    assert codes(platform) == ["PRODUCT_DENIED"]
    named = baseline(replace(words, machines=(machine,)))
    assert codes(named) == []
    section = named.azure_snp
    assert section is not None
    strict = replace_struct(section, vm=replace_struct(section.vm, console="deny"))
    assert codes(replace_struct(named, azure_snp=strict)) == ["VM_CONFIGURATION_DENIED"]
