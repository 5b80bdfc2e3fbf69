"""The exceptions of Regalia, and their stable reason codes.

    RegaliaError
    ├── UsageError          2   the command line or the configuration cannot be used
    ├── ParseError          3   bytes are not a canonical instance of the format they claim
    ├── IntegrityError      4   a signature, digest, tag or version does not verify
    ├── AttestationError    5   evidence is not genuine, not fresh, or bound to something else
    ├── PolicyDenied        6   evidence is genuine but not acceptable under the policy
    ├── KeyAccessError      7   a key is missing or does not decrypt
    ├── UnavailableError    8   a peer cannot be reached, or an address cannot be used
    ├── LocalError          9   the local file system or machine reports a failure
    └── LogError           10   the transparency log cannot be written or does not verify

The number is the exit status of a command that ends with that error. Status 1 is reserved for a
bug in Regalia, and 130 for an interrupted run. A ``Code`` is stable: it keeps its meaning, and its
name is never reused.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from regalia.core.tame import tame

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_OK = 0
EXIT_BUG = 1
EXIT_INTERRUPTED = 130


class Code(Enum):
    """A stable reason code: a name, why it matters, and how to fix the cause.

    Packages define subclasses with their own members. A test checks that the names are unique
    over all subclasses. ``docs/errors.md`` lists all of them.
    """

    def __init__(self, why: str, fix: str) -> None:
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        return self.name


class RegaliaError(Exception):
    """Base of all errors that Regalia raises on purpose.

    Args:
        code: the stable reason code.
        what: one sentence about what happened, with actual and expected values, but no secret.
    """

    exit_status: ClassVar[int] = EXIT_BUG

    def __init__(self, code: Code, what: str) -> None:
        super().__init__(f"{code.name}: {what}")
        self.code = code
        self.what = what

    def explain(self) -> str:
        """Explain to a person what happened, why it matters and what to do, in three lines.

        What happened may quote names and texts of others, which must not add lines of their own.
        """
        return f"{tame(self.what)}\nWhy it matters: {self.code.why}\nWhat to do: {self.code.fix}"

    def as_dict(self) -> dict[str, str]:
        """The same facts for a program."""
        return {
            "code": self.code.name,
            "what": self.what,
            "why": self.code.why,
            "fix": self.code.fix,
        }


class UsageError(RegaliaError):
    """The command line or the configuration cannot be used."""

    exit_status = 2


class ParseError(RegaliaError):
    """Bytes are not a canonical instance of the format they claim to be."""

    exit_status = 3


class IntegrityError(RegaliaError):
    """A signature, digest, authentication tag, commitment or version does not verify."""

    exit_status = 4


class AttestationError(RegaliaError):
    """Evidence is not genuine, not fresh, or bound to something else."""

    exit_status = 5


class PolicyDenied(RegaliaError):  # noqa: N818 - the field says "denied", not "error"
    """Evidence is genuine but not acceptable under the policy. Carries all reasons."""

    exit_status = 6

    def __init__(self, code: Code, what: str, reasons: Sequence[tuple[Code, str]] = ()) -> None:
        super().__init__(code, what)
        self.reasons = tuple(reasons) or ((code, what),)

    def explain(self) -> str:
        """List all reasons, so that an operator can fix them together."""
        parts = [tame(self.what)]
        parts += [
            f"- {code.name}: {tame(what)}\n  {code.why}\n  {code.fix}"
            for code, what in self.reasons
        ]
        return "\n".join(parts)


class KeyAccessError(RegaliaError):
    """A key is missing or locked, or does not decrypt what it should."""

    exit_status = 7


class UnavailableError(RegaliaError):
    """A peer cannot be reached, or an address cannot be used."""

    exit_status = 8


class LocalError(RegaliaError):
    """The local file system or machine reports a failure: missing file, full disk, permission."""

    exit_status = 9


class LogError(RegaliaError):
    """The transparency log cannot be written, or its contents do not verify."""

    exit_status = 10


class CoreCode(Code):
    """Codes that every package shares."""

    MALFORMED = (
        "Parsers accept one canonical encoding only, so that two readers never see two meanings.",
        "Fetch the file or message again from its producer; if it is yours, regenerate it.",
    )
    WRONG_FILE = (
        "A file of another kind is never read as if it were the one that is needed.",
        "Give a file of the kind that the message names.",
    )
    TOO_LARGE = (
        "Limits are checked before memory is allocated, so that nobody can exhaust this process.",
        "Check that this is the right file; the limit is in the message.",
    )
    BAD_CONFIG = (
        "An unknown or ill-typed setting is never ignored: it could be a misspelt protection.",
        "Correct the named setting; docs/reference/configuration-*.md list all of them.",
    )
    BAD_USAGE = (
        "The command cannot guess what was meant.",
        "Run the command again with --help.",
    )
    FILE_MISSING = (
        "The command needs this file.",
        "Check the path, and that you run the command in the right folder.",
    )
    FILE_EXISTS = (
        "Nothing is overwritten silently.",
        "Choose another path, or move the existing one away.",
    )
    NOT_A_DIRECTORY = ("The command needs a directory here.", "Give the path of a directory.")
    NOT_A_REGULAR_FILE = (
        "The size of what is read must be known before, and it may be read more than once.",
        "Give a regular file: save what comes through a pipe or standard input to one first.",
    )
    NO_PERMISSION = (
        "The operating system refuses access to this path.",
        "Run as the user who owns it, or change its mode.",
    )
    DISK_FULL = (
        "The output could not be written whole, so nothing was kept of it.",
        "Free space on that file system, or write to another, and run the command again.",
    )
    IO_FAILED = (
        "The operating system reported an error while reading or writing.",
        "Look at the named cause, then run the command again.",
    )
    INSECURE_MODE = (
        "A secret that other users of this machine can read is no secret.",
        "Run chmod 600 on the file; where that changes nothing, as on FAT, move it elsewhere.",
    )
    PEER_UNREACHABLE = (
        "The peer did not answer; nothing was sent in clear and no key was released.",
        "Check the address, and that the service is running.",
    )
    PORT_IN_USE = (
        "Another process already listens there.",
        "Stop that process, or choose another address with --listen.",
    )
    PLUGIN_UNKNOWN = (
        "Only plug-ins that are named in the configuration and installed are loaded.",
        "Check the spelling, and that the extra which provides it is installed.",
    )
    EXTRA_MISSING = (
        "An installation has only the optional packages that were asked for.",
        "Run the command that the message names, in the environment of this installation.",
    )
    SIMULATION_NOT_INSTALLED = (
        (
            "Only the distribution regalia-testing can issue simulated evidence or trust simulated"
            " roots, so an installation without it cannot be configured to."
        ),
        (
            "On a machine for tests: pip install regalia-testing. On any other: remove the setting"
            " or option that the message names."
        ),
    )
    DANGEROUS_NOT_ALLOWED = (
        "This setting lowers protection, so it must be asked for by its full name.",
        "Remove it, or set the dangerous_ switch that the message names.",
    )
    INTERRUPTED = ("The run was stopped before its end.", "Run the command again.")
