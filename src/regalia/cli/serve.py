"""``regalia serve``: the attested runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from regalia.cli.facts import show_facts, show_table, termination_interrupts, warn
from regalia.cli.output import show_json

if TYPE_CHECKING:
    from regalia.runtime.config import ServeConfig

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--config",
    "config_file",
    required=True,
    type=_FILE,
    metavar="FILE",
    help="The runtime's settings, TOML; see docs/reference/configuration-runtime.md.",
)
@click.option("--listen", metavar="HOST:PORT", help="Address to serve on, in place of the file's.")
@click.option(
    "--evidence-only",
    "evidence_out",
    type=_FILE,
    metavar="OUT.json",
    help="Write this workload's evidence for `regalia policy pin`, and end. No broker is asked.",
)
@click.option("--json", "as_json", is_flag=True, help="Print facts as one line of JSON.")
def serve(
    *, config_file: Path, listen: str | None, evidence_out: Path | None, as_json: bool
) -> None:
    """Run the attested runtime and serve the model.

    The runtime hardens itself, makes fresh keys, proves itself to the broker, checks that the
    release of the model key stands in the log, decrypts the model into locked memory, and
    serves it in OpenAI's protocol inside a sealed channel. When its lease ends without renewal
    it wipes keys and weights and ends with status 7.
    """
    from msgspec.structs import replace

    from regalia.runtime.config import load_config

    config = load_config(config_file)
    if listen is not None:
        config = replace(config, listen=listen)
    with termination_interrupts():
        if evidence_out is not None:
            _write_evidence(config, config_file.parent, evidence_out, as_json=as_json)
        else:
            _run(config, config_file.parent, as_json=as_json)


def _write_evidence(config: ServeConfig, folder: Path, out: Path, *, as_json: bool) -> None:
    from regalia.core.types import Digest
    from regalia.host.localfs import write_new
    from regalia.runtime.startup import announce_dangers, collect_only, take_identity

    announce_dangers(config, warn)
    identity = take_identity(config, folder)
    evidence, report_data = collect_only(identity)
    encoded = evidence.encode()
    write_new(out, encoded)
    facts = {
        "evidence": str(out),
        "digest": str(Digest.of(encoded)),
        "report_data": report_data.hex(),
        "model_id": identity.measured.model_id,
        "simulated_tee": identity.attester.source.simulated,
    }
    if as_json:
        show_json(facts)
    else:
        show_facts("Evidence of this workload", [(name, str(item)) for name, item in facts.items()])


def _run(config: ServeConfig, folder: Path, *, as_json: bool) -> None:
    from regalia.runtime.service import Runtime

    def on_serving(facts: dict[str, object]) -> None:
        if as_json:
            # One line, so that a program which started this one knows where the facts end.
            click.echo(json.dumps({"ok": True, "serving": facts}, sort_keys=True))
        else:
            _show(facts)

    Runtime(config, folder, show=warn).run(on_serving)


def _show(facts: dict[str, object]) -> None:
    rows = cast("list[dict[str, str]]", facts["hardening"])
    show_table(
        ("protection", "state", "why"), [(row["name"], row["state"], row["why"]) for row in rows]
    )
    shown = [(name, str(value)) for name, value in facts.items() if name != "hardening"]
    show_facts("Serving, sealed requests only", shown)
