"""Real quotes get the verdict that shared/vectors/README.md states for them."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    load_der_public_key,
    load_pem_public_key,
)

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.pki import Cache
from regalia.core.errors import AttestationError
from regalia.tees.tpm.evidence import (
    ALL_PCRS,
    AttestationPublicKey,
    TpmAnchors,
    TpmCollateral,
    assumed_attestation_key,
    parse,
    require_attestation_key,
    verify_genuine,
)
from regalia.tees.tpm.evidence.boot import verify_boot
from regalia.tees.tpm.evidence.document import TpmQuote
from regalia.tees.tpm.evidence.go_tpm_tools import parse_go_attestation
from regalia.tees.tpm.evidence.keys import public_key, spki
from regalia.tees.tpm.evidence.layout import HashAlg, SignatureAlg
from regalia.tees.tpm.evidence.public import parse_public
from regalia.tees.tpm.evidence.quote import verify_quote_signature
from regalia.tees.tpm.evidence.wire import parse_quote, parse_signature
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.mutation import every_flip, none_accepted
from regalia_testing.tees.tpm.authority import TpmAuthority
from regalia_testing.tees.tpm.live_enrolment import NO_LISTS
from regalia_testing.verify import verify_fresh_quote

if TYPE_CHECKING:
    from regalia.tees.tpm.evidence.go_tpm_tools import GoAttestation

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
GCE = ("google-gce-cos-85-no-nonce.pb", "google-gce-cos-85-nonce9009.pb")


@pytest.fixture(scope="module")
def folder() -> Path:
    default = Path(__file__).parents[4] / "shared" / "vectors"
    found = Path(os.environ.get("REGALIA_VECTORS", default)) / "tpm"
    if not found.is_dir():
        pytest.skip("set REGALIA_VECTORS to the folder of real evidence")
    return found


def load(folder: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / name).read_text())
    return loaded


def b64(text: str) -> bytes:
    return base64.b64decode(text)


def keylime(folder: Path) -> tuple[bytes, bytes, AttestationPublicKey, bytes]:
    found = load(folder, "keylime-checkquote.json")
    key = load_pem_public_key(found["ak_public_pem"].encode())
    return (
        b64(found["tpms_attest_b64"]),
        b64(found["tpmt_signature_b64"]),
        AttestationPublicKey(key, SignatureAlg.RSASSA, HashAlg.SHA256),  # type: ignore[arg-type] # it is RSA
        found["nonce_ascii"].encode(),
    )


def coco(folder: Path) -> TpmQuote:
    found = load(folder, "coco-tpm_evidence.json")
    key = load_der_public_key(b64(found["ak_public"]))
    public = assumed_attestation_key(key, SignatureAlg.RSASSA, HashAlg.SHA256)  # type: ignore[arg-type] # it is RSA
    quote = found["tpm_quote"]
    pcrs = {pcr: bytes.fromhex(value) for pcr, value in enumerate(quote["pcrs"])}
    return TpmQuote(
        b64(quote["message"]),
        b64(quote["signature"]),
        public.encode(),
        {HashAlg.SHA256: pcrs},
    )


def gce(folder: Path, name: str) -> GoAttestation:
    return parse_go_attestation((folder / name).read_bytes())


def test_keylime_quote(folder: Path) -> None:
    quoted, signature, key, nonce = keylime(folder)
    quote = verify_quote_signature(quoted, signature, key=key)
    assert quote.extra_data == nonce
    assert [(bank.alg, bank.pcrs) for bank in quote.selection] == [(HashAlg.SHA256, (16,))]
    assert quote.encode() == quoted
    assert parse_signature(signature).encode() == signature


def test_keylime_values_of_one_register(folder: Path) -> None:
    quoted, signature, key, nonce = keylime(folder)
    blob = b64(load(folder, "keylime-checkquote.json")["pcrblob_b64"])
    # tpm2-tools' file: selections, then digests as TPM2B of a fixed size of 64.
    at = blob.index(b"\x20\x00", 100) + 2
    pcrs = {HashAlg.SHA256: {16: blob[at : at + 32]}}
    wanted = {HashAlg.SHA256: frozenset({16})}
    check = {"key": key, "expected_data": nonce, "selection": wanted}
    verify_fresh_quote(quoted, signature, pcrs, **check)  # type: ignore[arg-type] # by name
    none_accepted(
        lambda altered: verify_fresh_quote(altered, signature, pcrs, **check),  # type: ignore[arg-type] # by name
        every_flip(quoted),
    )
    with pytest.raises(AttestationError) as refusal:
        verify_fresh_quote(
            quoted, signature, pcrs, **{**check, "selection": {HashAlg.SHA256: ALL_PCRS}}
        )  # type: ignore[arg-type] # by name
    assert refusal.value.code.name == "QUOTE_SELECTION"


def test_coco_quote_holds_but_its_key_is_self_asserted(folder: Path) -> None:
    quote = coco(folder)
    key = require_attestation_key(parse_public(quote.ak_public))
    data = parse_quote(quote.quoted).extra_data
    verify_fresh_quote(
        quote.quoted,
        quote.signature,
        quote.pcrs,
        key=key,
        expected_data=data,
        selection={HashAlg.SHA256: ALL_PCRS},
    )
    assert refusal_of(quote, TpmCollateral()) == "AK_UNBOUND"
    other = TpmAuthority.create(now=NOW)
    assert refusal_of(quote, TpmCollateral(ak_roots=(other.root(),))) == "AK_UNBOUND"


def refusal_of(
    quote: TpmQuote, collateral: TpmCollateral, endorsements: tuple[bytes, ...] = ()
) -> str:
    evidence = Evidence(
        tee=Tee.TPM, report=quote.encode(), endorsements=endorsements, runtime_config=b""
    )
    with pytest.raises(AttestationError) as refusal:
        verify_genuine(
            parse(evidence),
            anchors=TpmAnchors.production(),
            collateral=collateral.prepare(),
            at=AppraisalContext(now=NOW, rule=NO_LISTS, cache=Cache()),
        )
    return refusal.value.code.name


@pytest.mark.parametrize("name", GCE)
def test_gce_quotes_of_every_bank(folder: Path, name: str) -> None:
    found = gce(folder, name)
    public = parse_public(found.quotes[0].ak_public)
    assert public.encode() == found.quotes[0].ak_public
    key = require_attestation_key(public)
    banks = {next(iter(quote.pcrs)): quote for quote in found.quotes}
    assert list(banks) == [HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384]
    for bank, quote in banks.items():
        parsed = verify_quote_signature(quote.quoted, quote.signature, key=key)
        assert parsed.encode() == quote.quoted
        assert parsed.qualified_signer[:2] == b"\x00\x0b"
        assert parsed.extra_data == (b"\x90\x09" if "9009" in name else b"")
        assert bank is HashAlg.SHA1 or set(quote.pcrs[bank]) == ALL_PCRS


@pytest.mark.parametrize("bank", [HashAlg.SHA256, HashAlg.SHA384])
def test_gce_values_hold_for_the_expected_nonce(folder: Path, bank: HashAlg) -> None:
    found = gce(folder, GCE[1])
    key = require_attestation_key(parse_public(found.quotes[0].ak_public))
    (quote,) = (quote for quote in found.quotes if bank in quote.pcrs)
    verified = verify_fresh_quote(
        quote.quoted,
        quote.signature,
        quote.pcrs,
        key=key,
        expected_data=b"\x90\x09",
        selection={bank: ALL_PCRS},
    )
    boot = verify_boot(found.event_log, verified.pcrs[bank], bank)
    assert boot is not None
    assert boot.secure_boot is not None


def test_gce_sha1_bank_is_refused(folder: Path) -> None:
    found = gce(folder, GCE[1])
    quote = found.quotes[0]
    with pytest.raises(AttestationError) as refusal:
        verify_fresh_quote(
            quote.quoted,
            quote.signature,
            quote.pcrs,
            key=require_attestation_key(parse_public(quote.ak_public)),
            expected_data=b"\x90\x09",
            selection={HashAlg.SHA1: ALL_PCRS},
        )
    assert refusal.value.code.name == "TPM_WEAK_HASH"


@pytest.mark.parametrize("name", GCE)
def test_gce_ak_certificate_leads_to_no_root_that_is_here(folder: Path, name: str) -> None:
    """Google's intermediate and root did not come along, so the chain cannot be closed."""
    found = gce(folder, name)
    quote = found.quotes[1]
    assert found.ak_cert
    public = parse_public(quote.ak_public)
    assert spki(public_key(public)) in found.ak_cert
    endorsements = (found.ak_cert, *found.intermediate_certs)
    assert refusal_of(quote, TpmCollateral(), endorsements) == "AK_UNBOUND"
    other = TpmCollateral(ak_roots=(TpmAuthority.create(now=NOW).root(),))
    assert refusal_of(quote, other, endorsements) == "ROOT_UNTRUSTED"


def test_gce_quotes_under_each_others_values(folder: Path) -> None:
    one, other = (gce(folder, name).quotes[1] for name in GCE)
    key = require_attestation_key(parse_public(one.ak_public))
    with pytest.raises(AttestationError) as refusal:
        verify_quote_signature(one.quoted, other.signature, key=key)
    assert refusal.value.code.name == "SIGNATURE_INVALID"
    mixed = replace(one, signature=other.signature)
    assert refusal_of(mixed, TpmCollateral()) == "SIGNATURE_INVALID"
