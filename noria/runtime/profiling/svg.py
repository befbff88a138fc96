"""The few shapes of SVG that charts are made of."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

FONT = "Inter, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"
INK, FAINT, GRID, PAPER = "#1f2933", "#6b7683", "#e3e7eb", "#ffffff"


class Canvas:
    """A picture of a width and height in pixels, drawn from back to front."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height = width, height
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
            f'viewBox="0 0 {width:g} {height:g}" font-family="{escape(FONT)}">',
            f"<title>{escape(title)}</title>",
        ]
        self.rect(0, 0, width, height, PAPER)

    def rect(
        self, x: float, y: float, width: float, height: float, fill: str, *, tip: str = ""
    ) -> None:
        """tip: what a browser shows when the pointer rests on it."""
        if width <= 0 or height <= 0:
            return
        shape = f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" '
        shape += f'fill="{fill}"'
        end = f"><title>{escape(tip)}</title></rect>" if tip else "/>"
        self._parts.append(shape + end)

    def line(
        self, x1: float, y1: float, x2: float, y2: float, color: str = GRID, *, dash: str = ""
    ) -> None:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" '
            f'stroke="{color}"{dashed}/>'
        )

    def polygon(self, points: Sequence[tuple[float, float]], fill: str) -> None:
        text = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
        self._parts.append(f'<polygon points="{text}" fill="{fill}"/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 12,
        color: str = INK,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{x:.2f}" y="{y:.2f}" font-size="{size:g}" fill="{color}" '
            f'text-anchor="{anchor}"{weight}>{escape(text)}</text>'
        )

    def finish(self) -> str:
        """The whole file."""
        return "\n".join([*self._parts, "</svg>", ""])


def ticks(largest: float, about: int = 5) -> list[float]:
    """Round numbers from 0 to the largest: steps of 1, 2 or 5 times a power of ten."""
    if largest <= 0:
        return [0.0]
    raw = largest / about
    power = 10.0 ** len(str(int(raw))) / 10 if raw >= 1 else 10.0 ** _exponent(raw)
    step = next(k * power for k in (1, 2, 5, 10) if k * power >= raw)
    return [i * step for i in range(int(largest / step) + 1)]


def _exponent(x: float) -> int:
    return int(f"{x:e}".partition("e")[2])


def shortened(text: str, size: float, width: float) -> str:
    """As much of a text as fits, at about 0.56 of the font size a letter."""
    room = int(width / (0.56 * size))
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…" if room > 2 else ""
