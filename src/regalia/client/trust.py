"""What a client trusts: its policy, the roots of the hardware, and collateral. All of it local."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509

from regalia.attest.snp import Anchors, RevocationRule, SnpCollateral
from regalia.core.clock import system_clock
from regalia.core.codec import MIB, unb64
from regalia.core.errors import CoreCode, ParseError, UsageError
from regalia.core.localfs import os_errors, read_file
from regalia.formats.policy import LIMIT, parse_client_policy

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.core.clock import Clock
    from regalia.formats.policy import ClientPolicy

VERIFY_EVERY = timedelta(minutes=10)
SIMULATED = "dangerous_simulated"
_COLLATERAL_FILES_MAX = 64
_SUFFIXES = (".der", ".cer", ".crt", ".crl", ".pem")
_PEM = re.compile(
    rb"-----BEGIN (?P<label>CERTIFICATE|X509 CRL)-----\s+(?P<body>[A-Za-z0-9+/=\s]+)"
    rb"-----END (?P=label)-----"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTrust:
    """Everything that a client holds a runtime against.

    Attributes:
        policy: the client's own demands.
        anchors: root keys of the hardware's maker, or one simulated root.
        collateral: certificates and revocation lists, so that verification needs no network.
        clock: current time.
        verify_every: after this long a runtime is verified again, with a new challenge.
    """

    policy: ClientPolicy
    anchors: Anchors
    collateral: SnpCollateral
    clock: Clock = field(default=system_clock)
    verify_every: timedelta = VERIFY_EVERY


def load_trust(
    policy: Path, *, collateral: Path | None, dangerous_simulated_anchor: Path | None = None
) -> ClientTrust:
    """Read a client's trust from files.

    Args:
        policy: client policy, canonical JSON.
        collateral: folder of certificates and CRLs, DER or PEM; None if all come along.
        dangerous_simulated_anchor: root certificate (DER) of a simulated platform. AMD's roots
            are then not trusted, and what is verified protects nothing from the host.

    Raises:
        ParseError: the policy, or a file of the folder, is malformed.
        UsageError: DANGEROUS_NOT_ALLOWED, the policy is for simulation and no anchor was given.
        LocalError: a file cannot be read.
    """
    document = parse_client_policy(read_file(policy, limit=LIMIT))
    if document.platform.hardware == SIMULATED and dangerous_simulated_anchor is None:
        raise UsageError(
            CoreCode.DANGEROUS_NOT_ALLOWED,
            f"{policy} accepts simulated hardware only, and --dangerous-simulated-anchor is absent",
        )
    anchors = Anchors.production()
    if dangerous_simulated_anchor is not None:
        anchors = Anchors.dangerous_simulated(read_file(dangerous_simulated_anchor, limit=MIB))
    required = document.platform.snp.revocation == RevocationRule.REQUIRED.value
    return ClientTrust(
        policy=document,
        anchors=anchors,
        collateral=load_collateral(
            collateral, RevocationRule.REQUIRED if required else RevocationRule.ANY
        ),
    )


def load_collateral(folder: Path | None, rule: RevocationRule) -> SnpCollateral:
    """Read every certificate and CRL of a folder. Nothing in it is trusted by being there.

    Raises:
        ParseError: a file is malformed. LocalError: it cannot be read.
    """
    certificates: list[bytes] = []
    crls: list[bytes] = []
    for path in _files(folder):
        for der in _ders(read_file(path, limit=MIB), what=str(path)):
            (crls if _is_crl(der) else certificates).append(der)
    return SnpCollateral(tuple(certificates), tuple(crls), rule)


def _files(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    with os_errors(folder):
        files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    if len(files) > _COLLATERAL_FILES_MAX:
        raise ParseError(
            CoreCode.TOO_LARGE, f"{folder}: {len(files)} files, at most {_COLLATERAL_FILES_MAX}"
        )
    return files


def _ders(data: bytes, *, what: str) -> list[bytes]:
    if not data.startswith(b"-----"):
        return [data]
    blocks = [match["body"] for match in _PEM.finditer(data)]
    if not blocks:
        raise ParseError(CoreCode.MALFORMED, f"{what}: no certificate or CRL in PEM form")
    return [unb64("".join(block.decode("ascii").split()), what=what) for block in blocks]


def _is_crl(der: bytes) -> bool:
    """Tell a CRL from a certificate by parsing; the verifier checks whatever it is."""
    try:
        x509.load_der_x509_crl(der)
    except (ValueError, x509.InvalidVersion):
        return False
    return True
