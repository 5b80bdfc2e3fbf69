"""Conditions that cannot fail are found, and none that could is called so."""

from __future__ import annotations

import pytest

from regalia.policy.condition_fields import RELEASE_FIELDS
from regalia.policy.condition_grammar import check_condition
from regalia.policy.condition_truth import PARTS_MAX, cannot_fail

ALWAYS = [
    "true",
    "1 == 1",
    "'a' != 'b'",
    "!false",
    "!(1 > 2)",
    "2 in [1, 2]",
    "claims.tee == claims.tee",
    "model.version <= model.version",
    "model.version >= model.version",
    "!(model.version < model.version)",
    "model.version >= 0",
    "0 <= model.version",
    "claims.tee in ['a', claims.tee]",
    "claims.tee == 'snp' || true",
    "claims.tee == 'snp' || claims.tee != 'snp'",
    "claims.tee != 'snp' || (claims.tee == 'snp')",
    "model.version < 3 || model.version >= 3",
    "model.version > 3 || model.version <= 3",
    "claims.tee == 'a' && model.version == 1 || claims.tee != 'a' || model.version != 1",
    "claims.product.startsWith('')",
    'claims.product.contains("")',
    "claims.product.endsWith('')",
    "claims.product.matches('.*')",
    "config.egress.all(x, true)",
    "config.egress.all(x, x == x)",
    "!(claims.tee == 'a' && claims.tee != 'a')",
]
MAYBE = [
    "false",
    "",
    "true ;",
    "claims.tee == 'snp'",
    "claims.tee != 'snp'",
    "!(claims.tee == 'snp')",
    "claims.tee == 'snp' || claims.tee == 'tdx'",
    "claims.tee == 'a' || claims.product != 'a'",
    "claims.tee == 'snp' && true",
    "false || claims.tee == 'snp'",
    "model.version < 3 || model.version > 3",
    "model.version < model.version",
    "claims.tee != claims.tee",
    "model.version >= 1",
    "1 <= model.version",
    "model.version > 0",
    "claims.tee in ['a', 'b']",
    "claims.tee in config.egress",
    "claims.product.startsWith('M')",
    "claims.product.matches('.+')",
    "config.egress.all(x, x == 'a')",
    "config.egress.exists(x, true)",
    "config.egress.exists(x, x == x)",
    "config.egress.size() > 0",
    " && ".join(f"model.version != {n}" for n in range(PARTS_MAX + 2)),
    " || ".join(f"model.version == {n}" for n in range(PARTS_MAX + 2)),
]


@pytest.mark.parametrize("source", ALWAYS)
def test_it_cannot_fail(source: str) -> None:
    check_condition(source, RELEASE_FIELDS)
    assert cannot_fail(source)


@pytest.mark.parametrize("source", MAYBE)
def test_it_could_fail(source: str) -> None:
    assert not cannot_fail(source)
