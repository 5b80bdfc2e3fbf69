"""Write docs/errors.md: every stable code, why it matters, what to do. Usage: OUTPUT_FILE."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import regalia
import regalia_demo
import regalia_testing
from regalia.core.errors import Code

HEAD = """# Codes

Every refusal carries one of these codes. They are stable: never renamed, never reused. This page
is written by `scripts/make_error_list.py` from the code, and a test compares the two.

| exit status | family | meaning |
|---|---|---|
| 0 | | done |
| 1 | | a bug in Regalia; the message names a file with the traceback |
| 2 | UsageError | the command line or the configuration is not usable |
| 3 | ParseError | bytes are not a canonical instance of the format they claim |
| 4 | IntegrityError | a signature, digest, tag, commitment or version does not hold |
| 5 | AttestationError | evidence is not genuine, not fresh, or bound to something else |
| 6 | PolicyDenied | evidence is genuine and not acceptable |
| 7 | KeyAccessError | a key is absent or will not open |
| 8 | UnavailableError | a peer or an address cannot be had |
| 9 | LocalError | the local file system or machine refuses |
| 10 | LogError | the transparency log cannot be written or does not verify |
| 11 | | `regalia attest verify` accepts the evidence with a warning, which its output names |
| 130 | | interrupted |
"""

# Modules that need an optional extra define no codes of their own.
OPTIONAL = (
    "regalia.tees.nvidia.evidence.rim_xml",
    "regalia.tees.tpm.device",
    "regalia.tees.tpm.source",
    "regalia.engines.transformers",
    "regalia.tees.snp.measure",
    "regalia.cli.measure.snp",
    "regalia_testing.tees.nvidia.rim_xml",
    "regalia_testing.strategies",
    "regalia_testing.__main__",
    "regalia_demo.__main__",
    "regalia_testing.tees.tpm.live_enrolment",
    "regalia.__main__",
)
TABLE = "| code | why it matters | what to do |\n|---|---|---|\n"


def all_codes() -> list[type[Code]]:
    """Import every module of the three distributions and collect the code enumerations."""
    for package in (regalia, regalia_testing, regalia_demo):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not f"{module.name}.".startswith(tuple(f"{name}." for name in OPTIONAL)):
                importlib.import_module(module.name)
    # The tests' own codes may be loaded as well, and are not on the page.
    kinds = [kind for kind in Code.__subclasses__() if not kind.__module__.startswith("tests.")]
    return sorted(kinds, key=lambda kind: (kind.__module__, kind.__name__))


def render() -> str:
    """The whole page."""
    parts = [HEAD]
    for kind in all_codes():
        package = kind.__module__.removeprefix("regalia.")
        summary = (kind.__doc__ or "").strip().splitlines()[0]
        parts.append(f"\n## {package}\n\n{summary}\n\n{TABLE}")
        parts += [f"| `{code.name}` | {code.why} | {code.fix} |\n" for code in kind]
    return "".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
