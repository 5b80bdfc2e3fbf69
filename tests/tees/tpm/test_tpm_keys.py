"""What a TPM source needs no TPM for."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import ParseError
from regalia.tees.tpm.evidence import require_attestation_key
from regalia.tees.tpm.evidence.layout import HashAlg
from regalia.tees.tpm.evidence.public import parse_public
from regalia.tees.tpm.key_templates import AK_TEMPLATES, DEFAULT_AK
from regalia_testing.tees.tpm.authority import TpmAuthority

if TYPE_CHECKING:
    from collections.abc import Callable

# A template that changes makes another key, and orphans every machine that was enrolled with it.
TEMPLATES = {
    "ecdsa-p256": "0d0093d23d45bbc37bfdcc02668527a7e2a76efce7a304bb8422f41e055d6105",
    "rsa-2048": "0908e69d3808a9b5913e19366808143e6ff378b60f2ec47997fe6d01e540dffd",
}


def test_templates_never_change() -> None:
    found = {
        name: hashlib.sha256(template.encode()).hexdigest()
        for name, template in AK_TEMPLATES.items()
    }
    assert found == TEMPLATES
    assert DEFAULT_AK == "ecdsa-p256"


@pytest.mark.parametrize("name", AK_TEMPLATES)
def test_templates_are_of_attestation_keys(name: str) -> None:
    template = AK_TEMPLATES[name]
    assert parse_public(template.encode()) == template
    try:
        key = require_attestation_key(template)
    except ParseError:  # the label in place of a point is on no curve
        assert name == "ecdsa-p256"
    else:
        assert key.hash_alg is HashAlg.SHA256


@pytest.fixture
def split() -> Callable[[bytes], tuple[bytes, ...]]:
    device = pytest.importorskip("regalia.tees.tpm.device", reason="the extra tpm is absent")
    found: Callable[[bytes], tuple[bytes, ...]] = device._certificates
    return found


def test_certificates_in_an_nv_index(split: Callable[[bytes], tuple[bytes, ...]]) -> None:
    authority = TpmAuthority.create(now=datetime(2026, 11, 22, tzinfo=UTC))
    chain = (authority.issuer(), authority.root())
    for padding in (b"", b"\x00" * 7, b"\xff" * 300):
        assert split(b"".join(chain) + padding) == chain
    assert split(b"") == ()
    assert split(b"\xff" * 512) == ()
    assert split(b"\x10\x01" + chain[0]) == ()
