"""Entry point of ``regalia``: finds the command, runs it, and turns refusals into exit statuses."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from regalia import __version__
from regalia.cli.streams import OutputLostError, Streams
from regalia.core.errors import EXIT_BUG, EXIT_INTERRUPTED, RegaliaError
from regalia.core.extras import missing_extra
from regalia.host.plugins import ADDED_COMMANDS, announced, load

if TYPE_CHECKING:
    from collections.abc import Iterator

# name: (module, attribute, one line of help). The help is repeated here so that
# `regalia --help` imports no command; a test compares it with each command's own.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "keygen": ("regalia.cli.keygen", "keygen", "Make signing keys and key-encryption keys."),
    "keys": (
        "regalia.cli.keys",
        "keys",
        "Examine key stores, and move sealed models to other KEKs.",
    ),
    "seal": ("regalia.cli.seal", "seal", "Encrypt a model directory into a sealed model."),
    "inspect": ("regalia.cli.inspect", "inspect", "Show what anybody can see of a sealed model."),
    "verify": ("regalia.cli.verify", "verify", "Check a sealed model without any key."),
    "open": ("regalia.cli.open", "open_", "Owner's recovery: write a sealed model in clear."),
    "measure": (
        "regalia.cli.measure.command",
        "measure",
        "Compute launch measurements from build artifacts.",
    ),
    "policy": ("regalia.cli.policy.command", "policy", "Write, read and explain release policies."),
    "collateral": (
        "regalia.cli.collateral.command",
        "collateral",
        "Carry what verifiers need across an air gap.",
    ),
    "attest": (
        "regalia.cli.attest.command",
        "attest",
        "Collect, verify and inspect evidence of any TEE, offline.",
    ),
    "push": ("regalia.cli.push", "push", "Send a sealed model to a store of versions."),
    "pull": ("regalia.cli.pull", "pull", "Fetch a sealed model from a store, and check it."),
    "ls": ("regalia.cli.versions", "ls", "List the versions of a store."),
    "gc": ("regalia.cli.versions", "gc", "Remove what no version of a store refers to."),
    "store": ("regalia.cli.store", "store", "Serve ciphertext over HTTP."),
    "broker": ("regalia.cli.broker", "broker", "Release keys to attested workloads."),
    "log": ("regalia.cli.log", "log", "Read and verify the transparency log."),
    "admin": (
        "regalia.cli.admin.command",
        "admin",
        "Decide together: statements that a tenant's owners sign.",
    ),
    "serve": ("regalia.cli.serve", "serve", "Run the attested runtime and serve the model."),
    "chat": ("regalia.cli.chat", "chat", "Verify a runtime, then chat with it."),
}


@contextmanager
def _ends_with_its_reader() -> Iterator[None]:
    """End quietly if whoever reads our output has gone (``| head``)."""
    try:
        yield
    except BrokenPipeError:
        _drop_what_is_left()
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None


def _drop_what_is_left() -> None:
    """Python writes what is left when it ends, and would complain."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class LazyGroup(click.Group):
    """A group whose commands are imported on use.

    Besides its own commands it knows those of other installed distributions, such as the demo.
    """

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:  # noqa: ANN401 - click's
        """Parse the command line. Help is printed here, so its reader may go here, too."""
        with _ends_with_its_reader():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> object:
        """Run a command."""
        with _ends_with_its_reader():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """List commands in the order of use, which is the table's; added ones come last."""
        return [*COMMANDS, *added_commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command.

        Args:
            ctx: click's.
            cmd_name: as typed.

        Raises:
            TypeError: the table or an entry point names something else (the author's bug).
        """
        if cmd_name in COMMANDS:
            module, attribute, _ = COMMANDS[cmd_name]
            command = getattr(importlib.import_module(module), attribute)
        elif cmd_name in added_commands():
            command = load(ADDED_COMMANDS, cmd_name)
        else:
            return None
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list without importing anything.

        Args:
            ctx: click's.
            formatter: takes the rows.
        """
        rows = [(name, entry[2]) for name, entry in COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*rows, *added_commands().items()])


def added_commands() -> dict[str, str]:
    """Commands of other installed distributions by name, with the distribution's summary."""
    return {
        point.name: point.dist.metadata["Summary"] if point.dist else ""
        for point in announced(ADDED_COMMANDS)
    }


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="regalia")
def cli() -> None:
    """Keep model weights unreadable everywhere except inside a verified TEE.

    Exit status: 0 done, 2 usage, 3 malformed input, 4 integrity, 5 attestation, 6 policy,
    7 key access, 8 unavailable, 9 local file or machine, 10 log, 11 accepted with a warning,
    130 interrupted, 1 a bug.
    """


def main() -> None:
    """Run the command line and exit."""
    streams = Streams()
    sys.exit(_finish(streams, run(sys.argv[1:])))


def _finish(streams: Streams, status: int) -> int:
    """Say so if standard output did not take all of the output. Returns the exit status.

    Args:
        streams: of this process.
        status: of the command; that of a refusal is kept.
    """
    try:
        lost = streams.flush()
    except BrokenPipeError:
        _drop_what_is_left()
        return EXIT_INTERRUPTED
    if lost is None:
        return status
    from regalia.cli.output import show_error

    show_error(lost, as_json=False)
    return status or lost.exit_status


def run(args: list[str]) -> int:
    """Run one command; returns the exit status. No traceback reaches a user."""
    wants_json = "--json" in args
    try:
        status = cli.main(args=args, prog_name="regalia", standalone_mode=False)
    except OutputLostError as error:
        status = error.exit_status  # main says so when everything is over
    except RegaliaError as error:
        return _show_refusal(error, as_json=wants_json)
    except click.ClickException as error:
        return _show_usage(error, as_json=wants_json)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - nothing above catches it, and no user should see a traceback
        return _show_unexpected(error, as_json=wants_json)
    return status if isinstance(status, int) else 0


def _show_refusal(error: RegaliaError, *, as_json: bool) -> int:
    """Show a refusal, on standard error if standard output takes nothing. Returns its status."""
    from regalia.cli.output import show_error

    try:
        show_error(error, as_json=as_json)
    except OutputLostError:
        show_error(error, as_json=False)
    return error.exit_status


def _show_usage(error: click.ClickException, *, as_json: bool) -> int:
    """As ``_show_refusal``, of what click found."""
    from regalia.cli.output import show_click_error

    try:
        return show_click_error(error, as_json=as_json)
    except OutputLostError:
        return show_click_error(error, as_json=False)


def _show_unexpected(error: Exception, *, as_json: bool) -> int:
    """Report a bug, unless the package of an extra is not installed. Returns the exit status."""
    from regalia.cli.output import show_bug

    refusal = missing_extra(error) if isinstance(error, ImportError) else None
    if refusal is not None:
        return _show_refusal(refusal, as_json=as_json)
    with suppress(OutputLostError):
        show_bug(error, as_json=as_json)
    return EXIT_BUG
