"""Text that others chose, for one line of a terminal or of a message."""

from __future__ import annotations


def tame(text: str) -> str:
    """Text on one line: a line break, or what steers a terminal, is shown as its escape.

    Names of files are untrusted: one with a line break could look like a line of ours.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
