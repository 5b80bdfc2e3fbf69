"""A simulated example accelerator that issues format-true documents. It protects nothing.

A platform is a directory that holds its own throw-away vendor: whoever can read it forges evidence
at will.

    platform.json                    since when its certificates hold
    root.key, issuer.key, chip.key   P-384, PKCS #8 in DER, mode 600
    collateral/                      what a verifier is given: root.der, root.crl, issuer.crl
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from regalia.core.clock import rfc3339
from regalia.core.codec import exact
from regalia.host.clock import system_clock
from regalia.tees.accelerator.evidence.wire import FORMAT
from regalia.tees.accelerator.names import CHIP_ID_SIZE, CONFIG_BINDING, MEASUREMENT_SIZE
from regalia.wire.cbor import encode_cbor
from regalia.wire.cose import ALG, Sign1
from regalia.wire.evidence import REPORT_DATA_SIZE, Evidence, Tee
from regalia_testing.certificates import AUTHORITY_USAGE
from regalia_testing.folder import (
    COLLATERAL,
    State,
    make_folder,
    named_keys,
    read_keys,
    read_state,
    write_folder,
)
from regalia_testing.tees.accelerator.authority import (
    AcceleratorAuthority,
    AcceleratorKeys,
    as_leaf,
)
from regalia_testing.tees.accelerator.defects import HEALTHY

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.host.clock import Clock
    from regalia.wire.cbor import Cbor, Key
    from regalia_testing.certificates import CertificatePlan
    from regalia_testing.tees.accelerator.defects import AcceleratorDefects

PLATFORM_FORMAT = "regalia/simulated-accelerator/v1"


@dataclass(frozen=True, slots=True, repr=False)
class AcceleratorSimulator:
    """One simulated chip and its own throw-away vendor."""

    directory: Path
    authority: AcceleratorAuthority
    chain: tuple[bytes, ...]  # DER, root first

    @classmethod
    def create(cls, directory: Path, *, clock: Clock = system_clock) -> AcceleratorSimulator:
        """Make a platform in a directory that is absent or empty.

        Args:
            directory: where its keys will lie, in clear, mode 700.
            clock: of the vendor.

        Raises:
            LocalError: the directory is not empty, or cannot be written.
        """
        make_folder(directory, what="a simulated example accelerator")
        keys = AcceleratorKeys.generate()
        authority = AcceleratorAuthority(keys, clock().replace(microsecond=0))
        state = State(format=PLATFORM_FORMAT, since=rfc3339(authority.since))
        root_list, issuer_list = authority.lists()
        collateral = {
            "root.der": authority.root().sign(keys.root),
            "root.crl": root_list,
            "issuer.crl": issuer_list,
        }
        write_folder(directory, state, named_keys(keys), collateral)
        return cls._of(directory, authority)

    @classmethod
    def open(cls, directory: Path) -> AcceleratorSimulator:
        """A platform that ``create`` made.

        Raises:
            LocalError: a file is missing or unreadable.
            ParseError: a file is not what ``create`` wrote.
        """
        state = read_state(directory, State, expected=PLATFORM_FORMAT)
        keys = read_keys(directory, AcceleratorKeys)
        return cls._of(directory, AcceleratorAuthority(keys, state.date()))

    @classmethod
    def _of(cls, directory: Path, authority: AcceleratorAuthority) -> AcceleratorSimulator:
        """Signatures are deterministic, so a platform that was written has the same chain again."""
        keys = authority.keys
        chain = (
            authority.root().sign(keys.root),
            authority.issuer().sign(keys.root),
            authority.chip(_chip_id(keys.chip)).sign(keys.issuer),
        )
        return cls(directory, authority, chain)

    @property
    def root(self) -> bytes:
        """The vendor's root, DER."""
        return self.chain[0]

    @property
    def chip_id(self) -> bytes:
        """The chip's id, 32 bytes."""
        return _chip_id(self.authority.keys.chip)

    @property
    def collateral_directory(self) -> Path:
        """What a verifier is given; ``root.der`` in it is the anchor."""
        return self.directory / COLLATERAL

    def evidence(
        self,
        report_data: bytes,
        *,
        measurement: bytes,
        runtime_config: bytes,
        defects: AcceleratorDefects = HEALTHY,
    ) -> Evidence:
        """A document of this chip.

        Args:
            report_data: 64 bytes, the nonce.
            measurement: 48 bytes, of the loaded program.
            runtime_config: exact bytes, whose digest the chip was given.
            defects: what is wrong with the chip.
        """
        fields = self.fields(
            exact(report_data, REPORT_DATA_SIZE, what="report data"),
            exact(measurement, MEASUREMENT_SIZE, what="measurement"),
            runtime_config,
            defects,
        )
        message = self.signed(encode_cbor(fields), defects)
        return Evidence(Tee.EXAMPLE_ACCELERATOR, message, (), runtime_config)

    def fields(
        self,
        nonce: bytes,
        measurement: bytes,
        runtime_config: bytes,
        defects: AcceleratorDefects = HEALTHY,
    ) -> dict[Key, Cbor]:
        """The document's fields."""
        if defects.stale_nonce:
            nonce = hashlib.sha512(b"an old exchange").digest()
        if defects.wrong_measurement:
            measurement = hashlib.sha384(b"another program").digest()
        config = b"another configuration" if defects.wrong_config else runtime_config
        chain: list[Cbor] = list(self._chain(defects))
        fields: dict[Key, Cbor] = {
            "format": "example-accelerator/2" if defects.other_format else FORMAT,
            "chip_id": bytes(CHIP_ID_SIZE) if defects.other_chip else self.chip_id,
            "firmware": defects.firmware,
            "debug": defects.debug,
            "measurement": measurement,
            "config": CONFIG_BINDING.expected(config),
            "nonce": nonce[:-1] if defects.short_nonce else nonce,
            "chain": chain,
        }
        if defects.unknown_field:
            fields["note"] = "unknown"
        if defects.missing_field:
            del fields["debug"]
        return fields

    def signed(self, payload: bytes, defects: AcceleratorDefects = HEALTHY) -> bytes:
        """A message around any payload."""
        other = defects.other_signer
        key = ec.generate_private_key(ec.SECP384R1()) if other else self.authority.keys.chip
        protected = encode_cbor({ALG: defects.algorithm})
        to_sign = Sign1(protected, defects.algorithm, payload, b"").signed_bytes()
        r, s = decode_dss_signature(key.sign(to_sign, ec.ECDSA(hashes.SHA384())))
        signature = r.to_bytes(48, "big") + s.to_bytes(48, "big")
        if defects.bad_signature:
            signature = bytes((signature[0] ^ 1,)) + signature[1:]
        signature = signature[:-1] if defects.short_signature else signature
        message = encode_cbor([protected, {}, payload, signature])
        message = b"\xd2" + message if defects.tagged else message
        return message + b"\x00" if defects.trailing_byte else message

    def _chain(self, defects: AcceleratorDefects) -> tuple[bytes, ...]:
        if defects == HEALTHY:
            return self.chain
        keys = self.authority.keys
        if defects.stranger_root:  # the same names, signed below a root of somebody else's
            strange = replace(keys, root=ec.generate_private_key(ec.SECP384R1()))
            return *self._of(self.directory, replace(self.authority, keys=strange)).chain[
                :2
            ], self.chain[2]
        root, issuer, leaf = self.chain
        if defects.authority_is_leaf:
            issuer = as_leaf(self.authority.issuer()).sign(keys.root)
        plan = self._leaf(defects)
        if plan != self._leaf(HEALTHY):
            leaf = plan.sign(keys.issuer)
        return (root,) if defects.chain_of_one else (root, issuer, leaf)

    def _leaf(self, defects: AcceleratorDefects) -> CertificatePlan:
        plan = self.authority.chip(self.chip_id)
        if defects.leaf_expired:
            plan = replace(plan, not_after=plan.not_before + timedelta(seconds=1))
        if defects.leaf_not_yet_valid:
            plan = replace(plan, not_before=plan.not_after - timedelta(seconds=1))
        if defects.leaf_is_ca:
            plan = replace(plan, ca=True, path_length=0, usage=AUTHORITY_USAGE)
        if defects.leaf_may_not_sign:
            plan = replace(plan, usage=("key_agreement",))
        if defects.leaf_of_p256:
            plan = replace(plan, key=ec.generate_private_key(ec.SECP256R1()).public_key())
        return plan


def _chip_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    number = key.public_key().public_numbers().x
    return hashlib.sha256(number.to_bytes(48, "big")).digest()
