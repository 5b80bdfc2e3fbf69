"""What holds for leases on SQLite holds on PostgreSQL: the same tests, on the other database."""

from __future__ import annotations

import pytest

from tests.broker import test_lease_ends, test_lease_return, test_release_leases

pytestmark = pytest.mark.slow

for module in (test_release_leases, test_lease_ends, test_lease_return):
    # Fixtures of a module come along; what it takes from the folder is of PostgreSQL here.
    globals().update(
        {
            name: value
            for name, value in vars(module).items()
            if name.startswith("test_") or hasattr(value, "_fixture_function")
        }
    )


def test_there_are_tests() -> None:
    """A renamed module, or a fixture that pytest wraps otherwise, would leave none."""
    assert len([name for name in globals() if name.startswith("test_")]) > 30
