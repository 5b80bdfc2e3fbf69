"""``regalia demo``: everything, end to end, and then every theft."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from regalia.core.errors import CoreCode, LocalError, RegaliaError

if TYPE_CHECKING:
    from regalia_demo.deployment import Deployment
    from regalia_demo.engine_tour import EngineResult
    from regalia_demo.tour import TourResult

EXIT_NOT_AS_EXPECTED = 1
TOUR = "transformers"  # the engine of the tour with all thefts
ENGINE_LEASE_S = 20  # short, since the other tour waits for its end


@click.command(name="demo")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Work in this new folder and keep it, instead of a temporary one.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the converted model is kept between runs.",
)
@click.option(
    "--engine",
    default=TOUR,
    show_default=True,
    help="Engine that serves the model. Another than this shows where weights are, and no thefts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print only the result, as JSON.")
def demo(folder: Path | None, cache: Path | None, engine: str, as_json: bool) -> int:
    """Show everything, and try to steal the model.

    Seals a real model, starts store, broker and runtime on loopback with a simulated TEE, chats
    with the model through the sealed path, and then tries every theft, each beside a control run
    in which the same attack succeeds on an unprotected server.

    Exit status 0 if everything was as it should be, 1 if anything was not.
    """
    if folder is not None and folder.exists():
        raise LocalError(CoreCode.FILE_EXISTS, f"{folder} exists")
    root = folder or Path(tempfile.mkdtemp(prefix="regalia-demo-"))
    keep = folder is not None
    # As Ctrl-C: the services have sessions of their own, and would be left behind.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = _run(root.resolve(), cache, engine, as_json=as_json)
    except RegaliaError:
        click.echo(f"files and logs are kept in {root}", err=True)
        keep = True
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        if not keep:
            shutil.rmtree(root, ignore_errors=True)
    return 0 if result.ok else EXIT_NOT_AS_EXPECTED


def _run(
    root: Path, cache: Path | None, engine: str, *, as_json: bool
) -> TourResult | EngineResult:
    from regalia.cli.output import show_json
    from regalia_demo.deployment import Deployment, default_cache
    from regalia_demo.screen import Screen

    lease_s = 3600 if engine == TOUR else ENGINE_LEASE_S
    deployment = Deployment(
        root, cache or default_cache(), Screen(quiet=as_json), engine=engine, lease_s=lease_s
    )
    with deployment.services:
        result = _tour(deployment)
    if as_json:
        show_json(result.as_dict())
    return result


def _tour(deployment: Deployment) -> TourResult | EngineResult:
    if deployment.engine == TOUR:
        from regalia_demo.tour import run_tour

        return run_tour(deployment)
    from regalia_demo.engine_tour import run_engine_tour

    return run_engine_tour(deployment)
