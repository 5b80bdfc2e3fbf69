"""What a client trusts: its policy, the roots of the hardware, and collateral. All of it local."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from regalia.attest.snp import (
    COLLATERAL_ENDINGS,
    COLLATERAL_FILE_MAX,
    COLLATERAL_FILES_MAX,
    Anchors,
    RevocationRule,
    parse_collateral,
    parse_root,
)
from regalia.core.clock import system_clock
from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, UsageError
from regalia.core.localfs import read_file, read_folder
from regalia.formats.policy import LIMIT, parse_client_policy

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.attest.snp import SnpCollateral
    from regalia.core.clock import Clock
    from regalia.formats.policy import ClientPolicy

VERIFY_EVERY = timedelta(minutes=10)
SIMULATED = "dangerous_simulated"


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
        dangerous_simulated_anchor: root certificate of a simulated platform. AMD's roots
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
        anchors = Anchors.dangerous_simulated(
            parse_root(
                read_file(dangerous_simulated_anchor, limit=MIB),
                what=str(dangerous_simulated_anchor),
            )
        )
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
    files = (
        {}
        if folder is None
        else read_folder(
            folder,
            endings=COLLATERAL_ENDINGS,
            limit=COLLATERAL_FILE_MAX,
            most=COLLATERAL_FILES_MAX,
        )
    )
    return parse_collateral(files, rule)
