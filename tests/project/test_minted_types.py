"""What only a verifier can make: no type that vouches for something is made by hand."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import is_dataclass

import pytest

import regalia

MODULES = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(regalia.__path__, "regalia.")
    if not found.name.endswith("__main__")
]
MINTED = [
    kind
    for module in MODULES
    for kind in vars(module).values()
    if isinstance(kind, type)
    and kind.__module__ == module.__name__
    and is_dataclass(kind)
    and "mint" in inspect.signature(kind).parameters
]


def test_there_are_such_types() -> None:
    """Some of every package that verifies."""
    packages = {kind.__module__.split(".")[1] for kind in MINTED}
    assert packages >= {
        "appraisal",
        "broker",
        "client",
        "control",
        "policy",
        "runtime",
        "seal",
        "tees",
    }
    assert len(MINTED) > 30


@pytest.mark.parametrize("kind", MINTED, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
@pytest.mark.parametrize("mint", [object(), None], ids=["another", "none"])
def test_it_is_not_made_by_hand(kind: type, mint: object) -> None:
    """With every argument at its place, so that nothing but the mint is wrong."""
    fields = dict.fromkeys(inspect.signature(kind).parameters)
    with pytest.raises(TypeError, match=r" (come|comes|cleared by) |^use \w*\.?production\(\)$"):
        kind(**{**fields, "mint": mint})
