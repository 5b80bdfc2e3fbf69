"""The interface of engines that run in processes of their own, behind an HTTP API of their own.

Regalia's runtime stays the only door. It attests, hands the model key to the engine's workers over
a private socket, screens each request before the engine sees it, and owns the processes' life.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from regalia.core.weights import ModelFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the processes of an engine work: paths in one private folder that lies in memory.

    Attributes:
        model: folder with the model's configuration and tokenizer, and no weights.
        scratch: folder for whatever the engine writes.
        api: path of the unix socket that the engine's HTTP API listens on.
        channel: path of the unix socket that workers receive their key from.
    """

    model: Path
    scratch: Path
    api: Path
    channel: Path


@dataclass(frozen=True, slots=True)
class Command:
    """How the first process of an engine is started.

    Attributes:
        argv: program and arguments.
        environment: all variables, as nothing is inherited.
        preload: modules that the process may import while its model is not there yet. ``argv`` then
            is a Python interpreter, ``-m`` and a module.
    """

    argv: tuple[str, ...]
    environment: dict[str, str]
    preload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """A small request that an engine must be able to answer.

    Attributes:
        route: path of its API.
        body: a JSON object.
    """

    route: str
    body: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one request may ask for.

    Attributes:
        answer_tokens: maximum of new tokens in one answer.
        salt: keeps what the engine remembers of this caller's prompts apart from all others'.
    """

    answer_tokens: int
    salt: str


class RequestGuard(Protocol):
    """Decides what of a request reaches the engine."""

    def screen(self, route: str, body: Mapping[str, Any], bounds: Bounds) -> dict[str, Any]:
        """The request that the engine gets.

        Args:
            route: path of the API, one of those that the runtime serves.
            body: what the client sent, a JSON object.
            bounds: of this request.

        Raises:
            UsageError: REQUEST_SURFACE_CLOSED, PROMPT_UNUSABLE or ENGINE_OPTION_UNKNOWN.
        """


@runtime_checkable
class HostedEngine(Protocol):
    """A plug-in of the group ``regalia.engines`` whose engine runs in processes of its own."""

    def check(self, options: Mapping[str, object], opens: tuple[str, ...]) -> None:
        """Check the options, and that the engine is installed, before a key is asked for.

        Args:
            options: ``[engine.options]`` of the configuration, not validated.
            opens: names of surfaces that the measured configuration opens.

        Raises:
            UsageError: ENGINE_OPTION_UNKNOWN, ENGINE_SURFACE_UNKNOWN or ENGINE_NOT_INSTALLED.
        """

    def workers(self, options: Mapping[str, object]) -> int:
        """Number of processes that load weights, and therefore need the key."""

    def keeps(self, path: str) -> bool:
        """Whether a file of the model is configuration or tokenizer, and not weights.

        Args:
            path: relative POSIX path in the model.
        """

    def command(
        self, options: Mapping[str, object], place: Place, *, served_name: str, parallel: int
    ) -> Command:
        """How the engine is started. Its first process starts to run when its files are there.

        Args:
            options: as for ``check``.
            place: its folders and sockets.
            served_name: name that the model is served under.
            parallel: number of requests that are answered at the same time.
        """

    def trial(self, served_name: str) -> Trial:
        """A request that shows whether the engine can run its model.

        Args:
            served_name: name that the model is served under.
        """

    def guard(self, files: ModelFiles, opens: tuple[str, ...]) -> RequestGuard:
        """What screens the requests for one model.

        Args:
            files: the model's files that are not weights.
            opens: names of surfaces that the measured configuration opens.

        Raises:
            ParseError, UsageError: the model's files are malformed or not supported.
        """


@runtime_checkable
class WorkersMerge(Protocol):
    """What a plug-in has as well if its workers can merge a LoRA adapter into their model."""

    def check_adapter(self, options: Mapping[str, object]) -> None:
        """Check that an adapter could be merged, before its key is asked for.

        Args:
            options: ``[engine.options]`` of the configuration, not validated.

        Raises:
            UsageError: the engine merges none with these options.
        """
