"""``regalia store``: ciphertext over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from regalia.cli.facts import show_facts

if TYPE_CHECKING:
    from collections.abc import Callable


@click.group()
def store() -> None:
    """Serve ciphertext over HTTP."""


@store.command("serve")
@click.argument("sealed", type=click.Path(path_type=Path))
@click.option(
    "--listen", default="127.0.0.1:8480", show_default=True, metavar="HOST:PORT", help="Address."
)
@click.option("--json", "as_json", is_flag=True, help="Print facts as one line of JSON.")
def serve(*, sealed: Path, listen: str, as_json: bool) -> None:
    """Serve one sealed model, read-only.

    Only manifest.json and *.seal files are served. They are ciphertext: the server needs no
    key, and whoever reads them learns sizes and nothing else.
    """
    from regalia.host.events import ServiceEvent, emit
    from regalia.host.listen import address_of, bind
    from regalia.host.listen import serve as serve_app
    from regalia.store.server import build_app

    app = build_app(sealed)
    sock = bind(listen)
    facts = {"listen": address_of(sock), "folder": str(sealed)}

    def on_ready(_stop: Callable[[], None]) -> None:
        emit(ServiceEvent.SERVICE_STARTED, service="store", listen=facts["listen"])
        if as_json:
            click.echo(json.dumps({"ok": True, "serving": facts}, sort_keys=True))
        else:
            show_facts("Serving ciphertext", list(facts.items()))

    serve_app(app, sock, drain_s=5, on_ready=on_ready)
    emit(ServiceEvent.SERVICE_STOPPED, service="store")
