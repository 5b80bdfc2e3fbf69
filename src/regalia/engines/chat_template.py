"""Chat templates: where a model has its own, and how one is rendered, in a sandbox and in time."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from regalia.core.errors import CoreCode, ParseError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.model_files import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from regalia.core.weights import ModelFiles

TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
TEMPLATE_SECONDS = 2.0  # of processor time that a template may take for one conversation
_TEMPLATE_FILE = "<template>"  # jinja2's name for the code of a template that is no file
_TEMPLATE_WORDS_MAX = 300  # characters of a template's own message


def file_template(files: ModelFiles, settings: dict[str, Any]) -> str | None:
    """The chat template of a model in Hugging Face's layout; None if it has none.

    Args:
        files: the model's files.
        settings: contents of ``tokenizer_config.json``.

    Raises:
        ParseError: it is malformed.
    """
    own = read_text(files, CHAT_TEMPLATE)
    if own is not None:
        return own
    template = settings.get("chat_template")
    if isinstance(template, list):  # an older form with several named templates
        named = {
            item.get("name"): item.get("template") for item in template if isinstance(item, dict)
        }
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise ParseError(CoreCode.MALFORMED, f"{TOKENIZER_CONFIG}: chat_template is no text")
    return template


def _template_words(exc: Exception) -> str:
    """What the template says itself, by ``raise_exception``: for the sender of the prompt.

    Messages of other exceptions describe the template's code and values, which help nobody.
    """
    import jinja2

    if type(exc) is not jinja2.TemplateError or not exc.message:
        return ""
    words = "".join(char if char.isprintable() else " " for char in exc.message)
    return f": {words[:_TEMPLATE_WORDS_MAX]}"


class _TemplateTooLongError(Exception):
    """A template has used up its time."""


@contextmanager
def _bounded_time(seconds: float) -> Iterator[None]:
    """Interrupt templates that run in this thread for longer than so many seconds of its time.

    Python has no other way to stop a loop of a template than to look at each of its lines.
    """
    deadline = time.thread_time() + seconds

    def look(frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401 - itself
        if time.thread_time() > deadline:
            raise _TemplateTooLongError
        return look if frame.f_code.co_filename == _TEMPLATE_FILE else None

    before = sys.gettrace()
    sys.settrace(look)
    try:
        yield
    finally:
        sys.settrace(before)


def render_bounded(render: Callable[[], str]) -> str:
    """Render a template within its time.

    Args:
        render: renders it in this thread.

    Raises:
        UsageError: PROMPT_UNUSABLE.
    """
    try:
        with _bounded_time(TEMPLATE_SECONDS):
            return render()
    except _TemplateTooLongError as exc:
        raise UsageError(
            EngineCode.PROMPT_UNUSABLE,
            "the model's chat template takes too long for these messages",
        ) from exc
    except Exception as exc:  # a template can fail in every way that Python can
        what = "the model's chat template refuses these messages"
        raise UsageError(EngineCode.PROMPT_UNUSABLE, what + _template_words(exc)) from exc


def sandboxed(template: str, words: Mapping[str, str]) -> Callable[[list[dict[str, str]]], str]:
    """Compile a template as the transformers library does, for engines that do not have it.

    Args:
        template: of the model, untrusted.
        words: further values that it sees: texts of special tokens.

    Returns:
        A function that renders turns, to be called within ``render_bounded``.

    Raises:
        ParseError: MALFORMED, it does not compile.
    """
    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    def tojson(value: object, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    def strftime_now(form: str) -> str:
        return time.strftime(form)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _generation_tag()]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {"raise_exception": refuse, "strftime_now": strftime_now}
    try:
        compiled = environment.from_string(template)
    except (jinja2.TemplateError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, "the chat template does not compile") from exc
    values = {"tools": None, "documents": None, "add_generation_prompt": True, **words}
    return lambda turns: compiled.render(messages=turns, **values)


def _generation_tag() -> Any:  # noqa: ANN401 - jinja2 comes late
    """``{% generation %}``, which marks what an assistant said, and is rendered as it stands."""
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 - jinja2 reads it so

        def parse(self, parser: Any) -> Any:  # noqa: ANN401
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return Generation
