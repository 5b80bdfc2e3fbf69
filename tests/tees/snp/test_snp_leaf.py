"""AMD's extensions of the leaf, each absent, altered, malformed or out of place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.tees.snp.evidence.leaf import (
    OID_CSP_ID,
    OID_HWID,
    OID_PRODUCT_NAME,
    OID_SPL,
    OID_SPL_SPARE,
)
from regalia.tees.snp.evidence.wire import EndorsementKeyKind, Product
from regalia_testing.der import OCTET_STRING, integer, tlv
from regalia_testing.tees.snp.authority import ia5_string
from regalia_testing.tees.snp.defects import HEALTHY
from regalia_testing.tees.snp.reports import reported_tcb
from regalia_testing.tees.snp.simulator import CSP_ID
from regalia_testing.tees.snp.testbed import chain_of, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.tees.snp.testbed import SnpChain, SnpTestbed


@pytest.fixture
def chain(testbed: SnpTestbed) -> SnpChain:
    return chain_of(testbed)


def with_extension(chain: SnpChain, oid: str, octets: bytes | None) -> SnpChain:
    """Replace an extension's octets, or leave the extension out."""
    extensions = chain.leaf.without(oid)
    if octets is not None:
        extensions += ((oid, False, octets),)
    return replace(chain, leaf=replace(chain.leaf, extensions=extensions))


@pytest.mark.parametrize(
    "oid",
    [OID_PRODUCT_NAME, OID_HWID]
    + [OID_SPL[name] for name in ("bootloader", "tee", "snp", "microcode")],
)
def test_missing_extensions(chain: SnpChain, oid: str) -> None:
    refused("LEAF_BINDING_MISMATCH", with_extension(chain, oid, None).verify)


def test_turin_needs_its_fmc_and_genoa_has_none(
    testbed_of: Callable[[str], SnpTestbed], chain: SnpChain
) -> None:
    turin = chain_of(testbed_of("Turin"))
    turin.verify()
    refused("LEAF_BINDING_MISMATCH", with_extension(turin, OID_SPL["fmc"], None).verify)
    refused("LEAF_BINDING_MISMATCH", with_extension(chain, OID_SPL["fmc"], integer(1)).verify)
    with_extension(chain, OID_SPL["fmc"], integer(0)).verify()


@pytest.mark.parametrize("name", ["bootloader", "tee", "snp", "microcode"])
@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
def test_each_tcb_component_counts(
    testbed_of: Callable[[str], SnpTestbed], product: str, name: str
) -> None:
    chain = chain_of(testbed_of(product))
    value = reported_tcb(Product(product), HEALTHY).components()[name]
    for other in (value + 1, value - 1 if value else 255):
        altered = with_extension(chain, OID_SPL[name], integer(other))
        refused("LEAF_BINDING_MISMATCH", altered.verify)


@pytest.mark.parametrize("oid", OID_SPL_SPARE)
def test_spare_components_are_zero_or_absent(chain: SnpChain, oid: str) -> None:
    with_extension(chain, oid, None).verify()
    refused("LEAF_BINDING_MISMATCH", with_extension(chain, oid, integer(1)).verify)


def test_the_hwid_may_be_wrapped(chain: SnpChain, testbed: SnpTestbed) -> None:
    """A later encoding of the same certificate wraps the 64 bytes in an OCTET STRING."""
    wrapped = tlv(OCTET_STRING, testbed.platform.hwid)
    with_extension(chain, OID_HWID, wrapped).verify()


@pytest.mark.parametrize(
    ("oid", "octets"),
    [
        (OID_HWID, bytes(63)),
        (OID_HWID, bytes(65)),
        (OID_HWID, bytes(66)),
        (OID_HWID, bytes(8)),
        (OID_HWID, b""),
        (OID_SPL["snp"], b""),
        (OID_SPL["snp"], b"\x02"),
        (OID_SPL["snp"], b"\x02\x00"),
        (OID_SPL["snp"], b"\x02\x01\x17\x00"),  # trailing byte
        (OID_SPL["snp"], b"\x02\x02\x00\x17"),  # not the shortest
        (OID_SPL["snp"], b"\x02\x01\x97"),  # negative
        (OID_SPL["snp"], b"\x02\x02\x01\x17"),  # above 255
        (OID_SPL["snp"], b"\x04\x01\x17"),  # not an INTEGER
        (OID_SPL["snp"], b"\x02\x81\x01\x17"),  # long form of a short length
        (OID_PRODUCT_NAME, b"\x16\x00"),
        (OID_PRODUCT_NAME, b"\x16\x06Genoa"),
        (OID_PRODUCT_NAME, b"\x16\x04Genoa"),
        (OID_PRODUCT_NAME, b"\x0c\x05Genoa"),  # UTF8String
        (OID_PRODUCT_NAME, b"\x16\x05Geno\x00"),
        (OID_PRODUCT_NAME, b"\x16\x05Geno\xe4"),
        (OID_PRODUCT_NAME, b"\x16\x7f" + b"G" * 128),
    ],
)
def test_malformed_extensions(chain: SnpChain, oid: str, octets: bytes) -> None:
    refused("MALFORMED", with_extension(chain, oid, octets).verify)


def test_a_leaf_of_another_product(chain: SnpChain) -> None:
    for name in ("Milan-B0", "Turin", "Rome", "genoa", "GenoaX"):
        altered = with_extension(chain, OID_PRODUCT_NAME, ia5_string(name))
        refused("CHAIN_INVALID", altered.verify)
    with_extension(chain, OID_PRODUCT_NAME, ia5_string("Genoa-B1")).verify()


def test_extensions_of_the_other_kind(chain: SnpChain, testbed: SnpTestbed) -> None:
    vcek = with_extension(chain, OID_CSP_ID, ia5_string(CSP_ID))
    refused("LEAF_BINDING_MISMATCH", vcek.verify)
    vlek = chain_of(testbed, EndorsementKeyKind.VLEK)
    assert vlek.verify().csp_id == CSP_ID
    refused("LEAF_BINDING_MISMATCH", with_extension(vlek, OID_CSP_ID, None).verify)
    refused("LEAF_BINDING_MISMATCH", with_extension(vlek, OID_HWID, bytes(64)).verify)


@pytest.mark.parametrize("oid", [OID_HWID, OID_SPL["microcode"], OID_PRODUCT_NAME])
def test_duplicate_extensions(chain: SnpChain, oid: str) -> None:
    twin = next(e for e in chain.leaf.extensions if e[0] == oid)
    leaf = replace(chain.leaf, extensions=(*chain.leaf.extensions, twin))
    refused("MALFORMED", replace(chain, leaf=leaf).verify)
