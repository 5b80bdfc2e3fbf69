"""The SNP and TDX sources against a double of the kernel's files, and what verifiers make of it."""

from __future__ import annotations

import errno
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.pki import Cache
from regalia.core.errors import LocalError, ParseError, UnavailableError, UsageError
from regalia.host.tsm import Configfs, request_report
from regalia.tees.intel.evidence import prepare
from regalia.tees.intel.evidence.plugin import TDX
from regalia.tees.intel.evidence.vendor import collateral_of
from regalia.tees.intel.source import TdxSource
from regalia.tees.intel.source import open_source as open_tdx_source
from regalia.tees.snp.evidence.certificate_table import (
    ARK,
    ASK,
    VCEK,
    VLEK,
    encode_certificate_table,
    parse_certificate_table,
)
from regalia.tees.snp.evidence.plugin import SNP
from regalia.tees.snp.evidence.wire import parse_report
from regalia.tees.snp.source import SnpSource
from regalia.tees.snp.source import open_source as open_snp_source
from regalia_testing.tees.intel.quotes import Workload
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.snp.defects import SnpDefects
from regalia_testing.tees.snp.simulator import SnpSimulator
from regalia_testing.testbed import MEASUREMENT, REPORT_DATA, REQUIRED, RUNTIME_CONFIG
from regalia_testing.tsm import FakeTsm
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def snp(tmp_path_factory: pytest.TempPathFactory) -> SnpSimulator:
    return SnpSimulator.create(tmp_path_factory.mktemp("tsm") / "snp", now=NOW)


def table(snp: SnpSimulator) -> bytes:
    leaf, ask, ark = snp.endorsements()
    return encode_certificate_table({ARK: ark, VCEK: leaf, ASK: ask})


def kernel(snp: SnpSimulator, **changes: object) -> FakeTsm:
    def report(data: bytes, privlevel: int) -> bytes:
        defects = SnpDefects(vmpl=max(privlevel, 0))
        return snp.report(data, measurement=MEASUREMENT, host_data=bytes(32), defects=defects)

    return FakeTsm("sev_guest", report, table(snp), **changes)  # type: ignore[arg-type] # fields


def snp_source(kernel: FakeTsm, privlevel: int | None = None) -> SnpSource:
    return SnpSource(privlevel, kernel)


def test_snp_evidence_that_verifies(snp: SnpSimulator) -> None:
    double = kernel(snp)
    evidence = snp_source(double).collect(REPORT_DATA, RUNTIME_CONFIG)
    claims = verify_fresh(
        SNP,
        evidence,
        anchors=snp.anchors(),
        collateral=snp.collateral(),
        report_data=REPORT_DATA,
        at=AppraisalContext(now=NOW, rule=REQUIRED, cache=Cache()),
    )
    assert claims.measurement == MEASUREMENT
    assert evidence.endorsements[1:] == (snp.ask, snp.ark)
    assert len(evidence.endorsements) == 3
    assert evidence.event_log == b""
    assert double.requests == {}


def test_the_privilege_level_is_asked_for(snp: SnpSimulator) -> None:
    evidence = snp_source(kernel(snp), 2).collect(REPORT_DATA, RUNTIME_CONFIG)
    assert parse_report(evidence.report).vmpl == 2


def test_tdx_evidence_that_verifies(tmp_path: Path) -> None:
    intel = IntelSimulator.make(now=NOW)
    boot = intel.tdx_evidence(REPORT_DATA, measurement=MEASUREMENT, runtime_config=RUNTIME_CONFIG)

    def quote(data: bytes, privlevel: int) -> bytes:
        assert privlevel == -1
        return intel.td_quote(Workload(data, MEASUREMENT, bytes(48)))

    double = FakeTsm("tdx_guest", quote, None)
    log = tmp_path / "CCEL"
    source = TdxSource(log, double)
    evidence = source.collect(REPORT_DATA, RUNTIME_CONFIG)
    assert evidence.event_log == b""
    anchors, cache = intel.anchors(), Cache()
    claims = verify_fresh(
        TDX,
        evidence,
        anchors=anchors,
        collateral=prepare(
            collateral_of(intel.verifier().collateral), anchors=anchors, cache=cache
        ),
        report_data=REPORT_DATA,
        at=AppraisalContext(now=NOW, rule=REQUIRED, cache=cache),
    )
    assert claims.mr_td == MEASUREMENT
    log.write_bytes(boot.event_log)
    assert source.collect(REPORT_DATA, RUNTIME_CONFIG).event_log == boot.event_log


def test_a_request_that_somebody_else_wrote_to(snp: SnpSimulator) -> None:
    """The report would be over the intruder's data; it is asked for again."""
    once = kernel(snp, intruders=1)
    evidence = snp_source(once).collect(REPORT_DATA, RUNTIME_CONFIG)
    assert parse_report(evidence.report).report_data == REPORT_DATA
    assert once.made == 2
    always = kernel(snp, intruders=99)
    with pytest.raises(LocalError) as refusal:
        snp_source(always).collect(REPORT_DATA, RUNTIME_CONFIG)
    assert refusal.value.code.name == "TSM_DISTURBED"
    assert always.requests == {}


def test_a_kernel_that_sees_the_change_itself(snp: SnpSimulator) -> None:
    double = kernel(snp, changed=2)
    snp_source(double).collect(REPORT_DATA, RUNTIME_CONFIG)
    assert double.made == 3
    with pytest.raises(LocalError) as refusal:
        snp_source(kernel(snp, changed=3)).collect(REPORT_DATA, RUNTIME_CONFIG)
    assert refusal.value.code.name == "TSM_DISTURBED"


@pytest.mark.parametrize("provider", ["tdx_guest", "arm_cca_guest", "", "sev_guest2"])
def test_another_provider(snp: SnpSimulator, provider: str) -> None:
    double = kernel(snp)
    double.provider = provider
    with pytest.raises(LocalError) as refusal:
        snp_source(double).collect(REPORT_DATA, RUNTIME_CONFIG)
    assert refusal.value.code.name == "TSM_OTHER_PROVIDER"
    assert double.requests == {}


@pytest.mark.parametrize(
    ("operation", "number", "code"),
    [
        ("make", errno.ENOENT, "TSM_UNREACHABLE"),
        ("make", errno.ENXIO, "TSM_UNREACHABLE"),
        ("make", errno.EACCES, "NO_PERMISSION"),
        ("make", errno.EEXIST, "TSM_FAILED"),
        ("read provider", errno.EIO, "TSM_FAILED"),
        ("read generation", errno.EIO, "TSM_FAILED"),
        ("read outblob", errno.EIO, "TSM_FAILED"),
        ("read outblob", errno.EACCES, "NO_PERMISSION"),
        ("read auxblob", errno.EIO, "TSM_FAILED"),
        ("write inblob", errno.EINVAL, "TSM_FAILED"),
        ("write privlevel", errno.EINVAL, "TSM_FAILED"),
        ("remove", errno.EBUSY, "TSM_FAILED"),
    ],
)
def test_errors_of_the_kernel(snp: SnpSimulator, operation: str, number: int, code: str) -> None:
    double = kernel(snp, fails={operation: number})
    with pytest.raises((LocalError, UnavailableError)) as refusal:
        snp_source(double, 0).collect(REPORT_DATA, RUNTIME_CONFIG)
    assert refusal.value.code.name == code
    if operation != "remove":
        assert double.requests == {}


def test_without_the_kernels_interface(tmp_path: Path) -> None:
    """As on a machine that is no confidential VM."""
    for requests in (Configfs(tmp_path / "absent"), Configfs(tmp_path / "a" / "b")):
        with pytest.raises(UnavailableError) as refusal:
            request_report(requests, provider="tdx_guest", inblob=REPORT_DATA)
        assert refusal.value.code.name == "TSM_UNREACHABLE"
        assert "CONFIG_TSM_REPORTS" in refusal.value.code.fix


def test_a_folder_that_is_no_configfs(tmp_path: Path) -> None:
    """Its requests have no attributes, and none is left behind."""
    with pytest.raises(LocalError) as refusal:
        request_report(Configfs(tmp_path), provider="tdx_guest", inblob=REPORT_DATA)
    assert refusal.value.code.name == "TSM_FAILED"
    assert list(tmp_path.iterdir()) == []


def test_files_of_the_kernel(tmp_path: Path) -> None:
    """Reads to the end, writes at once, and has a limit."""
    requests = Configfs(tmp_path)
    requests.make("one")
    requests.write("one", "inblob", b"data")
    assert requests.read("one", "inblob") == b"data"
    requests.write("one", "large", bytes(70_000))
    with pytest.raises(OSError, match="too large"):
        requests.read("one", "large")
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o700


def test_report_data_of_another_size(snp: SnpSimulator) -> None:
    for size in (0, 63, 65):
        with pytest.raises(ParseError):
            snp_source(kernel(snp)).collect(bytes(size), RUNTIME_CONFIG)


def test_sources() -> None:
    for source in (
        open_snp_source({}),
        open_snp_source({"privlevel": 1}),
        open_tdx_source({}),
        open_tdx_source({"event_log": ""}),
    ):
        assert not source.simulated
        assert source.collect_devices(bytes(32)) == ()


@pytest.mark.parametrize(
    "options",
    [
        {"privlevel": 4},
        {"privlevel": True},
        {"privlevel": "0"},
        {"unknown": 1},
        {"privlevel": -1},
        {"devices": ["nvidia-gpu"]},
    ],
)
def test_unusable_options_of_snp(options: dict[str, object]) -> None:
    with pytest.raises(UsageError) as refusal:
        open_snp_source(options)
    assert refusal.value.code.name == "BAD_CONFIG"


@pytest.mark.parametrize("options", [{"privlevel": 0}, {"event_log": 5}, {"unknown": 1}])
def test_unusable_options_of_tdx(options: dict[str, object]) -> None:
    with pytest.raises(UsageError) as refusal:
        open_tdx_source(options)
    assert refusal.value.code.name == "BAD_CONFIG"


# The host's certificate table.


def test_certificates_come_leaf_first(snp: SnpSimulator) -> None:
    leaf, ask, ark = snp.endorsements()
    assert parse_certificate_table(encode_certificate_table({ARK: ark, ASK: ask, VLEK: leaf})) == (
        leaf,
        ask,
        ark,
    )
    assert parse_certificate_table(b"") == ()
    assert parse_certificate_table(bytes(24)) == ()
    assert parse_certificate_table(bytes(4096)) == ()


def entry(guid: bytes, offset: int, length: int) -> bytes:
    return guid + offset.to_bytes(4, "little") + length.to_bytes(4, "little")


@pytest.mark.parametrize("spelling", ["bytes", "bytes_le"])
def test_both_byte_orders_of_a_guid(spelling: str) -> None:
    raw = entry(getattr(VCEK, spelling), 48, 3) + bytes(24) + b"der"
    assert parse_certificate_table(raw) == (b"der",)


@pytest.mark.parametrize(
    "data",
    [
        b"\x01",
        entry(VCEK.bytes, 24, 3),
        entry(VCEK.bytes, 48, 4) + bytes(24) + b"der",
        entry(VCEK.bytes, 48, 0) + bytes(24),
        entry(VCEK.bytes, 0xFFFFFFFF, 0xFFFFFFFF) + bytes(24),
        entry(VCEK.bytes, 72, 3) + entry(VCEK.bytes_le, 72, 3) + bytes(24) + b"der",
        entry(b"\x01" * 16, 0, 1) * 17 + bytes(24),
    ],
)
def test_tables_that_are_none(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_certificate_table(data)


@given(st.binary(max_size=200))
def test_noise_in_place_of_a_table(data: bytes) -> None:
    try:
        found = parse_certificate_table(data)
    except ParseError:
        return
    assert len(found) <= 4


@given(st.dictionaries(st.sampled_from([VCEK, VLEK, ASK, ARK]), st.binary(min_size=1), min_size=1))
def test_tables_come_back(certificates: dict[UUID, bytes]) -> None:
    ordered = tuple(certificates[each] for each in (VCEK, VLEK, ASK, ARK) if each in certificates)
    assert parse_certificate_table(encode_certificate_table(certificates)) == ordered
