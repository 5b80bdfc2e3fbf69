"""A simulated Nitro hypervisor that issues format-true attestation documents (DESIGN D12).

A platform is a directory that holds its own throw-away AWS: whoever can read it forges evidence
at will, so evidence from it **protects nothing**.

    platform.json   instance id, date of making
    root.key, regional.key, zonal.key, instance.key   P-384, PKCS #8 in DER, mode 600
    collateral/root.der    what a verifier is given
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from regalia.appraisal.config_binding import NITRO_PCR, expected_slot
from regalia.core.clock import rfc3339
from regalia.core.codec import exact
from regalia.host.clock import system_clock
from regalia.tees.nitro.evidence import NitroAnchors
from regalia.tees.nitro.evidence.wire import SIGN1_TAG
from regalia.wire.cbor import encode_cbor
from regalia.wire.cose import ALG, Sign1
from regalia.wire.evidence import REPORT_DATA_SIZE, Evidence, Tee
from regalia_testing.anchors import simulated_pin
from regalia_testing.folder import (
    COLLATERAL,
    State,
    make_folder,
    named_keys,
    read_collateral,
    read_keys,
    read_state,
    write_folder,
)
from regalia_testing.tees.nitro.authority import NitroAuthority, NitroKeys
from regalia_testing.tees.nitro.defects import HEALTHY

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from regalia.host.clock import Clock
    from regalia.wire.cbor import Cbor, Key
    from regalia_testing.tees.nitro.defects import NitroDefects

FORMAT = "regalia/simulated-nitro/v1"
PCR_SIZE = 48  # bytes, SHA-384
PCRS_AT_LAUNCH = 16
ROLE = b"arn:aws:iam::000000000000:role/simulated"
_COSE_SIGN1_TAG = b"\xd2"


class _State(State, frozen=True, kw_only=True):
    instance_id: str


@dataclass(frozen=True, slots=True, repr=False)
class NitroSimulator:
    """One simulated instance with an enclave, and its own throw-away AWS."""

    directory: Path
    authority: NitroAuthority
    root: bytes  # DER
    cabundle: tuple[bytes, ...]  # DER, root first
    enclave_id: str
    clock: Clock

    @classmethod
    def create(cls, directory: Path, *, clock: Clock = system_clock) -> NitroSimulator:
        """Make a platform in a directory that is absent or empty.

        Args:
            directory: where its keys will lie, in clear, mode 700.
            clock: of the simulated hypervisor.

        Raises:
            LocalError: the directory is not empty, or cannot be written.
        """
        make_folder(directory, what="a simulated AWS Nitro hypervisor")
        keys, since = NitroKeys.generate(), clock().replace(microsecond=0)
        authority = NitroAuthority(keys, f"i-{secrets.token_hex(8)}0", since)
        root = authority.plans()[0].sign(keys.root)
        state = _State(format=FORMAT, instance_id=authority.instance_id, since=rfc3339(since))
        write_folder(directory, state, named_keys(keys), {"root.der": root})
        return cls._started(directory, authority, root, clock)

    @classmethod
    def open(cls, directory: Path, *, clock: Clock = system_clock) -> NitroSimulator:
        """Start another enclave on a platform that ``create`` made.

        Raises:
            LocalError: a file is missing or unreadable.
            ParseError: a file is not what ``create`` wrote.
        """
        state = read_state(directory, _State, expected=FORMAT)
        keys = read_keys(directory, NitroKeys)
        authority = NitroAuthority(keys, state.instance_id, clock().replace(microsecond=0))
        (root,) = read_collateral(directory, "root.der")
        return cls._started(directory, authority, root, clock)

    @classmethod
    def _started(
        cls, directory: Path, authority: NitroAuthority, root: bytes, clock: Clock
    ) -> NitroSimulator:
        cabundle = (root, *authority.chain()[1:])
        return cls(directory, authority, root, cabundle, f"enc{secrets.token_hex(8)}", clock)

    @property
    def collateral_directory(self) -> Path:
        """What a verifier is given; ``root.der`` in it is the anchor."""
        return self.directory / COLLATERAL

    @property
    def module_id(self) -> str:
        """Instance and enclave."""
        return f"{self.authority.instance_id}-{self.enclave_id}"

    def anchors(self) -> NitroAnchors:
        """This platform's root as the only anchor."""
        return simulated_pin(NitroAnchors, self.root)

    def evidence(
        self,
        report_data: bytes,
        *,
        measurement: bytes,
        runtime_config: bytes,
        defects: NitroDefects = HEALTHY,
    ) -> Evidence:
        """A document whose PCR16 was extended with the configuration's digest, and locked.

        Args:
            report_data: 64 bytes, the nonce.
            measurement: 48 bytes, PCR0.
            runtime_config: exact bytes.
            defects: what is wrong with the enclave.
        """
        now = self.clock()
        key = ec.generate_private_key(ec.SECP384R1())
        fields = self.fields(
            exact(report_data, REPORT_DATA_SIZE, what="report data"),
            pcrs=self.pcrs(
                exact(measurement, PCR_SIZE, what="measurement"), runtime_config, defects
            ),
            certificate=self.leaf(key, now, defects),
            now=now,
            defects=defects,
        )
        payload = encode_cbor(fields)
        if defects.duplicate_field:
            payload = bytes((payload[0] + 1,)) + payload[1:] + encode_cbor("nonce") + b"\xf6"
        if defects.indefinite:
            payload = b"\xbf" + payload[1:] + b"\xff"  # a map of fewer than 24 fields has one byte
        signer = ec.generate_private_key(ec.SECP384R1()) if defects.other_signer else key
        return Evidence(Tee.NITRO, _message(payload, signer, defects), (), runtime_config)

    def sign(self, payload: bytes) -> bytes:
        """A message around any payload; its certificate must be that of ``fixed_leaf``."""
        return _message(payload, self.authority.keys.zonal, HEALTHY)

    def fixed_leaf(self) -> bytes:
        """A certificate for the key that ``sign`` uses."""
        return self.leaf(self.authority.keys.zonal, self.clock(), HEALTHY)

    def fields(  # one argument for each origin of a field
        self,
        nonce: bytes,
        *,
        pcrs: dict[Key, Cbor],
        certificate: bytes,
        now: datetime,
        defects: NitroDefects = HEALTHY,
    ) -> dict[Key, Cbor]:
        """The document's fields in AWS's order."""
        if defects.stale_nonce:
            nonce = hashlib.sha512(b"an old exchange").digest()
        nonce = bytes(len(nonce)) if defects.zero_nonce else nonce
        nonce = nonce[:-1] if defects.short_nonce else nonce
        made = now - timedelta(seconds=defects.age_s)
        cabundle: list[Cbor] = list(self._strangers() if defects.stranger_root else self.cabundle)
        fields: dict[Key, Cbor] = {
            "module_id": self.module_id,
            "digest": "SHA512" if defects.other_digest else "SHA384",
            "timestamp": int(made.timestamp() * 1000),
            "pcrs": pcrs,
            "certificate": certificate,
            "cabundle": cabundle,
            "public_key": None,
            "user_data": None,
            "nonce": None if defects.no_nonce else nonce,
        }
        if defects.unknown_field:
            fields["pcr_note"] = "unknown"
        return fields

    def pcrs(
        self, measurement: bytes, runtime_config: bytes, defects: NitroDefects = HEALTHY
    ) -> dict[Key, Cbor]:
        """PCR0 to PCR15 as at launch, and PCR16."""
        pcrs: dict[Key, Cbor] = dict.fromkeys(range(PCRS_AT_LAUNCH), bytes(PCR_SIZE))
        if defects.wrong_measurement:
            measurement = hashlib.sha384(b"another image").digest()
        instance = b"i-another" if defects.other_instance else self.authority.instance_id.encode()
        if not defects.debug:
            pcrs[0] = measurement
            pcrs[1] = _digest(b"another kernel" if defects.other_kernel else b"kernel")
            pcrs[2] = _digest(b"another app" if defects.other_application else b"application")
        pcrs[3] = _digest(bytes(PCR_SIZE) + (b"another role" if defects.other_role else ROLE))
        pcrs[4] = _digest(bytes(PCR_SIZE) + instance)
        if not defects.unsigned_image:
            pcrs[8] = _digest(b"the signer's certificate")
        if not defects.config_not_locked:
            config = b"another configuration" if defects.wrong_config else runtime_config
            pcrs[NITRO_PCR] = expected_slot(Tee.NITRO, config)
        return pcrs

    def leaf(self, key: ec.EllipticCurvePrivateKey, now: datetime, defects: NitroDefects) -> bytes:
        """The enclave's certificate."""
        plan = self.authority.leaf(key.public_key(), self.module_id, now)
        if defects.age_s > 0:
            plan = replace(plan, not_before=plan.not_before - timedelta(seconds=defects.age_s))
        if defects.leaf_expired:
            plan = replace(plan, not_after=plan.not_before + timedelta(seconds=1))
        if defects.leaf_is_ca:
            plan = replace(plan, ca=True, usage=(*plan.usage, "key_cert_sign"))
        if defects.leaf_after_document:
            plan = replace(plan, not_before=now)
        return plan.sign(self.authority.keys.instance)

    def _strangers(self) -> tuple[bytes, ...]:
        """The same names, signed below a root of somebody else's."""
        keys = replace(self.authority.keys, root=ec.generate_private_key(ec.SECP384R1()))
        return replace(self.authority, keys=keys).chain()


def _message(payload: bytes, key: ec.EllipticCurvePrivateKey, defects: NitroDefects) -> bytes:
    protected = encode_cbor({ALG: defects.algorithm})
    signed = Sign1(protected, defects.algorithm, payload, b"").signed_bytes()
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA384())))
    signature = r.to_bytes(PCR_SIZE, "big") + s.to_bytes(PCR_SIZE, "big")
    if defects.bad_signature:
        signature = bytes((signature[0] ^ 1,)) + signature[1:]
    unprotected: dict[Key, Cbor] = {4: b"kid"} if defects.unprotected_header else {}
    message = encode_cbor([protected, unprotected, payload, signature])
    if defects.tagged:
        message = SIGN1_TAG + message
    if defects.truncated:
        message = message[:-1]
    return message + b"\x00" if defects.trailing_byte else message


def _digest(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()
