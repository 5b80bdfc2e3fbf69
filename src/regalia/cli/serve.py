"""``regalia serve``: the attested runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from regalia.cli.options import file_option, flag, option
from regalia.cli.output import show_facts, show_json, show_serving, show_table, warn
from regalia.cli.progress import termination_interrupts

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.runtime.config import ServeConfig


@click.command()
@file_option(
    "--config FILE",
    "The runtime's settings, TOML; see docs/reference/configuration-runtime.md.",
    into="config_file",
    required=True,
)
@option("--listen HOST:PORT", "Address to serve on, in place of the file's.")
@file_option(
    "--evidence-only OUT.json",
    "Write this workload's evidence for `regalia policy pin`, and end. No broker is asked.",
    into="evidence_out",
)
@flag("--json", "Print facts as one line of JSON.", into="as_json")
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
        show_facts("Evidence of this workload", list(facts.items()))


def _run(config: ServeConfig, folder: Path, *, as_json: bool) -> None:
    from regalia.runtime.process_end import ProcessEnd
    from regalia.runtime.service import Runtime

    def on_serving(facts: dict[str, object]) -> None:
        told = dict(facts)
        if not as_json:
            rows = cast("list[dict[str, str]]", told.pop("hardening"))
            names = ("name", "state", "why")
            cells = [tuple(row[name] for name in names) for row in rows]
            show_table(("protection", "state", "why"), cells)
        show_serving("Serving, sealed requests only", told, as_json=as_json)

    Runtime(config, folder, show=warn, ending=ProcessEnd()).run(on_serving)
