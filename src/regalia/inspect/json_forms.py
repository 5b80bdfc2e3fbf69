"""JSON documents around evidence, as other projects write them: one table, told by the members.

A document that fits no row is searched: what it holds may still be evidence in another wrapper.
Nobody signs these documents, so members that are not needed are ignored, and bytes may be spelled
in hex, in base64 of either alphabet, or as a list of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regalia.core.errors import ParseError
from regalia.inspect.codes import InspectCode
from regalia.inspect.members import lack, require_member, unread
from regalia.inspect.raw_forms import intel, malformed, snp
from regalia.inspect.recognized import Recognized
from regalia.inspect.tpm_json import azure, keylime_answer, keylime_text, tpm_beside_bare_key
from regalia.tees.boot.evidence.log import looks_like_event_log
from regalia.tees.nvidia.evidence.nvtrust import (
    CHAIN_MEMBERS,
    REPORT_MEMBERS,
    is_device,
    read_devices,
)
from regalia.tees.snp.evidence.certificate_table import parse_certificate_table
from regalia.tees.snp.evidence.fields_json import report_of_fields
from regalia.tees.tpm.evidence.wire import parse_quote
from regalia.wire.evidence import ENDORSEMENTS_MAX, Evidence, Tee
from regalia.wire.spelling import certificates_in, certificates_in_json, from_json_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regalia.inspect.members import Unread
    from regalia.inspect.recognized import BareQuote

    Members = Mapping[str, object]

_QUOTES = ("quote", "intel_quote", "td_quote", "tdx_quote", "tdQuote")
# Of Azure's THIM, of Intel's service, and of tools that keep its answers.
_ENDORSEMENTS = frozenset({"vcekCert", "tcbInfo", "enclaveIdentity", "tcb_info"})
# Of Azure's evidence: they bind a guest to its vTPM, which a quote of the TD alone does not.
_VTPM_PARTS = ("tpm_quote", "hcl_report")
VTPM_NAMES = frozenset({*_VTPM_PARTS, "tpmQuote", "hclReport"})
# Names of the drivers behind configfs-tsm (Linux, Documentation/ABI/testing/configfs-tsm-report).
_PROVIDERS = {"sev_guest": Tee.SEV_SNP, "tdx_guest": Tee.TDX}
_LOGS = ("cc_eventlog", "event_log", "eventlog", "ccel", "ccelData", "eventLog")


@dataclass(frozen=True, slots=True)
class JsonForm:
    """One kind of document.

    Attributes:
        name: for people.
        members: it has all of these.
        report: the member that holds the evidence.
        read: makes evidence of it; None if it is not this kind after all.
    """

    name: str
    members: frozenset[str]
    report: str
    read: Callable[[Members], Recognized | None]

    def fits(self, body: Members) -> bool:
        """Whether the document has the members."""
        return self.members <= body.keys()

    def unread(self, body: Members, path: str) -> Unread:
        """What is wrong with a document that has the members and cannot be read.

        Args:
            body: decoded, untrusted.
            path: of the document, for people.
        """
        return unread(self.name, body, self.report, path)


def with_certificates(found: Recognized, certificates: tuple[bytes, ...]) -> Recognized:
    """Evidence with certificates that stood beside it, unless it has some already.

    Args:
        found: the evidence.
        certificates: DER, untrusted.
    """
    if found.evidence is None or not certificates or found.evidence.endorsements:
        return found
    kept = certificates[:ENDORSEMENTS_MAX]
    return replace(found, evidence=replace(found.evidence, endorsements=kept))


def _snp_evidence(body: Members) -> Recognized | None:
    """CoCo: the report's fields, or its bytes, and a chain."""
    report = body["attestation_report"]
    certificates = certificates_in_json(body.get("cert_chain"))
    if not isinstance(report, dict):
        raw = from_json_value(report)
        found = None if raw is None else snp(raw, "")
        return None if found is None else with_certificates(found, certificates)
    raw, missing = report_of_fields(report)
    if missing:
        raise ParseError(
            InspectCode.EVIDENCE_INCOMPLETE,
            "the fields of an SEV-SNP report, as CoCo writes them, without "
            f"{', '.join(missing[:6])}{' and others' if len(missing) > 6 else ''}: "  # noqa: PLR2004
            "the signature covers all of them",
        )
    evidence = Evidence(Tee.SEV_SNP, raw, certificates[:ENDORSEMENTS_MAX], b"")
    return Recognized(form="SEV-SNP report, as fields", evidence=evidence)


def _intel_quote(body: Members) -> Recognized | None:
    """A quote and what comes with it; a log in another form than the TCG's is not read.

    Raises:
        ParseError: EVIDENCE_INCOMPLETE, it is a part of Azure's evidence, and the rest is missing.
    """
    if any(name in body for name in _VTPM_PARTS):
        for part in _VTPM_PARTS:
            require_member(body, part, "of an Azure guest: ")
        # The form of Azure's evidence comes before this one, and could not read it.
        raise malformed("of an Azure guest: tpm_quote is no object of message, signature, pcrs")
    name = next(name for name in _QUOTES if name in body)
    raw = from_json_value(body[name])
    found = None if raw is None else intel(raw, "")
    if found is None or found.evidence is None:
        return None
    logs = (from_json_value(body.get(name)) for name in _LOGS)
    log = next((each for each in logs if each and looks_like_event_log(each)), b"")
    return replace(found, evidence=replace(found.evidence, event_log=log))


def _tsm(body: Members) -> Recognized | None:
    """configfs-tsm: what the kernel's interface gives for any TEE."""
    raw = from_json_value(body["outblob"])
    found = None if raw is None else snp(raw, "") or intel(raw, "")
    if found is None or found.evidence is None:
        return None
    provider = body.get("provider")
    said = _PROVIDERS.get(provider.strip()) if isinstance(provider, str) else None
    if said is not None and said is not found.evidence.tee:
        raise malformed(f"provider says {said}, and outblob holds a {found.form}")
    return with_certificates(found, _aux_certificates(body))


def _aux_certificates(body: Members) -> tuple[bytes, ...]:
    """The certificates beside a report. Raises ParseError MALFORMED."""
    if lack(body, "auxblob"):
        return ()
    beside = from_json_value(body["auxblob"])
    if beside is None:
        raise malformed("auxblob is neither hex, nor base64, nor a list of numbers")
    try:
        return parse_certificate_table(beside)
    except ParseError as exc:
        certificates = certificates_in(beside)
        if not certificates:
            raise malformed(f"auxblob holds no certificates: {exc.what}") from exc
        return certificates


def _device_list(name: str) -> Callable[[Members], Recognized | None]:
    def reader(body: Members) -> Recognized | None:
        items = body.get(name)
        if not isinstance(items, list) or not items:
            return None
        return devices_of(items, str(body.get("arch") or ""), name)

    return reader


def _nvattest(name: str) -> Callable[[Members], Recognized | None]:
    def reader(body: Members) -> Recognized | None:
        items = body.get(name)
        if not isinstance(items, list) or not items or not all(map(is_device, items)):
            return None
        return devices_of(items, "", name)

    return reader


def _one_device(body: Members) -> Recognized | None:
    if not is_device(body):
        return None
    _require_device(body, "")
    return devices_of([body], "", "")


def devices_of(items: list[object], arch: str, path: str) -> Recognized:
    """NVIDIA's devices, one for each object.

    Args:
        items: untrusted.
        arch: of those that do not say their own.
        path: of the list, for people.

    Raises:
        ParseError: EVIDENCE_INCOMPLETE, a report or a chain is missing; MALFORMED; TOO_LARGE.
    """
    for index, item in enumerate(items):
        if isinstance(item, dict):
            _require_device(item, "" if len(items) == 1 and not path else f"{path}[{index}].")
    devices = read_devices(items, arch=arch)
    form = f"NVIDIA evidence of {len(devices)} device{'' if len(devices) == 1 else 's'}"
    return Recognized(form=form, evidence=None, devices=devices)


def _require_device(item: Members, around: str) -> None:
    """Its report and its chain hold something; NVIDIA's own names stand for those that lack."""
    for names in (REPORT_MEMBERS, CHAIN_MEMBERS):
        require_member(item, next((name for name in names if name in item), names[0]), around)


def _bare(read: Callable[[Members], BareQuote | None]) -> Callable[[Members], Recognized | None]:
    def reader(body: Members) -> Recognized | None:
        quote = read(body)
        if quote is None:
            return None
        parse_quote(quote.quoted)  # what cannot be read is bound to nobody's key
        key = "with a bare public key" if quote.ak_spki else "without its key"
        return Recognized(form=f"TPM quote, {key}", evidence=None, bare_quote=quote)

    return reader


def _endorsements(body: Members) -> Recognized | None:
    raise ParseError(
        InspectCode.ENDORSEMENTS_NO_EVIDENCE,
        f"{', '.join(sorted(_ENDORSEMENTS.intersection(body)))}: endorsements, as a vendor's"
        " service or a cloud's gives them, and no report",
    )


def _form(name: str, members: str, read: Callable[[Members], Recognized | None]) -> JsonForm:
    names = members.split()
    return JsonForm(name, frozenset(names), names[0], read)


# In order: what has more members of its own goes first. The first member holds the evidence.
JSON_FORMS: tuple[JsonForm, ...] = (
    _form("CoCo evidence of Azure", "tpm_quote hcl_report", azure),
    _form("CoCo evidence of Azure, version 0", "quote report vcek", azure),
    _form("CoCo evidence of a TPM", "tpm_quote ak_public", _bare(tpm_beside_bare_key)),
    _form("a quote and its key, as text", "tpms_attest_b64 ak_public_pem", _bare(keylime_text)),
    _form("an answer of Keylime's agent", "quote hash_alg", _bare(keylime_answer)),
    _form("JSON of NVIDIA's verifier", "attestation_report attestation_cert_chain", _one_device),
    _form("CoCo evidence of SEV-SNP", "attestation_report cert_chain", _snp_evidence),
    _form("evidence of SEV-SNP", "attestation_report", _snp_evidence),
    _form("an answer of configfs-tsm", "outblob", _tsm),
    _form("a request to NVIDIA's service", "evidence_list", _device_list("evidence_list")),
    _form(
        "CoCo evidence of NVIDIA devices",
        "device_evidence_list",
        _device_list("device_evidence_list"),
    ),
    _form("JSON of NVIDIA's verifier", "gpus", _nvattest("gpus")),
    _form("JSON of NVIDIA's verifier", "nvswitches", _nvattest("nvswitches")),
    _form("evidence of an NVIDIA device", "evidence certificate", _one_device),
    _form("JSON of NVIDIA's verifier", "AttestationReport CertificateChains", _one_device),
    _form(
        "JSON of NVIDIA's Python tools",
        "attestationReportHexStr certChainBase64Encoded",
        _one_device,
    ),
    _form("CoCo evidence of TDX", "quote cc_eventlog", _intel_quote),
    _form("a getQuote answer of dstack", "quote vm_config", _intel_quote),
    *(_form(f"a document with the member {name}", name, _intel_quote) for name in _QUOTES),
    *(_form("endorsements", name, _endorsements) for name in sorted(_ENDORSEMENTS)),
)
