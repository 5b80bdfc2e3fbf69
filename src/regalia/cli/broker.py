"""``regalia broker``: serve, check a configuration, sign an approval."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import click

from regalia.cli.key_files import read_public_keys, read_signing_key
from regalia.cli.new_files import must_be_new
from regalia.cli.options import file_option, flag, option
from regalia.cli.output import report, say, show_facts, show_json, show_serving, warn
from regalia.cli.passphrase import read_passphrase

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from regalia.broker.assemble import Assembler, Documents
    from regalia.broker.config import BrokerConfig
    from regalia.core.secret import SecretBytes

_DRAIN_S = 10  # seconds that running requests get at the end

_config = file_option(
    "--config FILE",
    "The broker's settings, TOML; see docs/reference/configuration-broker.md.",
    into="config_file",
    required=True,
)
_json = flag("--json", "Print facts as JSON.", into="as_json")


@click.group()
def broker() -> None:
    """Release keys to attested workloads.

    A key leaves the broker only sealed to a key inside a verified TEE, and only after the
    release stands in the transparency log.
    """


@broker.command("serve")
@_config
@option("--listen HOST:PORT", "Address to serve on, in place of the file's.")
@_json
def serve(*, config_file: Path, listen: str | None, as_json: bool) -> None:
    """Run the broker until it is stopped with Ctrl-C or SIGTERM."""
    from regalia.broker.app import create_app
    from regalia.broker.config import load_config
    from regalia.broker.hardening import harden
    from regalia.host.connections import ConnectionLimits
    from regalia.host.events import ServiceEvent, emit
    from regalia.host.listen import address_of, bind
    from regalia.host.listen import serve as serve_app

    config = load_config(config_file)
    hardening = harden()
    with bind(listen or config.listen) as sock:
        ready = _assembler(config, config_file).assemble()
        address = address_of(sock)
        for banner in ready.banners:
            warn(banner)
            emit(ServiceEvent.DANGEROUS_SETTING, service="broker", what=banner)

        def on_ready(_stop: Callable[[], None]) -> None:
            emit(ServiceEvent.SERVICE_STARTED, service="broker", listen=address)
            facts: dict[str, object] = {
                "listen": address,
                "log_key": ready.broker.log.log_key,
                "models": list(ready.broker.models),
                "hardening": list(hardening),
            }
            show_serving("Broker", facts, as_json=as_json)

        try:
            app = create_app(ready.broker, ready.metrics, config.limits)
            limits = ConnectionLimits(requests_per_s=config.limits.peer_requests)
            serve_app(app, sock, drain_s=_DRAIN_S, on_ready=on_ready, limits=limits)
        finally:
            ready.close()
    emit(ServiceEvent.SERVICE_STOPPED, service="broker")


@broker.command("check")
@_config
@_json
def check(*, config_file: Path, as_json: bool) -> None:
    """Read and verify everything that a configuration names, and change nothing.

    Databases are not opened, so a version that went back shows only when the broker starts.
    """
    from regalia.broker.config import load_config

    found = _assembler(load_config(config_file), config_file).load()
    found.store.close()
    for banner in found.banners:
        warn(banner)
    bundle = _bundle(found)
    if as_json:
        body = {"log_key": found.log_key, "collateral": bundle, "models": _models(found)}
        show_json({"ok": True, **body})
        return
    show_facts("broker", [("log_key", found.log_key)])
    if bundle is not None:
        show_facts("collateral", list(bundle.items()))
    for model in _models(found):
        show_facts("model", list(model.items()))


def _bundle(found: Documents) -> dict[str, object] | None:
    """Describe the signed collateral; None if the collateral is loose files."""
    if found.bundle is None:
        return None
    document = found.bundle.document
    return {
        "name": document.name,
        "serial": document.serial,
        "next_update": document.next_update,
        "digest": str(found.bundle.digest),
        "signed_by": list(found.bundle.signed_by),
    }


@broker.command("countersign")
@file_option("--manifest", "The signed manifest.json.", into="manifest_file", required=True)
@file_option(
    "--signer PUB...",
    "Public key of one of the model's owners (NAME.pub).",
    into="owner_keys",
    required=True,
)
@file_option("--sign KEY", "Your signing key (NAME.key).", into="key_file", required=True)
@file_option("--passphrase-file FILE", "Passphrase of your key.")
@file_option("--out FILE", "The manifest with all signatures.", required=True)
@_json
def countersign(
    *,
    manifest_file: Path,
    owner_keys: tuple[Path, ...],
    key_file: Path,
    passphrase_file: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Add your signature to a sealed model's manifest, where one owner's key is not enough.

    The broker's owner_threshold says how many must have signed, policy and manifest alike.
    """
    from regalia.crypto import dsse
    from regalia.host.localfs import read_file, write_new
    from regalia.seal.manifest import countersign_manifest, verify_manifest

    must_be_new(out)
    owners = read_public_keys(owner_keys)
    data = read_file(manifest_file, limit=dsse.LIMIT)
    key = read_signing_key(key_file, passphrase_file)
    signed = countersign_manifest(data, key, owners=owners)
    content = verify_manifest(signed, signers=owners, minimum_version=1).content
    write_new(out, signed)
    facts = {
        "manifest": str(out),
        "model_id": str(content.model_id),
        "model_version": content.version,
        "signer": str(key.verify_key.fingerprint),
    }
    report("countersigned", facts, as_json=as_json)


@broker.command("recover")
@_config
@option(
    "--accept [state|log|clock]",
    "What was lost or put back.",
    required=True,
)
@_json
def recover(*, config_file: Path, accept: str, as_json: bool) -> None:
    """Accept that state, log or clock went back, where no newer copy can be found.

    Stop every broker on these databases first. The loss is written into the log, for ever. Of a
    lost state, leases and floors are rebuilt from the log; a rebuilt lease keeps its place until
    it ends, and nobody can renew it.
    """
    from regalia.broker.config import load_config
    from regalia.broker.recover import Loss

    what = _assembler(load_config(config_file), config_file).recover(Loss(accept))
    report("accepted", {"accepted": accept, "what": what}, as_json=as_json)


@broker.command("approve")
@file_option("--policy", "The signed policy to approve.", into="policy_file", required=True)
@file_option(
    "--signer PUB...",
    "Public key (NAME.pub) of the policy's owner, who has signed it.",
    into="owner_keys",
    required=True,
)
@file_option("--sign KEY", "Your signing key (NAME.key).", into="key_file", required=True)
@file_option("--passphrase-file FILE", "Passphrase of your key.")
@option(
    "--not-after TIME",
    "When your approval ends, UTC: 2026-12-31T00:00:00Z.",
    required=True,
    type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ"]),
)
@file_option("--out FILE", "The signed approval.", required=True)
@_json
def approve(
    *,
    policy_file: Path,
    owner_keys: tuple[Path, ...],
    key_file: Path,
    passphrase_file: Path | None,
    not_after: datetime,
    out: Path,
    as_json: bool,
) -> None:
    """Approve releases under one policy, as one of its approvers."""
    from regalia.core.clock import rfc3339
    from regalia.crypto import dsse
    from regalia.host.localfs import read_file, write_new
    from regalia.policy.signed import load_release_policy
    from regalia.wire import approval

    must_be_new(out)
    owners = read_public_keys(owner_keys)
    policy = load_release_policy(read_file(policy_file, limit=dsse.LIMIT), owners, 1)
    statement = approval.Approval(
        format=approval.FORMAT,
        policy_id=str(policy.policy_id()),
        model_id=policy.model.id,
        not_after=rfc3339(not_after.replace(tzinfo=UTC)),
    )
    key = read_signing_key(key_file, passphrase_file)
    fingerprint = str(key.verify_key.fingerprint)
    if fingerprint not in policy.approvals.approvers:
        warn(f"{fingerprint} is none of this policy's approvers: the approval will not count.")
    write_new(out, dsse.sign(approval.PAYLOAD_TYPE, statement.encode(), (key,)).encode())
    facts = {
        "approval": str(out),
        "approver": fingerprint,
        "policy": f"{policy.name} version {policy.version}",
        "policy_id": statement.policy_id,
        "model_id": statement.model_id,
        "not_after": statement.not_after,
    }
    report("approved", facts, as_json=as_json)


def _assembler(config: BrokerConfig, config_file: Path) -> Assembler:
    from regalia.broker.assemble import Assembler

    return Assembler(config, config_file.parent, _ask)


def _ask(what: str, path: Path | None) -> SecretBytes:
    if path is None:
        say(f"The {what} is protected by a passphrase.", err=True)
    return read_passphrase(path, confirm=False)


def _models(found: Documents) -> list[dict[str, object]]:
    from regalia.policy.documents import wildcards

    return [
        {
            "model_id": name,
            "model_version": model.version,
            "policy": model.policy.name,
            "policy_version": model.policy.version,
            "policy_id": str(model.policy_id),
            "holders_max": model.policy.holders_max,
            "lease_s": model.policy.lease_s,
            "approvers": [item.approver for item in model.approvals],
            "wildcards": list(wildcards(model.policy)),
        }
        for name, model in found.models.items()
    ]
