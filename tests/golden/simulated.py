"""Evidence of every kind of simulated platform, healthy and with each of its defects.

Keys, chips and signatures are random; ``produce`` puts placeholders for what follows from them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.golden import product
from tests.golden.evidence import PINNED, Case, appraised, for_people, inspected, write_strict
from tests.golden.results import Tables, result_lines
from tests.golden.text import Whole, command, flat, joined, section, without_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.golden.product import Evidence, Json, NvidiaSimulator

    Make = Callable[[Any], bytes]  # from a state of the platform

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
WHEN = "2026-11-22T12:00:00Z"
REPORT_DATA = bytes(range(1, 65))
QUALIFIED = hashlib.sha256(REPORT_DATA).hexdigest()  # what a TPM quotes
CHALLENGE = bytes(range(1, 33))  # of a runtime that answers with all its devices
MEASUREMENT = b"\x3d" * 48
HEALTHY = "healthy"
SHOWN = ("az-snp-vtpm", "tpm", "sev-snp-gpus")  # to people too; of the others vectors are

SNP = {
    "id_block": (1, 2),
    "guest_svn": (5,),
    "vmpl": (1,),
    "mit_vector": (1,),
    "report_version": (2, 3),
    "signing_key": ("vlek", "none"),
    "signature_algo": (2,),
    "reserved_byte": (0x2F0,),
}
INTEL = {
    "xfam": (3,),
    "trailing_zeros": (8,),
    "level": (
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "Revoked",
        "below",
    ),
    "qe": ("OutOfDate", "Revoked", "below"),
    "qe_prod_id": (7,),
    "qe_misc_select": (1,),
    "key_type": (3,),
    "certification_type": (4,),
}
TDX = INTEL | {
    "version": (4,),
    "body_type": (2, 4),
    "module": ("OutOfDate", "Revoked", "below"),
    "module_version": (0, 2, 3),
    "module_attributes": (1,),
}
# What an enclave does not have.
OF_TDS = ("profiling", "migratable", "sept_ve", "perfmon", "pks", "kl", "lass", "service", "module")
NITRO = {"age_s": (301, -1, -3600), "algorithm": (-7,)}
AZURE = {
    "vmpl": (1,),
    "hcl_version": (2,),
    "request_type": (1,),
    "status": (1,),
    "report_type": (4,),
    "hash_type": (2,),
    "runtime_version": (2,),
    "runtime_size": (1,),
    "padding": (8,),
}
ON_TDX = ("debug", "migratable", "wrong_measurement", "other_td_report", "td_report_digest")
IN_ANSWERS = ("stale", "published", "bad_signature", "pdi_mismatch", "foreign_links", "feature")
DEVICES = {
    "driver_version": ("570.1",),
    "vbios_version": ("96.00.A5.00.02",),
    "feature": (0, 2, 3),
    "wrong_measurement": (3,),
    "opaque_version": (2,),
}


@dataclass(frozen=True)
class Platform:
    """A simulated platform in a folder of its name.

    Attributes:
        make: evidence, as a file holds it, in one of the platform's states.
        states: by name, each differs from the healthy one in one thing.
        challenge: what the evidence is bound to, hex.
        anchor: file of the roots; empty for TPMs, whose roots are collateral.
        more: further options of the commands.
    """

    name: str
    make: Make
    healthy: Any
    states: Mapping[str, Any]
    challenge: str
    anchor: str = "roots.pem"
    more: tuple[str, ...] = ()
    revocation: str = "required"

    def case(self, state: str = HEALTHY) -> Case:
        """The evidence in one state, written into the folder."""
        folder = Path(self.name)
        chosen = self.healthy if state == HEALTHY else self.states[state]
        (folder / "evidence.json").write_bytes(self.make(chosen))
        trust = ["--collateral", f"{folder}/collateral"]
        if self.anchor:
            trust += ["--dangerous-simulated-anchor", f"{folder}/{self.anchor}"]
        return Case(
            f"{folder}/evidence.json",
            (*trust, *self.more),
            WHEN,
            challenge=self.challenge,
            revocation=self.revocation,
        )


def files() -> dict[str, str]:
    """Texts by name; random digits are in them."""
    write_strict()
    tables = Tables()
    out: dict[str, str] = {}
    for platform in _platforms():
        out[f"{platform.name}.txt"] = joined(map(without_sizes, _healthy(platform, tables)))
        if platform.states:
            out[f"{platform.name}.states.txt"] = joined(_states(platform, tables))
    return out | {"tables.txt": tables.text()}


def _healthy(platform: Platform, tables: Tables) -> Iterator[str]:
    case = platform.case()
    yield from appraised(case, tables, Whole())
    if platform.name in SHOWN:
        yield from section("for people", for_people(case))
        yield from section("inspected", inspected(case.evidence, tables))
    if platform.name != "gpu-alone":
        yield from section("policy pin, whole", _whole_policy(case))


def _whole_policy(case: Case) -> Iterator[str]:
    """A release and a client policy from the evidence; their platform is pinned above."""
    outputs = ("release.json", "client.json")
    for path in outputs:
        Path(path).unlink(missing_ok=True)
    words = ["policy", "pin", "--evidence", case.evidence, "--now", case.now, "--challenge", "any"]
    words += ["--model", product.WORDS["model"], "--minimum-version", "7", "--pin-chip"]
    words += ["--signer", product.WORDS["owner"], "--revocation", case.revocation]
    words += ["--out", outputs[0], "--client-out", outputs[1]]
    answer = command(*words, *case.trust)
    yield from (f"exit {answer.status}", *answer.out.splitlines(), *answer.err.splitlines())
    if answer.status:
        return
    release, client = (json.loads(Path(path).read_bytes()) for path in outputs)
    yield f"both have one platform section: {release['platform'] == client['platform']}"
    pinned = Path(PINNED)  # by itself, without the machine; absent if that is refused
    above = set(flat(json.loads(pinned.read_bytes()))) if pinned.exists() else set()
    yield from (f"platform.{line}" for line in flat(release.pop("platform")) if line not in above)
    yield from flat(release)
    client.pop("platform")
    other = {name: value for name, value in client.items() if value != release.get(name)}
    yield from flat(other, "client's")


def _states(platform: Platform, tables: Tables) -> Iterator[str]:
    """What the commands say of each state that they do not say of the healthy one."""
    healthy = _result(platform.case(), tables)
    for name in platform.states:
        lines = _result(platform.case(name), tables)
        new = [line for line in lines if line not in healthy and "evidence_digest" not in line]
        gone = len([line for line in healthy if line not in lines])
        yield from section(name, [*new, f"({gone} lines of the healthy one are gone)"])


def _result(case: Case, tables: Tables) -> list[str]:
    """Under the baseline, with the right challenge."""
    answer = case.verify("--json", challenge=case.challenge)
    body: Json = answer.body
    return [f"exit {answer.status}", *map(without_sizes, result_lines(body, tables))]


# -- the platforms --------------------------------------------------------------------------------


def _platforms() -> Iterator[Platform]:
    keys = product.SnpKeys.generate()
    for name, line, state in (
        ("sev-snp-genoa", "Genoa", product.SnpDefects()),
        ("sev-snp-milan", "Milan", product.SnpDefects()),
        ("sev-snp-turin-vlek", "Turin", product.SnpDefects(signing_key="vlek")),
    ):
        yield _snp(name, line, state, keys)
    yield from _intel()
    yield _nitro()
    yield _azure(product.Tee.AZURE_SNP, keys)
    yield _azure(product.Tee.AZURE_TDX, keys)
    yield _tpm()
    yield from _with_devices(keys)


def _fixed(make: Callable[..., Evidence]) -> Make:
    """Evidence over the same request, whatever state the platform is in."""

    def made(state: Any) -> bytes:  # noqa: ANN401 - defects of any platform
        evidence = make(
            REPORT_DATA, measurement=MEASUREMENT, runtime_config=product.CONFIG, defects=state
        )
        return evidence.encode()

    return made


def _folder(name: str, collateral: Path, *roots: bytes) -> None:
    """Collateral and roots beside the evidence."""
    shutil.copytree(collateral, Path(name) / "collateral", dirs_exist_ok=True)
    text = "".join(map(ssl.DER_cert_to_PEM_cert, roots))
    (Path(name) / "roots.pem").write_text(text, encoding="ascii")


def _snp(name: str, line: str, state: Any, keys: Any) -> Platform:  # noqa: ANN401 - the product's own
    platform = product.SnpSimulator.create(Path(name) / "platform", line, now=NOW, keys=keys)
    _folder(name, platform.collateral_directory, platform.ark)
    states = product.changes(product.SnpDefects, SNP) if line == "Genoa" else {}
    challenge = REPORT_DATA.hex()
    return Platform(name, _fixed(platform.evidence), state, states, challenge=challenge)


def _intel() -> Iterator[Platform]:
    for name, others, version in (("tdx", TDX, 5), ("sgx", INTEL, 3)):
        folder = Path(name) / "platform"
        platform = product.IntelSimulator.create(folder, now=NOW)
        make = platform.tdx_evidence if name == "tdx" else platform.sgx_evidence
        _folder(name, folder / "collateral", platform.authority.root())
        states = {
            each: replace(state, version=version) if "version=" not in each else state
            for each, state in product.changes(product.IntelDefects, others).items()
            if name == "tdx" or not each.startswith(OF_TDS)
        }
        healthy = product.IntelDefects(version=version)
        yield Platform(name, _fixed(make), healthy, states, challenge=REPORT_DATA.hex())


def _nitro() -> Platform:
    platform = product.NitroSimulator.create(Path("aws-nitro/platform"), clock=lambda: NOW)
    _folder("aws-nitro", platform.collateral_directory, platform.root)
    return Platform(
        "aws-nitro",
        _fixed(platform.evidence),
        product.NitroDefects(),
        product.changes(product.NitroDefects, NITRO),
        challenge=REPORT_DATA.hex(),
        revocation="any",
    )


def _azure(tee: Any, keys: Any) -> Platform:  # noqa: ANN401 - the product's own
    name = str(tee)
    vm = product.AzureSimulator.create(Path(name) / "platform", tee, now=NOW, keys=keys)
    root = vm.snp.ark if vm.snp is not None else b""
    root = vm.intel.authority.root() if vm.intel is not None else root
    _folder(name, vm.collateral_directory, root)
    states = product.changes(product.AzureDefects, AZURE)
    if tee is product.Tee.AZURE_TDX:  # the VM is the same as on SEV-SNP
        states = {each: state for each, state in states.items() if each.startswith(ON_TDX)}
    healthy = product.AzureDefects()
    return Platform(name, _fixed(vm.evidence), healthy, states, challenge=QUALIFIED)


def _tpm() -> Platform:
    authority = product.TpmAuthority.create(now=NOW)
    pcrs = product.registers(product.SimulatedBoot(), product.CONFIG)
    tpm = replace(product.TpmSimulator.create(authority), pcrs=pcrs)
    collateral = Path("tpm/collateral")
    collateral.mkdir(parents=True)
    (collateral / "tpm-ek-root.der").write_bytes(authority.root())
    (collateral / "issuer.der").write_bytes(authority.issuer())
    (collateral / "enrolment.json").write_bytes(tpm.enrolment(NOW).encode())
    for number, crl in enumerate(authority.crls()):
        (collateral / f"{number}.crl").write_bytes(crl)
    states = {
        "rebooted": replace(tpm, reset_count=8),
        "not enrolled": replace(product.TpmSimulator.create(authority), pcrs=pcrs),
        "stranger": product.TpmSimulator.create(product.TpmAuthority.create(now=NOW)),
    }

    def make(state: Any) -> bytes:  # noqa: ANN401 - a TPM
        return bytes(state.evidence(REPORT_DATA, config=product.CONFIG).encode())

    return Platform("tpm", make, tpm, states, anchor="", challenge=QUALIFIED)


def _with_devices(keys: Any) -> Iterator[Platform]:  # noqa: ANN401 - the product's own
    """A runtime's whole answer, without and with switches; and one GPU without a CPU."""
    defects = product.NvidiaDefects
    states = {
        name: replace(state, feature=2) if "feature" not in name else state
        for name, state in product.changes(defects, DEVICES).items()
        if name.startswith(IN_ANSWERS)
    }
    for name, gpus, switches, healthy in (
        ("sev-snp-gpus", 2, 0, defects()),
        ("sev-snp-gpus-switches", 1, 1, defects(feature=2)),
    ):
        platform = product.SnpSimulator.create(Path(name) / "platform", "Genoa", now=NOW, keys=keys)
        devices = _in_order(
            product.NvidiaSimulator.create(Path(name) / "devices", gpus, switches, now=NOW)
        )
        for collateral in (platform.collateral_directory, Path(name) / "devices" / "collateral"):
            _folder(name, collateral, platform.ark, devices.root)
        yield Platform(
            name,
            _answer(platform, devices),
            healthy,
            {name: state for name, state in states.items() if switches},
            challenge=CHALLENGE.hex(),
        )
    yield _gpu()


def _in_order(devices: NvidiaSimulator) -> NvidiaSimulator:
    """By identity, as a policy lists them: else placeholders would come in either order."""
    ordered = sorted(devices.devices, key=lambda device: (device.kind, device.identity))
    return replace(devices, devices=tuple(ordered))


def _answer(platform: Any, devices: Any) -> Make:  # noqa: ANN401 - the product's own
    def collect(report_data: bytes) -> Evidence:
        found: Evidence = platform.evidence(
            report_data, measurement=MEASUREMENT, runtime_config=product.CONFIG
        )
        return found

    return lambda state: product.serving(collect, devices, CHALLENGE, state)


def _gpu() -> Platform:
    folder = Path("gpu-alone")
    devices = product.NvidiaSimulator.create(folder / "devices", 1, now=NOW)
    _folder(folder.name, folder / "devices" / "collateral", devices.root)
    (device,) = devices.devices
    chain = folder / "chain.pem"

    def make(state: Any) -> bytes:  # noqa: ANN401 - defects of devices
        evidence = devices.evidence_of(device, CHALLENGE, state)
        chain.write_text("".join(map(ssl.DER_cert_to_PEM_cert, evidence.endorsements)))
        return evidence.report.hex().encode()

    return Platform(
        folder.name,
        make,
        product.NvidiaDefects(),
        product.changes(product.NvidiaDefects, DEVICES),
        more=("--endorsement", str(chain)),
        challenge=CHALLENGE.hex(),
    )
