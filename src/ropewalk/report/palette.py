"""One colour, shape and dash per method, the same in every report; safe for colour-blind readers.

Colours were searched for the largest distance under simulated protanopia, deuteranopia and tritanopia (Machado et al.
2009) at a contrast of 3:1 or more on the page; the closest pairs still need their shapes. tests/report/test_palette.py
measures both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BACKGROUND = {"light": "#ffffff", "dark": "#14171c"}
HOURGLASS, HOUSE = "M-1,-1H1L-1,1H1Z", "M0,-1L1,0V1H-1V0Z"
STAR = "M0,-1.2L0.35,-0.37L1.14,-0.37L0.52,0.2L0.71,0.97L0,0.5L-0.71,0.97L-0.52,0.2L-1.14,-0.37L-0.35,-0.37Z"
BAR = "M-0.4,-1.1H0.4V1.1H-0.4Z"
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
    HOURGLASS,
    HOUSE,
)
"""Names of Vega, or paths; one for every built-in method, so that a print in grey tells them apart."""
DASHES = ((1, 0), (6, 2), (2, 2), (8, 2, 2, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a method is drawn."""

    light: str
    dark: str
    shape: str
    dash: tuple[int, ...]


def _styles(*rows: tuple[str, str, str]) -> dict[str, Style]:
    return {
        name: Style(light=light, dark=dark, shape=SHAPES[i % len(SHAPES)], dash=DASHES[i // len(SHAPES) % len(DASHES)])
        for i, (name, light, dark) in enumerate(rows)
    }


BUILT_IN = _styles(
    ("yarn", "#0045b8", "#5274aa"),
    ("linear", "#cc3412", "#d93808"),
    ("ntk_aware", "#507d5e", "#6db37e"),
    ("dynamic_ntk", "#c58204", "#eddf3b"),
    ("llama3", "#863f7b", "#e282db"),
    ("longrope", "#2793de", "#b5d6fd"),
    ("ntk_by_parts", "#6a0e59", "#9a5762"),
    ("abf", "#330c8a", "#587dff"),
    ("mrrope", "#254a13", "#15de90"),
    ("proportional", "#999264", "#c4b832"),
) | {
    "none": Style(light="#20262e", dark="#eef1f4", shape=STAR, dash=(1, 0)),
    "truncate": Style(light="#7a828c", dark="#868e98", shape=BAR, dash=(3, 3)),
}


def styles(methods: Iterable[str]) -> dict[str, Style]:
    """Styles of these methods; plug-ins take the colours of built-in methods that are absent, then repeat them with
    another dash."""
    names = list(dict.fromkeys(methods))
    spare = [name for name in BUILT_IN if name not in names and name not in ("none", "truncate")] or ["yarn"]
    strangers = [name for name in names if name not in BUILT_IN]
    found = {name: BUILT_IN[name] for name in names if name in BUILT_IN}
    for index, name in enumerate(strangers):
        like = BUILT_IN[spare[index % len(spare)]]
        shape = SHAPES[(SHAPES.index(like.shape) + index // len(spare)) % len(SHAPES)]
        dash = DASHES[(1 + index // len(spare)) % len(DASHES)]
        found[name] = Style(light=like.light, dark=like.dark, shape=shape, dash=dash)
    return {name: found[name] for name in names}
