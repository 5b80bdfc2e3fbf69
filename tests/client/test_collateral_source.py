"""A client's collateral: loose files, or a bundle that never goes back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from regalia.appraisal.collateral_rule import NO_GRACE
from regalia.client.collateral import (
    FLOOR_FILE,
    BundleSource,
    FloorFile,
    load_bundle,
    load_collateral,
)
from regalia.core.errors import AttestationError
from regalia.crypto.sign import SigningKey
from regalia.host.clock import system_clock
from regalia.verifier.collateral import CollateralSet, make_bundle, sort_files
from regalia_testing.collateral import DENY_LIST, SITE
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from pathlib import Path

    from regalia_testing.tees.snp.simulator import SnpSimulator

KEY = SigningKey.generate_ed25519()
NOW = system_clock().replace(microsecond=0)
DAY = timedelta(days=1)


@pytest.fixture
def source(tmp_path: Path, platform: SnpSimulator) -> BundleSource:
    (tmp_path / "state").mkdir()
    found = BundleSource(
        path=tmp_path / "bundle",
        signers=(KEY.verify_key,),
        threshold=1,
        name=SITE,
        state=tmp_path / "state",
    )
    found.path.write_bytes(bundle(platform))
    return found


def bundle(platform: SnpSimulator, **changes: Any) -> bytes:  # noqa: ANN401
    files = {"ark.der": platform.ark, "list.crl": platform.crl, "deny.json": DENY_LIST.encode()}
    fields: dict[str, Any] = {
        "name": SITE,
        "serial": 3,
        "issued": NOW - DAY,
        "next_update": NOW + DAY,
        "tcb_evaluation_data_number": 0,
        "keys": (KEY,),
    }
    return make_bundle(sort_files(files), **(fields | changes))


def test_a_bundle_is_read_and_remembered(source: BundleSource, platform: SnpSimulator) -> None:
    found = load_collateral(source)
    assert (found.certificates, found.crls) == ((platform.ark,), (platform.crl,))
    assert found.denied.identities
    with FloorFile.locked(source.state) as floors:
        assert (floors.name(), floors.read(SITE).serial) == (SITE, 3)
    before = (source.state / FLOOR_FILE).stat().st_mtime_ns
    load_collateral(source)
    assert (source.state / FLOOR_FILE).stat().st_mtime_ns == before


def test_an_older_bundle_is_refused(source: BundleSource, platform: SnpSimulator) -> None:
    source.path.write_bytes(bundle(platform, serial=4))
    load_collateral(source)
    source.path.write_bytes(bundle(platform, serial=3))
    refused("COLLATERAL_ROLLBACK", load_collateral, source=source)
    with FloorFile.locked(source.state) as floors:
        assert floors.read(SITE).serial == 4


def test_a_refused_bundle_is_not_remembered(source: BundleSource, platform: SnpSimulator) -> None:
    source.path.write_bytes(bundle(platform, serial=99, keys=()))
    refused("COLLATERAL_SIG_INVALID", load_collateral, source=source)
    assert not (source.state / FLOOR_FILE).exists()


def test_late_by_more_than_any_policy_may_tolerate(
    source: BundleSource, platform: SnpSimulator
) -> None:
    source.path.write_bytes(bundle(platform))
    late = load_collateral(source, clock=lambda: NOW + 91 * DAY)  # its last day and 90 more
    refused("COLLATERAL_STALE", late.require_fresh, now=NOW + 2 * DAY, grace=NO_GRACE)
    refused("COLLATERAL_STALE", load_collateral, source=source, clock=lambda: NOW + 92 * DAY)


def test_sources_that_are_none(
    source: BundleSource, tmp_path: Path, platform: SnpSimulator
) -> None:
    assert load_collateral(None) == CollateralSet((), ())
    refused("BAD_USAGE", load_collateral, source=source.path)
    refused("FILE_MISSING", load_collateral, source=tmp_path / "none")
    refused("FILE_MISSING", load_collateral, source=replace(source, path=tmp_path / "none"))
    refused("NOT_A_DIRECTORY", load_collateral, source=replace(source, state=tmp_path / "none"))
    refused("COLLATERAL_MISSING", load_collateral, source=replace(source, name="other"))
    refused("COLLATERAL_SIG_INVALID", load_collateral, source=replace(source, signers=()))
    load_collateral(source)
    other = replace(source, name="other")
    other.path.write_bytes(bundle(platform, name="other"))
    refused("COLLATERAL_MISSING", load_collateral, source=other)  # one folder, one site


def test_floor_files_that_are_damaged(source: BundleSource) -> None:
    load_collateral(source)
    floor = source.state / FLOOR_FILE
    right = floor.read_bytes()
    for data in (b"", b"[]", right[:-1], right + b" ", right.replace(b"floor/v1", b"floor/v2")):
        floor.write_bytes(data)
        refused("MALFORMED", load_collateral, source=source)
    floor.write_bytes(b"x" * 5000)
    refused("TOO_LARGE", load_collateral, source=source)


def test_many_readers_keep_the_highest(
    source: BundleSource, platform: SnpSimulator, tmp_path: Path
) -> None:
    """The lock is of an open folder, so threads stand in for processes."""

    def load(serial: int) -> int:
        path = tmp_path / f"bundle-{serial}"
        path.write_bytes(bundle(platform, serial=serial))
        try:
            found = load_bundle(replace(source, path=path), now=NOW, grace=NO_GRACE)
        except AttestationError:
            return 0
        return found.document.serial

    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(load, range(10, 40)))
    with FloorFile.locked(source.state) as floors:
        assert floors.read(SITE).serial == max(loaded) == 39
