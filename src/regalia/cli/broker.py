"""``regalia broker``: serve, check a configuration, sign an approval."""

from __future__ import annotations

import json
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import click

from regalia.cli.facts import show_facts, warn
from regalia.cli.output import show_json
from regalia.cli.passphrase import read_passphrase

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from regalia.broker.assemble import Assembler, Documents
    from regalia.broker.config import BrokerConfig
    from regalia.core.secret import SecretBytes

_FILE = click.Path(dir_okay=False, path_type=Path)
_DRAIN_S = 10  # seconds that running requests get at the end
_PEM_LIMIT = 16 * 1024  # bytes

_config = click.option(
    "--config",
    "config_file",
    required=True,
    type=_FILE,
    metavar="FILE",
    help="The broker's settings, TOML; see docs/reference/configuration-broker.md.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")


@click.group()
def broker() -> None:
    """Release keys to attested workloads.

    A key leaves the broker only sealed to a key inside a verified TEE, and only after the
    release stands in the transparency log.
    """


@broker.command("serve")
@_config
@click.option("--listen", metavar="HOST:PORT", help="Address to serve on, in place of the file's.")
@_json
def serve(*, config_file: Path, listen: str | None, as_json: bool) -> None:
    """Run the broker until it is stopped with Ctrl-C or SIGTERM."""
    from regalia.broker.app import create_app
    from regalia.broker.config import load_config
    from regalia.broker.hardening import harden
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
            if as_json:
                # One line, so that a program which started this one knows where the facts end.
                click.echo(json.dumps({"ok": True, "serving": facts}, sort_keys=True))
            else:
                show_facts("Broker", [(name, _text(value)) for name, value in facts.items()])

        try:
            app = create_app(ready.broker, ready.metrics, config.limits)
            serve_app(app, sock, drain_s=_DRAIN_S, on_ready=on_ready)
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
        show_facts("collateral", [(name, _text(value)) for name, value in bundle.items()])
    for model in _models(found):
        show_facts("model", [(name, _text(value)) for name, value in model.items()])


def _bundle(found: Documents) -> dict[str, object] | None:
    """The signed collateral; None for loose files."""
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


@broker.command("approve")
@click.option(
    "--policy", "policy_file", required=True, type=_FILE, help="The signed policy to approve."
)
@click.option(
    "--owner-key",
    "owner_keys",
    required=True,
    multiple=True,
    type=_FILE,
    metavar="FILE.pub",
    help="Public key of the policy's owner; may be repeated.",
)
@click.option(
    "--sign", "key_file", required=True, type=_FILE, metavar="FILE.key", help="Your signing key."
)
@click.option("--passphrase-file", type=_FILE, metavar="FILE", help="Passphrase of your key.")
@click.option(
    "--not-after",
    required=True,
    type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ"]),
    metavar="TIME",
    help="When your approval ends, UTC: 2026-12-31T00:00:00Z.",
)
@click.option("--out", required=True, type=_FILE, metavar="FILE", help="The signed approval.")
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
    from regalia.cli.policy.input import must_be_new
    from regalia.cli.sealing import read_signing_key
    from regalia.core.clock import rfc3339
    from regalia.crypto import dsse
    from regalia.crypto.sign import VerifyKey
    from regalia.host.localfs import read_file, write_new
    from regalia.policy.signed import load_release_policy
    from regalia.wire import approval

    must_be_new(out)
    owners = tuple(VerifyKey.from_pem(read_file(path, limit=_PEM_LIMIT)) for path in owner_keys)
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
    if as_json:
        show_json({"ok": True, **facts})
    else:
        show_facts("approved", list(facts.items()))


def _assembler(config: BrokerConfig, config_file: Path) -> Assembler:
    from regalia.broker.assemble import Assembler

    return Assembler(config, config_file.parent, _ask)


def _ask(what: str, path: Path | None) -> SecretBytes:
    if path is None:
        click.echo(f"The {what} is protected by a passphrase.", err=True)
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


def _text(value: object) -> str:
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)
