"""Input of the attest commands: evidence, endorsements, times, policies, challenges."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from regalia.appraisal.pki import parse_certificate
from regalia.cli.attest.endorsement_files import read_collateral
from regalia.cli.collateral.input import signed_files
from regalia.cli.policy.input import read_policy
from regalia.core.clock import parse_rfc3339
from regalia.core.errors import AttestationError, CoreCode, ParseError, UsageError
from regalia.core.types import PolicyId
from regalia.host.clock import system_clock
from regalia.host.localfs import read_file
from regalia.inspect.recognize import LIMIT, event_log_in, recognize
from regalia.policy.baseline import NAME, BaselineWords, baseline, baseline_id
from regalia.policy.platform import PlatformRules
from regalia.verifier.collateral import COLLATERAL_FILE_MAX
from regalia.verifier.registry import PLUGINS, plugin_for
from regalia.wire.evidence import ENDORSEMENTS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from regalia.appraisal.evidence_plugin import SignedFiles
    from regalia.inspect.recognized import Recognized
    from regalia.verifier.collateral import CollateralSet
    from regalia.wire.evidence import DeviceEvidence


@dataclass(frozen=True, slots=True)
class Rules:
    """The platform rules that evidence is held against.

    Attributes:
        name: for people: the file, or ``baseline``.
        policy_id: for results.
        applied: the rules.
        signature: what is known of the policy's signature, for people.
        not_applied: members of the policy that are about a release, which nobody asks for here.
    """

    name: str
    policy_id: str
    applied: PlatformRules
    signature: str
    not_applied: tuple[str, ...] = ()


def read_time(text: str) -> datetime:
    """``now`` or RFC 3339. Raises UsageError."""
    if text == "now":
        return system_clock()
    try:
        return parse_rfc3339(text)
    except ValueError as exc:
        raise UsageError(
            CoreCode.BAD_USAGE, f"--now {text!r}: want now or YYYY-MM-DDThh:mm:ssZ"
        ) from exc


def read_evidence_file(path: Path) -> Recognized:
    """Raises LocalError or ParseError."""
    return recognize(read_file(path, limit=LIMIT))


def read_endorsements(
    paths: Sequence[Path], found: Recognized, now: datetime
) -> tuple[Recognized, CollateralSet]:
    """Loose endorsements as collateral.

    An event log becomes part of the evidence, and so do chips' certificates and those of devices
    that came without any: a device's are a chain in the order of the file.

    Args:
        paths: of loose files.
        found: the evidence, recognized and untrusted.
        now: the moment of the appraisal, aware.

    Raises:
        LocalError: a file cannot be read. ParseError: its content is nothing that is known.
        AttestationError: the vendor has not signed a file that it should have, or not in time.
        UsageError: the extra that reads a file is not installed, or there are several event logs.
    """
    logs, files = _read_loose(paths, found, now)
    given = read_collateral(files)
    if found.evidence is not None and logs:
        found = replace(found, evidence=replace(found.evidence, event_log=logs[0]))
    evidence = found.evidence
    if evidence is not None and plugin_for(evidence.tee).vendor.leaf_name is not None:
        came = evidence.endorsements or given.leaves[:ENDORSEMENTS_MAX]
        found = replace(found, evidence=replace(evidence, endorsements=came))
    if found.devices and not any(device.endorsements for device in found.devices):
        found = replace(found, devices=tuple(_with_chain(d, given) for d in found.devices))
    return found, given


def _read_loose(
    paths: Sequence[Path], found: Recognized, now: datetime
) -> tuple[list[bytes], dict[str, bytes]]:
    """Read event logs, and collateral by path."""
    logs: list[bytes] = []
    files: dict[str, bytes] = {}
    for path in paths:
        data = read_file(path, limit=COLLATERAL_FILE_MAX)
        form = next((form for form in signed_files() if form.recognizes(data)), None)
        log = event_log_in(data)
        if log is not None:
            logs.append(log)
        elif form is not None:
            files[f"{path} (ingested)"] = _ingested(form, data, path, found, now)
        else:
            files[str(path)] = data
    if len(logs) > 1:
        raise UsageError(CoreCode.BAD_USAGE, f"{len(logs)} event logs: want one at most")
    return logs, files


def _ingested(
    form: SignedFiles, data: bytes, path: Path, found: Recognized, now: datetime
) -> bytes:
    """A file in a vendor's signed form; the refusal names the file, of which there may be many."""
    try:
        return form.ingest(data, devices=found.devices, name=path.stem, now=now)
    except (ParseError, AttestationError) as exc:
        raise type(exc)(exc.code, f"{path}: {exc.what}") from exc


def _with_chain(device: DeviceEvidence, given: CollateralSet) -> DeviceEvidence:
    """The kind follows from the chain: a bare report does not say whether it is a switch's.

    Certificates that name no model are another vendor's, and no device's chain.
    """
    tell = plugin_for(device.kind).vendor.kind_of_chain
    if tell is None:
        return device
    chains = [chain for chain in _chains(given.certificates) if tell(chain) is not None]
    chain = chains[0] if len(chains) == 1 else given.certificates
    kind = tell(chain)
    return device if kind is None else replace(device, kind=kind, endorsements=chain)


def _chains(certificates: Sequence[bytes]) -> Iterator[tuple[bytes, ...]]:
    """Runs in which each certificate names the next one as its issuer.

    Args:
        certificates: DER, in the order of the files.
    """
    chain: list[bytes] = []
    wanted = None
    for der in certificates:
        read = parse_certificate(der, what="endorsement")
        if chain and read.subject != wanted:
            yield tuple(chain)
            chain = []
        chain.append(der)
        wanted = read.issuer
    if chain:
        yield tuple(chain)


def read_rules(
    word: str,
    *,
    signers: Sequence[str],
    revocation: str | None,
    machines: Sequence[str],
    simulated: bool,
) -> Rules:
    """The baseline with a person's words, or the platform section of a policy file.

    Args:
        word: the word ``baseline``, or a path.
        signers: keys that must have signed the policy file.
        revocation: the baseline's word; None for its own.
        machines: chips that the baseline accepts by name.
        simulated: whether simulated hardware is looked at.

    Raises:
        UsageError: words of the baseline beside a policy file.
        RegaliaError: the policy is not usable.
    """
    if word == NAME:
        if signers:
            raise UsageError(CoreCode.BAD_USAGE, "--signer: nobody has signed the baseline")
        return _baseline(revocation, machines, simulated=simulated)
    if revocation is not None or machines:
        raise UsageError(
            CoreCode.BAD_USAGE,
            "--revocation and --machine are words of the baseline; a policy file has its own",
        )
    found = read_policy(Path(word), tuple(signers), 1)
    return Rules(
        word,
        str(PolicyId.of(found.policy.encode())),
        PlatformRules(found.platform, built_in=False),
        signature=found.signature(),
        not_applied=found.about_releases,
    )


def _baseline(revocation: str | None, machines: Sequence[str], *, simulated: bool) -> Rules:
    _require_machine_ids(machines)
    words = BaselineWords(
        hardware="dangerous_simulated" if simulated else "genuine",
        revocation="any" if revocation == "any" else "required",
        machines=tuple(machine.lower() for machine in machines),
        grace_days=0,
        revocation_asked=revocation is not None,
    )
    applied = PlatformRules(baseline(words), built_in=True)
    return Rules(NAME, baseline_id(words), applied, signature="built in")


def _require_machine_ids(machines: Sequence[str]) -> None:
    """Refuse names that no evidence can have: a typing error would otherwise never match."""
    every = dict.fromkeys(plugin.machine_names for plugin in PLUGINS)
    for machine in machines:
        if not any(re.fullmatch(names.pattern, machine) for names in every):
            wanted = ", or ".join(names.meant for names in every)
            raise UsageError(CoreCode.BAD_USAGE, f"--machine {machine[:80]!r}: want {wanted}")
