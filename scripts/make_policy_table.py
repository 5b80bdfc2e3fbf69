"""Write the tables of fields into the pages of docs/spec, from the fields themselves.

A TEE may have a page with a table of its own. A table stands between
``<!-- fields: NAME -->`` and ``<!-- end of fields -->``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regalia.policy.registry import DEVICE_PLUGINS, POLICY_PLUGINS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from regalia.appraisal.policy_field import Field

PAGES = Path(__file__).parents[1] / "docs" / "spec"

_TABLE = re.compile(r"<!-- fields: (?P<name>[a-z ]+) -->\n.*?<!-- end of fields -->\n", re.DOTALL)
Row = tuple[str, str, str]  # member, type, content


def tables() -> Mapping[str, list[Row]]:
    """Rows by the name of their table. Every field of every plug-in is in one of them."""
    of = {plugin.name: list(_rows(plugin.fields)) for plugin in POLICY_PLUGINS}
    shared = [row for row in of["tdx"] if row[0] in {each[0] for each in of["sgx"]}]
    names = {row[0] for row in shared}
    vm = _part("vm", of["azure_snp"])
    made = {
        "snp": of["snp"],
        "devices": [row for plugin in DEVICE_PLUGINS for row in _rows(plugin.fields)],
        "tdx and sgx": shared,
        "tdx": [row for row in of["tdx"] if row[0] not in names],
        "sgx": [row for row in of["sgx"] if row[0] not in names],
        "nitro": of["nitro"],
        "azure vm": [row for row in vm if not row[0].startswith("boot.")],
        "tpm": [row for row in of["tpm"] if not row[0].startswith("boot.")],
        "boot": _part("boot", of["tpm"]),
    }
    split = {"azure_snp", "azure_tdx"}  # whose fields stand in the tables of their parts
    return made | {name: rows for name, rows in of.items() if name not in {*made, *split}}


def _rows(fields: Iterable[Field[Any, Any]]) -> Iterator[Row]:
    for field in fields:
        yield field.name, field.type, field.content


def _part(name: str, rows: Iterable[Row]) -> list[Row]:
    return [
        (member.removeprefix(f"{name}."), kind, content)
        for member, kind, content in rows
        if member.startswith(f"{name}.")
    ]


def page(text: str) -> str:
    """The page with its tables as the fields have them.

    Raises:
        KeyError: the page has a table that no fields are for.
    """
    rows_of = tables()

    def table(match: re.Match[str]) -> str:
        rows = "".join(
            f"| `{member}` | {kind} | {content} |\n"
            for member, kind, content in rows_of[match["name"]]
        )
        return (
            f"<!-- fields: {match['name']} -->\n| member | type | content |\n|---|---|---|\n"
            f"{rows}<!-- end of fields -->\n"
        )

    return _TABLE.sub(table, text)


def named(text: str) -> list[str]:
    """Tables that the page has, in order."""
    return [match["name"] for match in _TABLE.finditer(text)]


def pages() -> list[Path]:
    """Pages that have a table."""
    return [page for page in sorted(PAGES.glob("*.md")) if named(page.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    for each in pages():
        written = page(each.read_text(encoding="utf-8"))
        each.write_text(written, encoding="utf-8")
        sys.stdout.write(f"{each.name}: {', '.join(named(written))}\n")
