"""The sources ``az-snp`` and ``az-tdx``, against a double of the vTPM and of the host."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest

from regalia.appraisal.config_binding import TPM_PCR, expected_slot
from regalia.core.errors import LocalError, UnavailableError, UsageError
from regalia.tees.azure import source as azure
from regalia.tees.azure.evidence.wire import parse_azure
from regalia.tees.azure.source import AK_HANDLE, HCL_INDEX, HostQuotes, open_snp, open_tdx
from regalia.tees.tpm.evidence import qualifying_data
from regalia.tees.tpm.evidence.document import TpmQuote
from regalia.tees.tpm.evidence.keys import assumed_attestation_key
from regalia.tees.tpm.evidence.layout import HashAlg, SignatureAlg
from regalia.wire.evidence import Tee
from regalia_testing.accepted_evidence import NOW
from regalia_testing.relying_party import REPORT_DATA
from regalia_testing.tees.azure.defects import HEALTHY
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.testbed import MEASUREMENT, REQUIRED, RUNTIME_CONFIG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.wire.evidence import Evidence
    from regalia_testing.tees.azure.guest import AzureGuest

QUALIFIED = qualifying_data(REPORT_DATA)
TEES = {"az-snp": Tee.AZURE_SNP, "az-tdx": Tee.AZURE_TDX}
OPEN = {"az-snp": open_snp, "az-tdx": open_tdx}


@dataclass
class FakeVtpm:
    """The vTPM of a simulated VM. A context manager, as an open TPM is."""

    guest: AzureGuest
    hcl: bytes | None
    config: bytes = b""
    bank: dict[int, bytes] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.bank = self.guest.pcrs(RUNTIME_CONFIG, HEALTHY)[HashAlg.SHA256]
        self.bank[TPM_PCR] = expected_slot(Tee.TPM, self.config) if self.config else bytes(32)
        return self

    def __exit__(self, *_: object) -> None:
        return

    def nv(self, index: int) -> bytes | None:
        assert index == HCL_INDEX
        return self.hcl

    def pcrs(self, bank: HashAlg) -> dict[int, bytes]:
        assert bank is HashAlg.SHA256
        return self.bank

    def extend(self, pcr: int, data: bytes) -> None:
        self.bank[pcr] = expected_slot(Tee.TPM, data)

    def quote_by_handle(self, persistent: int, data: bytes, bank: HashAlg) -> TpmQuote:
        assert (persistent, data) == (AK_HANDLE, QUALIFIED)
        quoted, signature = self.guest.quote(REPORT_DATA, {bank: self.bank}, HEALTHY)
        key = self.guest.ak.public_key()
        area = assumed_attestation_key(key, SignatureAlg.RSASSA, HashAlg.SHA256)
        return TpmQuote(quoted, signature, area.encode(), {bank: self.bank})


@dataclass(frozen=True)
class Vm:
    """A simulated VM, what it would show, and its vTPM."""

    simulator: AzureSimulator
    shown: Evidence
    vtpm: FakeVtpm


@pytest.fixture(scope="module", params=list(TEES))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def made(name: str, tmp_path_factory: pytest.TempPathFactory) -> Vm:
    simulator = AzureSimulator.create(tmp_path_factory.mktemp(name) / "vm", TEES[name], now=NOW)
    shown = simulator.evidence(REPORT_DATA, measurement=MEASUREMENT, runtime_config=RUNTIME_CONFIG)
    hcl = parse_azure(shown.report).hcl_report
    return Vm(simulator, shown, FakeVtpm(simulator.guest, hcl))


@pytest.fixture
def vm(made: Vm, monkeypatch: pytest.MonkeyPatch) -> Vm:
    """The same, found where the source looks for its TPM."""
    own = replace(made, vtpm=replace(made.vtpm))
    monkeypatch.setattr(azure, "open_vtpm", lambda _: own.vtpm)
    return own


def source_of(name: str, vm: Vm, **options: object) -> Any:  # noqa: ANN401 - the source's own class
    opened = OPEN[name]({"event_log": "", **options})
    quote = parse_azure(vm.shown.report).td_quote

    def quotes(td_report: bytes) -> bytes:
        assert len(td_report) == 1024
        return quote

    return replace(opened, quote_service=quotes)


def verify(vm: Vm, evidence: Evidence) -> Any:  # noqa: ANN401 - of two classes
    return vm.simulator.verifier().verify_cpu(
        replace(evidence, endorsements=vm.shown.endorsements),
        report_data=REPORT_DATA,
        rule=REQUIRED,
        now=NOW,
    )


def test_evidence_that_verifies(name: str, vm: Vm) -> None:
    source = source_of(name, vm)
    assert source.simulated is False
    assert source.collect_devices(bytes(32)) == ()
    claims = verify(vm, source.collect(REPORT_DATA, RUNTIME_CONFIG))
    assert claims.tee is TEES[name]
    assert claims.measurement == MEASUREMENT
    assert claims.config_binding == expected_slot(Tee.TPM, RUNTIME_CONFIG)
    bare = source.attest(QUALIFIED)
    assert (bare.runtime_config, bare.endorsements, bare.event_log) == (b"", (), b"")
    assert verify(vm, bare).config_binding == bytes(32)  # nothing was recorded


def test_the_event_log_goes_along(name: str, vm: Vm, tmp_path: Path) -> None:
    log = tmp_path / "log"
    absent = source_of(name, vm, event_log=str(log)).attest(QUALIFIED)
    assert absent.event_log == b""
    log.write_bytes(vm.shown.event_log)
    evidence = source_of(name, vm, event_log=str(log)).collect(REPORT_DATA, RUNTIME_CONFIG)
    assert evidence.event_log == vm.shown.event_log
    assert verify(vm, evidence).vtpm.boot is not None


def test_another_configuration_is_in_the_register(name: str, vm: Vm) -> None:
    vm.vtpm.config = b"another"
    with pytest.raises(LocalError, match="CONFIG_SLOT_TAKEN"):
        source_of(name, vm).collect(REPORT_DATA, RUNTIME_CONFIG)


@pytest.mark.parametrize(
    ("defect", "what"),
    [
        (lambda _: None, "has no NV index 0x01400001"),
        (lambda hcl: hcl[:100], "100 bytes"),
        (lambda hcl: b"XXXX" + hcl[4:], "signature"),
    ],
    ids=["absent", "cut", "other"],
)
def test_no_report_of_the_paravisor(name: str, vm: Vm, defect: Any, what: str) -> None:  # noqa: ANN401 - a function
    vm.vtpm.hcl = defect(vm.vtpm.hcl)
    with pytest.raises(LocalError, match=f"HCL_REPORT_ABSENT: .*{what}"):
        source_of(name, vm).attest(QUALIFIED)


def test_the_other_kind_of_hardware(name: str, vm: Vm) -> None:
    (other,) = set(OPEN) - {name}
    with pytest.raises(LocalError, match="HCL_REPORT_ABSENT: the paravisor's report is of"):
        source_of(other, vm).attest(QUALIFIED)


@pytest.mark.parametrize("defect", ["no_ak", "other"])
def test_a_key_that_the_report_does_not_name(name: str, vm: Vm, defect: str) -> None:
    hcl = vm.vtpm.hcl
    assert hcl is not None
    if defect == "no_ak":
        vm.vtpm.hcl = hcl.replace(b"HCLAkPub", b"HCLXkPub")
    else:
        at = hcl.index(b'"n":"') + 6
        vm.vtpm.hcl = hcl[:at] + (b"A" if hcl[at : at + 1] != b"A" else b"B") + hcl[at + 1 :]
    with pytest.raises(LocalError, match="VTPM_KEY_OTHER"):
        source_of(name, vm).attest(QUALIFIED)


@pytest.mark.parametrize(
    "options", [{"unknown": ""}, {"tcti": ""}, {"tcti": 1}, {"event_log": 1}], ids=str
)
def test_wrong_options(name: str, options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"BAD_CONFIG: {name}"):
        OPEN[name](options)


def test_only_tdx_asks_the_host() -> None:
    with pytest.raises(UsageError, match="BAD_CONFIG: az-snp: unknown options"):
        open_snp({"quote_service": "http://127.0.0.1"})
    assert open_tdx({"quote_service": "http://127.0.0.1"}) is not None


def test_without_the_tss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "regalia.tees.tpm.device", raising=False)
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    with pytest.raises(UsageError, match=r"EXTRA_MISSING: tpm2_pytss .* 'regalia\[tpm\]'"):
        open_snp({}).collect(REPORT_DATA, b"")


# -- the host's quote service ------------------------------------------------------------------


@contextmanager
def host(status: int, body: bytes) -> Iterator[tuple[HostQuotes, list[bytes]]]:
    """A quote service on loopback, and what it was asked."""
    asked: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield HostQuotes(f"http://127.0.0.1:{server.server_port}/acc/tdquote"), asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("padding", ["", "="])
def test_a_quote_of_the_host(padding: str) -> None:
    with host(200, json.dumps({"quote": f"-_8{padding}", "more": 1}).encode()) as (ask, asked):
        assert ask(b"\xfb\xff\xfe\x00") == b"\xfb\xff"
    assert json.loads(asked[0]) == {"report": "-__-AA"}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b'{"quote":"AAAA"}'),
        (200, b"no JSON"),
        (200, b"{}"),
        (200, b'{"quote":"A\xff"}'),
        (200, b'{"quote":"????"}'),
        (200, b'{"quote":"' + b"A" * (1 << 20) + b'"}'),
    ],
    ids=["status", "no JSON", "no quote", "no text", "no base64", "too large"],
)
def test_the_host_gives_no_quote(status: int, body: bytes) -> None:
    with host(status, body) as (ask, _), pytest.raises(UnavailableError) as refusal:
        ask(b"report")
    assert refusal.value.code.name == "QUOTE_SERVICE_FAILED"


def test_no_host() -> None:
    with host(200, b"") as (ask, _):
        pass
    with pytest.raises(UnavailableError, match="PEER_UNREACHABLE: TDX quote"):
        ask(b"report")
