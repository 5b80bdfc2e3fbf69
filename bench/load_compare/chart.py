"""A bar chart as SVG: medians, and whiskers from the slowest to the fastest run."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEFT, _WIDTH, _RIGHT = 330, 460, 90  # names, bars, figures; pixels
_ROW, _BAR, _TITLE = 26, 16, 44
_OURS, _OTHERS, _CEILING = "#1f6f5c", "#8a99a8", "#d9c48a"


@dataclass(frozen=True)
class Bar:
    """One row. All values are GB/s."""

    name: str
    median: float
    low: float
    high: float

    @property
    def color(self) -> str:
        """By whose it is."""
        if self.name.startswith("regalia"):
            return _OURS
        return _CEILING if "ceiling" in self.name or "preadv" in self.name else _OTHERS


def chart(groups: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """One image with a part for each group of bars, each on a scale of its own."""
    parts: list[str] = []
    top = 0
    for title, bars in groups:
        parts.append(_text(8, top + 26, title, weight="bold"))
        top += _TITLE
        scale = _WIDTH / max(bar.high for bar in bars)
        for bar in sorted(bars, key=lambda each: -each.median):
            parts += _row(bar, top, scale)
            top += _ROW
        top += 10
    width = _LEFT + _WIDTH + _RIGHT
    style = "font-family:system-ui,sans-serif;font-size:13px"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" style="{style}">\n'
        f'<rect width="{width}" height="{top}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _row(bar: Bar, top: int, scale: float) -> list[str]:
    middle = top + _BAR / 2
    low, high = _LEFT + bar.low * scale, _LEFT + bar.high * scale
    size = f'width="{bar.median * scale:.1f}" height="{_BAR}"'
    return [
        _text(_LEFT - 8, top + 13, bar.name, anchor="end"),
        f'<rect x="{_LEFT}" y="{top}" {size} fill="{bar.color}"/>',
        f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#333333"/>',
        _text(int(high) + 6, top + 13, f"{bar.median:.2f} GB/s"),
    ]


def _text(x: int, y: int, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" fill="#222222">'
        f"{escape(text)}</text>"
    )
