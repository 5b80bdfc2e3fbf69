"""What a record says of a machine: the page's table is about every TEE, in the code's own words."""

from __future__ import annotations

import re
from pathlib import Path

from regalia.tees.intel.claims import SgxClaims, TdxClaims
from regalia.tees.nitro.claims import PRODUCT
from regalia.tees.snp.names import PRODUCTS
from regalia.wire.evidence import Tee
from regalia.wire.release import ReleaseRecord

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "spec" / "release-record.md").read_text(encoding="utf-8")


def row(tee: str) -> list[str]:
    (found,) = re.findall(rf"^\| `{tee}` \| (.+) \|$", PAGE, re.MULTILINE)
    cells: list[str] = found.split(" | ")
    return cells


def test_every_tee_of_the_page_has_a_row() -> None:
    (listed,) = re.findall(r"^\| `tee` \| text \| (.+?); empty", PAGE, re.MULTILINE)
    tees = re.findall("`([^`]+)`", listed)
    assert len(tees) > 6
    assert set(tees) <= {str(tee) for tee in Tee}
    for tee in tees:
        assert len(row(tee)) == 4


def test_products() -> None:
    assert re.findall("`([^`]+)`", row("sev-snp")[0]) == list(PRODUCTS)
    for tee, kind in (("tdx", TdxClaims), ("sgx", SgxClaims)):
        assert row(tee)[0] == f"`{kind.product.fget(None)}`"  # type: ignore[attr-defined]
    assert row("aws-nitro")[0] == f"`{PRODUCT}`"


def test_every_member_of_a_record_is_described() -> None:
    table = PAGE[PAGE.index("## 1. ") : PAGE.index("Records of version 2")]
    for name in ReleaseRecord.__struct_fields__:
        assert f"| `{name}` |" in table
