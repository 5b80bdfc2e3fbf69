"""Evidence that the policy commands read, and how they verify it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraise.recorded import RecordedVerifier, require_bound_key
from regalia.cli.challenge import expected_of, read_challenge
from regalia.cli.output import warn
from regalia.cli.policy.input import read_anchors
from regalia.client.collateral import load_collateral
from regalia.core.errors import CoreCode, UsageError
from regalia.host.localfs import read_file
from regalia.inspect.recognize import LIMIT, recognize
from regalia.verifier.composite import require_distinct
from regalia.verifier.verifier import Verifier
from regalia.wire.evidence import Binding
from regalia.wire.runtime_config import parse_runtime_config

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from regalia.appraisal.claims import Claims, DeviceClaims
    from regalia.appraisal.collateral_rule import CollateralRule
    from regalia.client.collateral import BundleSource
    from regalia.inspect.recognized import Recognized
    from regalia.verifier.collateral import CollateralSet
    from regalia.wire.evidence import Evidence
    from regalia.wire.runtime_config import RuntimeConfig


@dataclass(frozen=True, slots=True)
class Given:
    """A file of evidence, raw and untrusted, and what it must be bound to.

    Attributes:
        path: the file.
        found: what it holds.
        expected: the binding; or the bare nonce that the evidence holds; or None for the word any.
    """

    path: Path
    found: Recognized
    expected: Binding | bytes | None

    @property
    def evidence(self) -> Evidence:
        """Of a CPU or TPM.

        Raises:
            AttestationError: AK_UNBOUND, a bare quote.
            UsageError: the file holds evidence of devices alone.
        """
        require_bound_key(self.found)
        if self.found.evidence is None:
            raise UsageError(
                CoreCode.BAD_USAGE,
                f"{self.path} holds evidence of devices alone; to pin them give --platform-only",
            )
        return self.found.evidence

    def config(self) -> RuntimeConfig:
        """The measured configuration that came along.

        Raises:
            UsageError: none did: it is a vendor's own evidence.
            ParseError: it is malformed.
        """
        if not self.evidence.runtime_config:
            raise UsageError(
                CoreCode.BAD_USAGE,
                f"{self.path} is {self.found.form}, without a runtime configuration: `policy pin"
                " --platform-only` pins what it says of the platform, and `attest verify` holds"
                " it against a policy",
            )
        return parse_runtime_config(self.evidence.runtime_config)


def read_given(path: Path, challenge: str) -> Given:
    """Read evidence in any form that is known.

    Args:
        path: an evidence envelope, the serving evidence that a runtime answers with, or a
            vendor's own evidence.
        challenge: as ``regalia.cli.challenge`` has it: hex digits, or the word any.

    Raises:
        UsageError: the challenge is none, or of a size that such evidence never carries.
        ParseError, LocalError: the file is not usable.
    """
    found = recognize(read_file(path, limit=LIMIT))
    nonce = read_challenge(challenge)
    if nonce is None:
        warn(
            f"{path}: report data is not checked (any), so this may be a replay, and the keys of"
            " whoever sent it were not compared."
        )
    return Given(path, found, expected_of(found, nonce))


@dataclass(frozen=True, slots=True)
class Appraiser:
    """How evidence files are verified."""

    verifier: Verifier
    now: datetime

    def claims(self, given: Given, rule: CollateralRule) -> Claims:
        """Verified claims, those of devices included.

        Args:
            given: the file and what it must be bound to.
            rule: what the policy demands of collateral.

        Raises:
            UsageError: see ``Given.evidence``.
            ParseError, AttestationError: malformed or not genuine.
        """
        evidence = given.evidence
        if evidence.devices and not isinstance(given.expected, Binding):
            warn(
                f"{given.path}: each device is genuine, and whether they answered together with"
                " this CPU is not known. A runtime's answer and --challenge show it."
            )
        return RecordedVerifier(self.verifier, rule, self.now).claims(evidence, given.expected)

    def devices(self, given: Given, rule: CollateralRule) -> tuple[DeviceClaims, ...]:
        """Verified claims of devices without a CPU. Raises as ``claims``."""
        recorded = RecordedVerifier(self.verifier, rule, self.now)
        found = recorded.devices(given.found.devices, given.expected)
        require_distinct(found)  # the switches that GPUs name may be in another file
        return found


def make_appraiser(
    anchor: Path | None,
    collateral: Path | BundleSource | None,
    *,
    now: datetime,
    loose: CollateralSet | None = None,
) -> Appraiser:
    """Read anchors and collateral. Raises ParseError, AttestationError or LocalError.

    Args:
        anchor: file of simulated roots; None for the vendors' roots.
        collateral: a folder or a bundle; None for none.
        now: the moment of the appraisal, aware.
        loose: more collateral, beside that.
    """
    provided = load_collateral(collateral, clock=lambda: now)
    if loose is not None:
        provided = provided.with_loose(loose)
    return Appraiser(Verifier(read_anchors(anchor), provided), now)
