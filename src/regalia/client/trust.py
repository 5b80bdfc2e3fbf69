"""A client's trust: its policy, the hardware's trust anchors, and collateral, from local files."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
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
    from regalia.client.collateral import BundleSource
    from regalia.host.clock import Clock
    from regalia.policy.documents import ClientPolicy
    from regalia.verifier.anchors import MakeSimulatedAnchors

VERIFY_EVERY = timedelta(minutes=10)
SIMULATED = "dangerous_simulated"
ANCHOR_OPTION = "--dangerous-simulated-anchor"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTrust:
    """Everything that a client verifies a runtime with.

    Attributes:
        policy: the client policy.
        verifier: verifier with the hardware vendors' root keys, or simulated ones, and with
            collateral, so that verification needs no network.
        clock: returns the current time.
        verify_every: a runtime is verified again, with a new challenge, after this time.
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
    policy: Path | str,
    *,
    collateral: Path | str | BundleSource | None,
    dangerous_simulated_anchor: Path | str | None = None,
) -> ClientTrust:
    """Read a client's trust from files.

    Args:
        policy: file of the client policy in canonical JSON.
        collateral: folder of loose files (certificates, CRLs, Intel's documents), or a signed
            bundle; None if all collateral comes with the evidence.
        dangerous_simulated_anchor: file of root certificates of simulated platforms. They replace
            the vendors' roots, and a runtime verified with them is not protected from its host.

    Raises:
        ParseError: the policy or a piece of collateral is malformed.
        AttestationError: the bundle is outdated, rolled back, for another site, or not signed by
            enough signers.
        IntegrityError: WRONG_PAYLOAD_TYPE, the signed document is not a bundle.
        UsageError: SIMULATION_NOT_INSTALLED; or DANGEROUS_NOT_ALLOWED, the policy accepts only
            simulated hardware and no simulated anchor was given.
        LocalError: a file cannot be read.
    """
    anchor = dangerous_simulated_anchor
    anchors = read_anchors(None if anchor is None else Path(anchor))
    document = parse_client_policy(read_file(Path(policy), limit=LIMIT))
    if document.platform.hardware == SIMULATED and dangerous_simulated_anchor is None:
        raise UsageError(
            CoreCode.DANGEROUS_NOT_ALLOWED,
            f"{policy} accepts simulated hardware only, and {ANCHOR_OPTION} is absent",
        )
    found = load_collateral(Path(collateral) if isinstance(collateral, str) else collateral)
    return ClientTrust(policy=document, verifier=Verifier(anchors, found))
