"""``regalia chat``: verify a runtime, show what was verified, then chat through the channel."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from regalia.cli.collateral.options import collateral_options
from regalia.cli.options import file_option, flag, number_option, option, simulated_anchor_option
from regalia.core.errors import EXIT_OK
from regalia.core.tame import tame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.client.chat import ChatClient, Message
    from regalia.client.verify import VerifiedRuntime

_PROMPT_MAX = 1 << 20  # bytes read from standard input
_QUIT = ("/quit", "/exit")
_TITLE = "Verified before anything was sent"
_WIDTH_OF_A_PIPE = 200  # columns; wide enough that no id is broken across lines
_BORDERS = 7  # columns of the table's lines and spaces

SIMULATED_BANNER = (
    "SIMULATED TEE: the evidence is signed by a throw-away root. This protects nothing from the"
    " host."
)


@click.command(short_help="Verify a runtime, then chat with it.")
@option("--url", "Address of the runtime or relay, without /v1.", required=True)
@file_option("--policy", "Your client policy.", required=True)
@collateral_options
@simulated_anchor_option
@option("--model", "Model name; by default the first that the runtime serves.")
@option(
    "--temperature",
    "0 gives the likeliest answer, more gives more varied ones.",
    type=click.FloatRange(0, 2),
    default=0.0,
)
@number_option("--max-tokens", "Longest answer, in tokens.", 1, default=512)
@option("--once PROMPT", "Ask one question and exit.")
@flag("--json", "Print one JSON document; needs --once.", into="as_json")
def chat(
    *,
    url: str,
    model: str | None,
    temperature: float,
    max_tokens: int,
    once: str | None,
    as_json: bool,
    **trusted: Any,  # noqa: ANN401 - see load_trust
) -> int:
    """Verify a runtime, then chat with it.

    The runtime answers a fresh challenge; its evidence is checked offline under your policy.
    If it is refused, all reasons are printed and nothing is sent. Otherwise every request is
    sealed to the key in the evidence. Without a terminal, standard input is the one question.

    In the chat, /quit ends it.
    """
    import httpx

    from regalia.client.chat import ChatClient
    from regalia.client.transport import RegaliaTransport
    from regalia.client.trust import load_trust

    interactive = once is None and sys.stdin.isatty()
    if as_json and interactive:
        raise click.UsageError("--json needs --once, or a question on standard input")
    if trusted["dangerous_simulated_anchor"] is not None:
        click.secho(SIMULATED_BANNER, fg="red", bold=True, err=True)
    with _policy_errors(trusted["policy"]):
        trust = load_trust(**trusted)
    prompt = once if once is not None or interactive else _read_question()
    if prompt is not None and not prompt.strip():
        raise click.UsageError("the question is empty")
    transport = RegaliaTransport(url, trust)
    with httpx.Client(transport=transport, timeout=httpx.Timeout(30.0, read=600.0)) as http:
        runtime = transport.verify()
        if not as_json:
            _show_table(runtime, url, to_stderr=not interactive)
        client = ChatClient(http, url, temperature=temperature, max_tokens=max_tokens)
        name = model if model is not None else next(iter(client.models()), "default")
        if prompt is None:
            return _talk(client, name)
        return _ask_once(client, name, prompt, runtime, as_json=as_json)


@contextmanager
def _policy_errors(policy: Path) -> Iterator[None]:
    """A refusal names the file, and says if it is a policy of another kind."""
    from regalia.core.errors import CoreCode, LocalError, ParseError, UsageError

    try:
        yield
    except ParseError as exc:
        from regalia.cli.policy.input import read_policy

        try:
            found = read_policy(policy, (), 1)
        except ParseError as other:
            if other.code is CoreCode.WRONG_FILE:
                raise ParseError(other.code, f"--policy {other.what}") from exc
            raise ParseError(exc.code, f"--policy {policy}: {exc.what}") from exc
        except LocalError:
            raise ParseError(exc.code, f"--policy {policy}: {exc.what}") from exc
        if found.kind == "client policy":
            raise
        raise UsageError(
            CoreCode.BAD_USAGE,
            f"--policy {policy} is a {found.kind}, and chat takes a client policy:"
            " regalia policy pin --client-out writes one",
        ) from exc


def _read_question() -> str:
    data = sys.stdin.buffer.read(_PROMPT_MAX + 1)
    if len(data) > _PROMPT_MAX:
        raise click.UsageError(f"the question on standard input has over {_PROMPT_MAX} bytes")
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError as exc:
        raise click.UsageError("the question on standard input is not UTF-8") from exc


def _ask_once(
    client: ChatClient, model: str, prompt: str, runtime: VerifiedRuntime, *, as_json: bool
) -> int:
    from regalia.cli.output import show_json
    from regalia.client.chat import Message

    pieces = client.stream(model, [Message("user", prompt)])
    if not as_json:
        _print_pieces(pieces)
        return EXIT_OK
    answer = "".join(pieces)
    show_json({"ok": True, "verified": summary(runtime), "model": model, "answer": answer})
    return EXIT_OK


def _talk(client: ChatClient, model: str) -> int:
    """Chat on the terminal. A damaged answer is reported and left out of the history."""
    import readline  # noqa: F401 - gives input() line editing and history

    from regalia.cli.output import show_error
    from regalia.client.chat import Message
    from regalia.core.errors import IntegrityError, ParseError, UnavailableError

    history: list[Message] = []
    while True:
        try:
            said = input("you> ").strip()
        except EOFError:
            click.echo()
            return EXIT_OK
        if said in _QUIT:
            return EXIT_OK
        if not said:
            continue
        asked = [*history, Message("user", said)]
        click.echo(click.style(f"{tame(model)}> ", fg="cyan"), nl=False)
        try:
            answer = _print_pieces(client.stream(model, asked))
        except (IntegrityError, ParseError, UnavailableError) as error:
            click.echo()
            show_error(error, as_json=False)
            continue
        history = [*asked, Message("assistant", answer)]


def _print_pieces(pieces: Iterator[str]) -> str:
    from regalia.client.chat import printable

    answer = []
    for piece in pieces:
        answer.append(piece)
        click.echo(printable(piece), nl=False)
    click.echo()
    return "".join(answer)


def summary(runtime: VerifiedRuntime) -> dict[str, object]:
    """What was verified, for programs. Every value was checked unless ``left_open`` names it."""
    from regalia.core.clock import rfc3339
    from regalia.core.types import KeyFingerprint

    claims, config, logged = runtime.claims, runtime.config, runtime.logged
    return {
        "hardware": claims.hardware.value,
        "tee": claims.tee.value,
        "product": claims.product,
        "measurement": claims.measurement.hex(),
        "chip_id": claims.instance.hex(),
        "tcb": claims.tcb,
        "revocation": claims.revocation.value,
        "model_id": str(runtime.document.model_id),
        "model_version": runtime.document.model_version,
        "owner_key": config.owner_key,
        "placement": {
            "region": config.placement.region,
            "site": config.placement.site,
            "tier": config.placement.tier,
        },
        "egress": list(config.egress),
        "opens": list(config.surfaces),
        "adapters": list(config.adapters),
        "sealed_to": str(KeyFingerprint.of(runtime.key_config.public_key)),
        "release": None
        if logged is None
        else {
            "log_key": config.log_key,
            "index": logged.index,
            "time": logged.record.time,
            "lease_until": logged.record.lease_until,
        },
        "policy_id": str(runtime.verdict.subject.policy_id),
        "left_open": list(runtime.verdict.wildcards),
        "verified_at": rfc3339(runtime.verified_at),
        "expires_at": rfc3339(runtime.expires_at),
    }


def _show_table(runtime: VerifiedRuntime, url: str, *, to_stderr: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=to_stderr, highlight=False)
    rows = list(_rows(runtime, url))
    if not console.is_terminal:
        console = Console(stderr=to_stderr, highlight=False, width=_WIDTH_OF_A_PIPE)
    names = max(len(name) for name, _, _ in rows)
    longest = max(len(word) for _, value, _ in rows for word in value.split())
    if console.width < names + _BORDERS + longest:
        console.print(_TITLE, style="bold")
        for name, value, style in rows:  # an id is not broken: it could not be copied
            shown = Text(name.ljust(names), "bold"), Text(tame(value), style)
            console.print(*shown, soft_wrap=True)
        return
    table = Table(title=_TITLE, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value, style in rows:
        table.add_row(name, Text(tame(value), style=style))
    console.print(table)


def _rows(runtime: VerifiedRuntime, url: str) -> Iterator[tuple[str, str, str]]:
    """Name, value and style of each line of the table."""
    from regalia.appraisal.claims import Hardware
    from regalia.client.chat import printable
    from regalia.core.types import KeyFingerprint

    claims, config, logged = runtime.claims, runtime.config, runtime.logged
    where = config.placement
    open_rules = runtime.verdict.wildcards
    yield "runtime", url, ""
    if claims.hardware is Hardware.GENUINE:
        yield "hardware", f"genuine {claims.tee.value}, {claims.product}", "bold green"
    else:
        yield (
            "hardware",
            f"SIMULATED {claims.tee.value}, {claims.product}: protects nothing from the host",
            "bold white on red",
        )
    yield "measurement", claims.measurement.hex(), ""
    yield "TCB", ", ".join(f"{name} {value}" for name, value in claims.tcb.items()), ""
    for device in claims.devices:
        yield "device", f"{device.hardware} {device.kind}, {device.identity.hex()}", ""
    yield "revocation", claims.revocation.value, ""
    yield "model", f"{runtime.document.model_id}", ""
    yield "model version", str(runtime.document.model_version), ""
    yield "owner's key", config.owner_key, ""
    place = printable(f"region {where.region}, site {where.site}, tier {where.tier}")
    yield "placement", f"{place} (measured, asserted by the operator)", ""
    yield "may reach", printable(", ".join(config.egress)) or "no address", ""
    if config.surfaces:
        yield "engine opens", ", ".join(config.surfaces), "yellow"
    if config.adapters:
        yield "adapter", ", ".join(config.adapters), "yellow"
    if logged is None:
        yield "key release", "not checked: the policy names no log", "yellow"
    else:
        record = logged.record
        yield (
            "key release",
            f"log entry {logged.index} of {record.time}, lease until {record.lease_until}",
            "",
        )
    yield "sealed to", str(KeyFingerprint.of(runtime.key_config.public_key)), ""
    yield "policy leaves open", ", ".join(open_rules) or "nothing", "yellow" if open_rules else ""
