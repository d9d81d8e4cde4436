"""A writer of SVG: the few shapes that our pictures need, with all text escaped."""

from __future__ import annotations

import html
import math

from lepton_ai.cli.output import printable


class Svg:
    """A picture of ``width`` x ``height`` pixels that grows shape by shape. ``css`` are names of classes in ``style``.

    A ``title`` is what a browser shows when the pointer rests on the shape.
    """

    def __init__(self, width: float, height: float, *, title: str, style: str, definitions: str = "") -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{number(width)}" height="{number(height)}" '
            f'viewBox="0 0 {number(width)} {number(height)}" role="img">',
            f"<title>{_escaped(title)}</title>",
            f"<style>{style}</style>",
            f"<defs>{definitions}</defs>",
        ]

    def rect(self, x: float, y: float, width: float, height: float, *, css: str, title: str = "") -> None:
        """A rectangle."""
        place = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
        self._add(f'rect {place} class="{css}"', title)

    def path(self, data: str, *, css: str, title: str = "") -> None:
        """A path, in the language of SVG."""
        self._add(f'path d="{_escaped(data)}" class="{css}"', title)

    def text(self, x: float, y: float, text: str, *, css: str) -> None:
        """A line of text; ``y`` is that of its base."""
        self._parts.append(f'<text x="{number(x)}" y="{number(y)}" class="{css}">{_escaped(text)}</text>')

    def to_text(self) -> str:
        """The picture as a document."""
        return "\n".join([*self._parts, "</svg>"]) + "\n"

    def _add(self, tag: str, title: str) -> None:
        name = tag.partition(" ")[0]
        self._parts.append(f"<{tag}><title>{_escaped(title)}</title></{name}>" if title else f"<{tag}/>")


def number(value: float) -> str:
    """A coordinate: to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below ``least``: between the marks of an axis."""
    power = 10.0 ** math.floor(math.log10(max(least, 1e-9)))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _escaped(text: str) -> str:
    """Lines stay lines; what XML has no place for, such as control characters, is replaced."""
    return html.escape("\n".join(map(printable, text.split("\n"))))
