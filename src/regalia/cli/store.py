"""``regalia store``: ciphertext over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from regalia.cli.options import PATH, flag, option
from regalia.cli.output import show_serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@click.group()
def store() -> None:
    """Serve ciphertext over HTTP."""


@store.command("serve")
@click.argument("sealed", type=PATH)
@option("--listen HOST:PORT", "Address.", default="127.0.0.1:8480")
@flag("--json", "Print facts as one line of JSON.", into="as_json")
def serve(*, sealed: Path, listen: str, as_json: bool) -> None:
    """Serve one sealed model, or a runtime's cache, read-only.

    Only manifest.json and *.seal files are served, or the pieces of a cache, which other runtimes
    of the site name in their setting peers. All of it is ciphertext: the server needs no key, and
    whoever reads it learns sizes and nothing else.
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
        show_serving("Serving ciphertext", facts, as_json=as_json)

    serve_app(app, sock, drain_s=5, on_ready=on_ready)
    emit(ServiceEvent.SERVICE_STOPPED, service="store")
