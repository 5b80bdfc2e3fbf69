"""The little that is read of S3's XML and written of its queries. Both sides are untrusted.

A parser of XML would bring entities, namespaces and depth. What is wanted are the texts of a few
elements, which are matched where they stand, in answers that are bounded in size.
"""

from __future__ import annotations

import re
from urllib.parse import quote

_ESCAPES = (
    (b"&lt;", b"<"),
    (b"&gt;", b">"),
    (b"&quot;", b'"'),
    (b"&#34;", b'"'),
    (b"&apos;", b"'"),
    (b"&#39;", b"'"),
    (b"&amp;", b"&"),
)


def query_of(values: dict[str, str]) -> str:
    """A query as signatures want it: sorted, with every reserved character escaped."""
    pairs = (
        f"{quote(name, safe='-_.~')}={quote(values[name], safe='-_.~')}" for name in sorted(values)
    )
    return "?" + "&".join(pairs)


def tag_of(text: bytes, name: bytes) -> str:
    """Text of the first element of this name, which has none inside; empty if there is none.

    Args:
        text: XML, untrusted.
        name: of the element.
    """
    found = re.search(rb"<" + name + rb">([^<]{0,2048})</" + name + rb">", text)
    return unescaped(found[1]) if found else ""


def elements(page: bytes, name: bytes) -> list[bytes]:
    """What stands in each element of this name, which has none of its own name inside.

    The page is cut at its tags, in time that grows with its size: a pattern would begin again at
    each of a million tags that are never closed.

    Args:
        page: XML, untrusted.
        name: of the elements.
    """
    found = []
    for text in page.split(b"<" + name + b">")[1:]:
        inside, closed, _ = text.partition(b"</" + name + b">")
        if closed:
            found.append(inside)
    return found


def unescaped(text: bytes) -> str:
    """Text of XML without the five named escapes, which are all that such servers use."""
    for escape, byte in _ESCAPES:
        text = text.replace(escape, byte)
    return text.decode("utf-8", "replace")
