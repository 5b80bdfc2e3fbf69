"""What a client trusts: its policy, the roots of the hardware, and collateral. All of it local."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from regalia.client.collateral import load_collateral
from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, UsageError
from regalia.host.clock import system_clock
from regalia.host.localfs import read_file
from regalia.host.plugins import load_simulated_anchors
from regalia.policy.documents import LIMIT, parse_client_policy
from regalia.verifier.anchors import TrustAnchors
from regalia.verifier.collateral import parse_roots
from regalia.verifier.verifier import Verifier

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.client.collateral import BundleSource
    from regalia.host.clock import Clock
    from regalia.policy.documents import ClientPolicy
    from regalia.verifier.anchors import MakeSimulatedAnchors

VERIFY_EVERY = timedelta(minutes=10)
SIMULATED = "dangerous_simulated"
ANCHOR_OPTION = "--dangerous-simulated-anchor"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTrust:
    """Everything that a client holds a runtime against.

    Attributes:
        policy: the client's own demands.
        verifier: root keys of the hardware's makers, or simulated roots, and collateral, so that
            verification needs no network.
        clock: current time.
        verify_every: after this long a runtime is verified again, with a new challenge.
    """

    policy: ClientPolicy
    verifier: Verifier
    clock: Clock = field(default=system_clock)
    verify_every: timedelta = VERIFY_EVERY


def read_anchors(dangerous_simulated_anchor: Path | None) -> TrustAnchors:
    """The vendors' roots, or the simulated ones in a file.

    Raises:
        UsageError: SIMULATION_NOT_INSTALLED.
        ParseError, AttestationError: the file does not hold roots of simulated platforms.
        LocalError: it cannot be read.
    """
    if dangerous_simulated_anchor is None:
        return TrustAnchors.production()
    make = cast("MakeSimulatedAnchors", load_simulated_anchors(ANCHOR_OPTION))
    data = read_file(dangerous_simulated_anchor, limit=MIB)
    return make(parse_roots(data, what=str(dangerous_simulated_anchor)))


def load_trust(
    policy: Path,
    *,
    collateral: Path | BundleSource | None,
    dangerous_simulated_anchor: Path | None = None,
) -> ClientTrust:
    """Read a client's trust from files.

    Args:
        policy: client policy, canonical JSON.
        collateral: folder of loose files (certificates, CRLs, Intel's documents), or a signed
            bundle; None if all comes along with the evidence.
        dangerous_simulated_anchor: root certificates of simulated platforms. The vendors'
            roots are then not trusted, and what is verified protects nothing from the host.

    Raises:
        ParseError: the policy, or a piece of collateral, is malformed.
        AttestationError: the bundle is stale, rolled back, unsigned or another site's.
        UsageError: SIMULATION_NOT_INSTALLED; or DANGEROUS_NOT_ALLOWED, the policy is for
            simulation and no anchor was given.
        LocalError: a file cannot be read.
    """
    anchors = read_anchors(dangerous_simulated_anchor)
    document = parse_client_policy(read_file(policy, limit=LIMIT))
    if document.platform.hardware == SIMULATED and dangerous_simulated_anchor is None:
        raise UsageError(
            CoreCode.DANGEROUS_NOT_ALLOWED,
            f"{policy} accepts simulated hardware only, and {ANCHOR_OPTION} is absent",
        )
    found = load_collateral(collateral)
    return ClientTrust(policy=document, verifier=Verifier(anchors, found))
