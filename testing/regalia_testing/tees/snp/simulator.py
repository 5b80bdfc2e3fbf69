"""A simulated SEV-SNP platform that issues format-true reports (DESIGN D12).

A platform is a directory that holds its own throw-away AMD: whoever can read it forges evidence
at will, so evidence from it **protects nothing**. It is checked by the real verifier, with the
platform's root as the only anchor, and every verdict on it says ``hardware: simulated``.

    platform.json   product, chip id, report id, date of making
    ark.key, ask.key, asvk.key   RSA-4096, PKCS #8 in DER, mode 600
    chip.secret     32 bytes, mode 600; endorsement keys are derived from it and the TCB
    collateral/     ark.der, ask.der, asvk.der, crl.der: what a verifier is given
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec

from regalia.core.clock import rfc3339
from regalia.core.codec import canonical_json, exact, lp, unhex
from regalia.core.errors import CoreCode, LocalError, ParseError, UsageError
from regalia.host.clock import system_clock
from regalia.host.localfs import os_errors, read_private_file, write_new
from regalia.tees.snp.evidence import SnpCollateral
from regalia.tees.snp.evidence.wire import (
    CHIP_ID_SIZE,
    TURIN_CHIP_ID_SIZE,
    EndorsementKeyKind,
    Product,
)
from regalia.verifier.collateral import CollateralSet
from regalia.verifier.verifier import Verifier
from regalia.wire.evidence import REPORT_DATA_SIZE, Evidence, Tee
from regalia_testing.anchors import simulated_anchors, simulated_snp_anchors
from regalia_testing.folder import (
    COLLATERAL,
    FILE_MAX,
    State,
    make_folder,
    named_keys,
    read_collateral,
    read_keys,
    read_rsa_key,
    read_state,
    write_folder,
)
from regalia_testing.tees.snp.authority import LeafFor, SnpAuthority, SnpKeys
from regalia_testing.tees.snp.defects import HEALTHY
from regalia_testing.tees.snp.reports import Guest, build_report, reported_tcb, sign_report

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from regalia.tees.snp.claims import Tcb
    from regalia.tees.snp.evidence import SnpAnchors
    from regalia_testing.tees.snp.defects import SnpDefects

FORMAT = "regalia/simulated-snp/v1"
MEASUREMENT_DOMAIN = b"regalia/simulated-measurement/v1"
MEASUREMENT_SIZE = 48  # bytes
CSP_ID = "CN=cc-nowhere.simulated.invalid"
_SECRET_SIZE = 32
_AUTHORITIES = ("ark", "ask", "asvk")
# Order of the group of P-384 (FIPS 186-5).
_P384_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffff"
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)


class _State(State, frozen=True, kw_only=True):
    product: str
    hwid: str
    report_id: str


@dataclass(frozen=True, slots=True, repr=False)
class SnpSimulator:
    """One simulated machine with its own throw-away AMD."""

    directory: Path
    authority: SnpAuthority
    hwid: bytes  # 64 bytes, 8 on Turin
    report_id: bytes
    secret: bytes
    ark: bytes  # DER, like the next three
    ask: bytes
    asvk: bytes
    crl: bytes

    @classmethod
    def create(
        cls,
        directory: Path,
        product: str = "Genoa",
        *,
        now: datetime | None = None,
        keys: SnpKeys | None = None,
    ) -> SnpSimulator:
        """Make a platform in a directory that is absent or empty.

        Args:
            directory: where its keys will lie, in clear, mode 700.
            product: Milan, Genoa or Turin.
            now: from when its certificates are valid; the CRL is good for a year.
            keys: reuse an authority's keys; making new ones takes a second or a few.

        Raises:
            UsageError: BAD_USAGE, no such product.
            LocalError: the directory is not empty, or cannot be written.
        """
        if product not in set(Product):
            raise UsageError(CoreCode.BAD_USAGE, f"product {product!r}: {', '.join(Product)}")
        make_folder(directory, what="a simulated SEV-SNP platform")
        line = Product(product)
        since = (now or system_clock()).replace(microsecond=0)
        authority = SnpAuthority(keys or SnpKeys.generate(), line, since)
        size = TURIN_CHIP_ID_SIZE if line is Product.TURIN else CHIP_ID_SIZE
        platform = cls(
            directory=directory,
            authority=authority,
            hwid=secrets.token_bytes(size),
            report_id=secrets.token_bytes(32),
            secret=secrets.token_bytes(_SECRET_SIZE),
            ark=authority.ark().sign(authority.keys.ark),
            ask=authority.ask().sign(authority.keys.ark),
            asvk=authority.asvk().sign(authority.keys.ark),
            crl=authority.crl().sign(authority.keys.ark),
        )
        platform._write()
        return platform

    @classmethod
    def open(cls, directory: Path) -> SnpSimulator:
        """Read a platform that ``create`` made.

        Raises:
            LocalError: a file is missing or unreadable.
            ParseError: a file is not what ``create`` wrote.
        """
        state = read_state(directory, _State, expected=FORMAT)
        if state.product not in set(Product):
            raise ParseError(CoreCode.MALFORMED, f"{directory} is no simulated SNP platform")
        keys = read_keys(directory, SnpKeys, read_rsa_key)
        return cls(
            directory,
            SnpAuthority(keys, Product(state.product), state.date()),
            unhex(state.hwid, what="hwid"),
            unhex(state.report_id, what="report_id", size=32),
            exact(
                read_private_file(directory / "chip.secret", limit=FILE_MAX),
                _SECRET_SIZE,
                what="chip.secret",
            ),
            *read_collateral(directory, *(f"{name}.der" for name in (*_AUTHORITIES, "crl"))),
        )

    @property
    def product(self) -> Product:
        """The product line."""
        return self.authority.product

    @property
    def root(self) -> bytes:
        """The throw-away root, DER."""
        return self.ark

    @property
    def collateral_directory(self) -> Path:
        """What a verifier is given; ``ark.der`` in it is the anchor."""
        return self.directory / COLLATERAL

    def anchors(self) -> SnpAnchors:
        """This platform's root as the only anchor."""
        return simulated_snp_anchors(self.ark)

    def collateral(self) -> SnpCollateral:
        """Certificates and CRL, as files in ``collateral_directory`` hold them."""
        return SnpCollateral((self.ark, self.ask, self.asvk), (self.crl,))

    def verifier(self) -> Verifier:
        """A relying party's verifier that trusts this platform and no other."""
        return Verifier(
            simulated_anchors((self.ark,)),
            CollateralSet((self.ark, self.ask, self.asvk), (self.crl,)),
        )

    def report(
        self,
        report_data: bytes,
        *,
        measurement: bytes,
        host_data: bytes,
        defects: SnpDefects = HEALTHY,
    ) -> bytes:
        """A signed report.

        Args:
            report_data: 64 bytes.
            measurement: 48 bytes.
            host_data: 32 bytes.
            defects: what is wrong with the platform.
        """
        guest = Guest(
            exact(report_data, REPORT_DATA_SIZE, what="report data"),
            exact(measurement, MEASUREMENT_SIZE, what="measurement"),
            exact(host_data, 32, what="host data"),
        )
        report = build_report(self.product, self.hwid, self.report_id, guest, defects)
        key = self.endorsement_key(defects.key, reported_tcb(self.product, defects))
        return sign_report(report, key, defects)

    def evidence(
        self,
        report_data: bytes,
        *,
        measurement: bytes,
        runtime_config: bytes,
        defects: SnpDefects = HEALTHY,
    ) -> Evidence:
        """A report whose HOST_DATA is the SHA-256 of ``runtime_config``, with its chain."""
        report = self.report(
            report_data,
            measurement=measurement,
            host_data=hashlib.sha256(runtime_config).digest(),
            defects=defects,
        )
        endorsements = () if defects.no_endorsements else self.endorsements(defects)
        return Evidence(Tee.SEV_SNP, report, endorsements, runtime_config)

    def endorsements(self, defects: SnpDefects = HEALTHY) -> tuple[bytes, ...]:
        """Leaf, intermediate, root."""
        signing_key = self._leaf_kind(defects)
        intermediate = self.asvk if signing_key is EndorsementKeyKind.VLEK else self.ask
        return self.leaf(defects), intermediate, self.ark

    def leaf(self, defects: SnpDefects = HEALTHY) -> bytes:
        """The VCEK or VLEK certificate that comes along."""
        signing_key = self._leaf_kind(defects)
        tcb = reported_tcb(self.product, defects)
        key = self.endorsement_key(defects.key, tcb)
        if defects.leaf_tcb_mismatch:
            tcb = replace(tcb, microcode=tcb.microcode + 1)
        hwid = self.hwid[:-1] + bytes((self.hwid[-1] ^ 1,))
        spec = self.authority.leaf(
            LeafFor(
                key=key.public_key(),
                signing_key=signing_key,
                tcb=tcb,
                hwid=hwid if defects.leaf_hwid_mismatch else self.hwid,
                csp_id=CSP_ID,
            )
        )
        if defects.leaf_expired:
            spec = replace(spec, not_after=spec.not_before + timedelta(seconds=1))
        return spec.sign(self.authority.issuer_key(signing_key))

    def _leaf_kind(self, defects: SnpDefects) -> EndorsementKeyKind:
        vlek = (defects.key is EndorsementKeyKind.VLEK) != defects.leaf_kind_mismatch
        return EndorsementKeyKind.VLEK if vlek else EndorsementKeyKind.VCEK

    def endorsement_key(
        self, signing_key: EndorsementKeyKind, tcb: Tcb
    ) -> ec.EllipticCurvePrivateKey:
        """Like the hardware's: another kind, chip or TCB has another key."""
        label = canonical_json({"key": signing_key.name, "tcb": tcb.components()})
        seed = int.from_bytes(hashlib.sha512(self.secret + label).digest(), "big")
        return ec.derive_private_key(seed % (_P384_ORDER - 1) + 1, ec.SECP384R1())

    def _write(self) -> None:
        state = _State(
            format=FORMAT,
            product=self.product,
            hwid=self.hwid.hex(),
            report_id=self.report_id.hex(),
            since=rfc3339(self.authority.since),
        )
        files = {f"{name}.der": getattr(self, name) for name in (*_AUTHORITIES, "crl")}
        write_new(self.directory / "chip.secret", self.secret, mode=0o600)
        write_folder(self.directory, state, named_keys(self.authority.keys), files)


def measure_code(package_dir: Path) -> bytes:
    """What the simulated firmware "measures" at launch: the package's source, 48 bytes.

    SHA-384 over the domain and, for each file in the order of its path, ``lp(path, SHA-384 of
    its content)``. Compiled files (``__pycache__``, ``*.pyc``) are left out: running the package
    writes them. Real hardware measures the initial memory of the guest instead.

    Raises:
        LocalError: the directory is missing, holds no file, or cannot be read.
    """
    with os_errors(package_dir):
        files = sorted(
            (path.relative_to(package_dir).as_posix(), path)
            for path in package_dir.rglob("*")
            if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts
        )
        if not files:
            raise LocalError(CoreCode.FILE_MISSING, f"{package_dir}: no files to measure")
        digest = hashlib.sha384(MEASUREMENT_DOMAIN)
        for name, path in files:
            digest.update(lp(name.encode(), hashlib.sha384(path.read_bytes()).digest()))
    return digest.digest()
