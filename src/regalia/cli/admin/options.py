"""Options that several commands of ``regalia admin`` have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regalia.cli.options import (
    file_option,
    json_option,
    number_option,
    option,
    path_option,
    signing_passphrase_option,
    together,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAYS_DEFAULT = 3

chain_options = together(
    path_option(
        "--chain FOLDER",
        "Folder of the tenant's statements: 1.json, 2.json and so on, as `admin submit` keeps it.",
    ),
    option("--url URL", "Address of a broker that has the tenant's statements."),
    option("--tenant TENANT", "The tenant's name at the broker, or of its first charter."),
    option(
        "--charter DIGEST",
        "sha256:<hex> of statement 1, by which the tenant is known. Needed with --url.",
    ),
)
proposal_options = together(
    chain_options,
    file_option("--out FILE", "The proposal.", required=True),
    number_option("--days N", "How long signatures may be gathered.", 1, 366, default=DAYS_DEFAULT),
    option("--not-before TIME", "When it takes effect, RFC 3339. By default as soon as it may."),
    path_option(
        "--sign KEY...", "Sign at once with this private key (NAME.key).", into="sign_with"
    ),
    signing_passphrase_option,
    json_option,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainOptions:
    """Where the statements of a tenant are read."""

    chain: Path | None
    url: str | None
    tenant: str | None
    charter: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalOptions:
    """How a proposal is written."""

    where: ChainOptions
    out: Path
    days: int
    not_before: str | None
    sign_with: tuple[Path, ...]
    passphrase_file: Path | None
    as_json: bool


def chain_of(options: dict[str, Any]) -> ChainOptions:
    """Take ``chain_options`` out of what click passes."""
    return ChainOptions(
        **{name: options.pop(name) for name in ("chain", "url", "tenant", "charter")}
    )


def proposal_of(options: dict[str, Any]) -> ProposalOptions:
    """Take ``proposal_options`` out of what click passes."""
    names = ("out", "days", "not_before", "sign_with", "passphrase_file", "as_json")
    where = chain_of(options)
    return ProposalOptions(where=where, **{name: options.pop(name) for name in names})


def model_option(text: str, **more: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - click's own
    """An option that names a model. Args as ``option``."""
    return option("--model MODEL", text, into="model_id", **more)
