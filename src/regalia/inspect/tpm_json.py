"""JSON documents around a quote of a TPM: Azure's vTPM, CoCo's standalone TPM, Keylime.

Numbers, hex and base64 are read alike: CoCo's version 0 wrote lists of numbers, version 1 text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regalia.inspect.members import member_bytes, require_member
from regalia.inspect.raw_forms import malformed
from regalia.inspect.recognized import BareQuote, Recognized
from regalia.tees.azure.evidence.wire import AzureDocument
from regalia.tees.tpm.evidence.layout import HashAlg, SignatureAlg
from regalia.tees.tpm.evidence.wire import TPM_GENERATED_VALUE
from regalia.wire.evidence import ENDORSEMENTS_MAX, Evidence, Tee
from regalia.wire.evidence_codes import unsupported_version
from regalia.wire.spelling import certificates_in_json, from_json_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PCRS = 24
_DECIMAL = re.compile(r"[0-9]{1,9}")
_AZURE_VERSIONS = (0, 1, 2)
_U16_MAX = (1 << 16) - 1
_KEYLIME_MARK = "r"  # before the three parts of a quote, as tpm2_quote's own format has it
_ATTEST_START = TPM_GENERATED_VALUE.to_bytes(4, "big")


def azure(body: Mapping[str, object]) -> Recognized | None:
    """A paravisor's report, the vTPM's quote, and a VCEK or a TD's quote.

    None if there is no quote of a vTPM in it.

    Raises:
        ParseError: UNSUPPORTED_VERSION, EVIDENCE_INCOMPLETE or MALFORMED.
    """
    _require_known_version(body.get("version"))
    quote = body.get("tpm_quote", body.get("quote"))
    if not isinstance(quote, dict):
        return None
    pcrs = require_member(quote, "pcrs", "tpm_quote: ")
    if not isinstance(pcrs, list):
        raise malformed("tpm_quote.pcrs is no list")
    td_quote = member_bytes(body, "td_quote") if body.get("td_quote") else b""
    document = AzureDocument(
        hcl_report=member_bytes(body, "hcl_report" if "hcl_report" in body else "report"),
        td_quote=td_quote,
        quoted=member_bytes(quote, "message"),
        signature=_rsa_signature(member_bytes(quote, "signature")),
        pcrs=_bank([from_json_value(value) for value in pcrs]),
    )
    tee, name = (Tee.AZURE_TDX, "TDX") if td_quote else (Tee.AZURE_SNP, "SEV-SNP")
    certificates = () if td_quote else certificates_in_json(body.get("vcek"))[:ENDORSEMENTS_MAX]
    return Recognized(
        form=f"Azure confidential VM on {name}",
        evidence=Evidence(tee, document.encode(), certificates, b""),
    )


def _require_known_version(version: object) -> None:
    """It says how values are written. Absent, as in version 0, it may be null."""
    if version is None:
        return
    text = version if isinstance(version, str) else str(version)
    if isinstance(version, bool) or not _DECIMAL.fullmatch(text):
        raise malformed("version is no whole number")
    if int(text) not in _AZURE_VERSIONS:
        raise unsupported_version("CoCo evidence of Azure: version", int(text), _AZURE_VERSIONS)


def tpm_beside_bare_key(body: Mapping[str, object]) -> BareQuote | None:
    """CoCo's evidence of a TPM that no TEE vouches for. Raises ParseError."""
    quote = body.get("tpm_quote")
    if not isinstance(quote, dict):
        return None
    return BareQuote(
        member_bytes(quote, "message"),
        member_bytes(quote, "signature"),
        member_bytes(body, "ak_public"),
    )


def keylime_text(body: Mapping[str, object]) -> BareQuote | None:
    """A quote and its key in members of their own. Raises ParseError."""
    return BareQuote(
        member_bytes(body, "tpms_attest_b64"),
        member_bytes(body, "tpmt_signature_b64"),
        member_bytes(body, "ak_public_pem"),
    )


def keylime_answer(body: Mapping[str, object]) -> BareQuote | None:
    """What Keylime's agent answers: ``r<attest>:<signature>:<registers>``, each in base64.

    The key in it is one for transport; the AK is what the agent registered before.
    """
    text = body.get("quote")
    if not isinstance(text, str) or not text.startswith(_KEYLIME_MARK):
        return None
    parts = [from_json_value(part) for part in text.removeprefix(_KEYLIME_MARK).split(":")]
    if len(parts) != len(("attest", "signature", "registers")) or None in parts:
        return None
    quoted, signature, _ = (part or b"" for part in parts)
    return BareQuote(quoted, signature, b"") if quoted.startswith(_ATTEST_START[:3]) else None


def _bank(values: Sequence[bytes | None]) -> dict[HashAlg, dict[int, bytes]]:
    """The SHA-256 bank; its size is checked with the quote."""
    registers = [value for value in values if value and len(value) == HashAlg.SHA256.size]
    if len(values) != _PCRS or len(registers) != _PCRS:
        raise malformed(
            f"{len(registers)} of {len(values)} PCR values have {HashAlg.SHA256.size} bytes,"
            f" want {_PCRS}"
        )
    return {HashAlg.SHA256: dict(enumerate(registers))}


def _rsa_signature(raw: bytes) -> bytes:
    """TPMT_SIGNATURE around a bare RSASSA signature with SHA-256, as Azure's vTPM makes them."""
    head = (SignatureAlg.RSASSA, HashAlg.SHA256, len(raw))
    if len(raw) > _U16_MAX:
        raise malformed(f"a signature of {len(raw)} bytes")
    return b"".join(number.to_bytes(2, "big") for number in head) + raw
