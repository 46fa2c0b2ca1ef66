"""What a report of the golden study must show, worked out by hand from the exponents in golden.py: tables of (picture,
configuration and place, field, value) and of (table, row, column, text), and the one function that compares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from golden import HALF, NONE, WHOLE, YARN, Grid, golden, layers, markdown_tables, page_data, page_tables

from ropewalk.report.content import content
from ropewalk.report.markdown import markdown
from ropewalk.report.page import page

WAVE = 2 * math.pi
POINTS = [
    # picture, which point, field, expected. Ratios: 2 to the difference of two middles.
    ("ratio", (HALF, 1024), "ratio", 2**0.0625),
    ("ratio", (WHOLE, 1024), "ratio", 2**0.25),
    ("ratio", (YARN, 2048), "ratio", 2**0.0625),
    ("ratio", (HALF, 4096), "ratio", 2**-1.5),
    ("ratio", (WHOLE, 4096), "ratio", 2**-2.5),
    ("ratio", (YARN, 4096), "ratio", 2**-2.75),
    # -2.75 -/+ t(3) * s / sqrt(4), where s of -1/64, 1/64, 1/64, -1/64 is 1/64 * sqrt(4/3)
    ("ratio", (YARN, 4096), "low", 2 ** (-2.75 - 3.182446 * math.sqrt(4 / 3) / 128)),
    ("ratio", (YARN, 4096), "high", 2 ** (-2.75 + 3.182446 * math.sqrt(4 / 3) / 128)),
    ("ratio", (YARN, 4096), "change", "-85.1 % [-85.4 %, -84.8 %]"),
    ("ratio", (YARN, 4096), "perplexity", "13.45 [7.26, 24.93]"),
    ("ratio", (YARN, 4096), "documents", 4),
    ("ratio", (YARN, 4096), "leads", True),
    ("ratio", (WHOLE, 4096), "leads", True),
    ("ratio", (HALF, 4096), "leads", False),
    ("tail", (YARN, 4096), "ratio", 2**-0.25),
    ("tail", (WHOLE, 4096), "ratio", 2**0.375),
    ("tail", (HALF, 4096), "ratio", 2**0.5),
    ("tail", (NONE, 4096), "ratio", 2**4.25),
    ("tail", (YARN, 4096), "change", "-15.9 % [-18.2 %, -13.5 %]"),
    ("tail", (YARN, 4096), "tail perplexity", "16 [8.461, 30.26]"),
    ("position", (NONE, "64 to 256"), "nll", 3.0),
    ("position", (NONE, "64 to 256"), "position", 128.0),
    ("position", (NONE, "900 to 2,500"), "nll", 5.0),
    ("position", (NONE, "900 to 2,500"), "position", 1500.0),
    ("position", (NONE, "4,000"), "nll", 8.0),
    ("position", (NONE, "4,000"), "position", 4000.0),
    ("position", (HALF, "4,000"), "nll", 4.5),
    ("position", (HALF, "4,000"), "leads", False),
    ("position", (YARN, "4,000"), "nll", 2.25),
    ("position", (YARN, "4,000"), "leads", True),
    ("retrieval-00", (NONE, 2048, "0–50 %"), "share", 1.0),
    ("retrieval-00", (NONE, 4096, "0–50 %"), "share", 0.0),
    ("retrieval-01", (WHOLE, 4096, "0–50 %"), "share", 1.0),
    ("retrieval-01", (WHOLE, 4096, "50–100 %"), "share", 0.5),
    ("retrieval-01", (WHOLE, 4096, "50–100 %"), "depth", 0.75),
    ("retrieval-01", (WHOLE, 4096, "50–100 %"), "found", "2 of 4"),
    ("retrieval-01", (WHOLE, 4096, "50–100 %"), "short", "2/4"),
    ("retrieval-02", (YARN, 4096, "50–100 %"), "short", "4/4"),
    # Dearest inside the window: Half and YaRN at 1,024, Whole at 2,048.
    ("pareto", (NONE, 4096), "cost", 1.0),
    ("pareto", (HALF, 4096), "cost", 2**0.0625),
    ("pareto", (WHOLE, 4096), "cost", 2**0.5),
    ("pareto", (YARN, 4096), "cost", 2**0.125),
    ("pareto", (NONE, 4096), "value", 2**8.5),
    ("pareto", (HALF, 4096), "value", 2**4.75),
    ("pareto", (WHOLE, 4096), "value", 2**4.625),
    ("pareto", (YARN, 4096), "value", 16.0),
    ("pareto", (NONE, 4096), "front", True),
    ("pareto", (HALF, 4096), "front", True),
    ("pareto", (WHOLE, 4096), "front", False),
    ("pareto", (YARN, 4096), "front", True),
    ("pareto", (WHOLE, 4096), "cost at short lengths", "+41.4 % [+38.6 %, +44.3 %] at 2,048"),
    ("pareto", (NONE, 4096), "cost at short lengths", "identical at 1,024"),
    ("sensitivity", ("linear factor 2 → 4",), "ratio", 2**-0.125),
    # -1/8 -/+ t(3) * s / 2, where s of 1/8, -3/8, 1/8, -3/8 is sqrt(1/12)
    ("sensitivity", ("linear factor 2 → 4",), "low", 2 ** (-0.125 - 3.182446 * math.sqrt(1 / 12) / 2)),
    ("sensitivity", ("linear factor 2 → 4",), "high", 2 ** (-0.125 + 3.182446 * math.sqrt(1 / 12) / 2)),
    ("sensitivity", ("linear factor 2 → 4",), "from", HALF),
    ("sensitivity", ("linear factor 2 → 4",), "to", WHOLE),
    ("sensitivity", ("linear factor 2 → 4",), "change", "-8.3 % [-33.3 %, +26.1 %]"),
    ("wavelengths", (NONE, 1), "stretch", 1.0),
    ("wavelengths", (WHOLE, 0), "stretch", 4.0),
    ("wavelengths", (YARN, 0), "stretch", 1.0),
    ("wavelengths", (YARN, 1), "stretch", 4.0),
    ("wavelengths", (YARN, 1), "unscaled", 100 * WAVE),
    ("wavelengths", (YARN, 1), "wavelength", 400 * WAVE),
    ("wavelengths", (YARN, 1), "turns", 20.48 / WAVE),
    ("wavelengths", (YARN, 1), "attention factor", 1.125),
    ("wavelengths", (YARN, 0), "turns", 2048 / WAVE),
]
LAYERS = {
    "ratio": [
        "rule y=log_ratio of log_ratio 0",
        "rule x=length of length 2048, text window 2,048",
        "text text=text x=length of length 2048, text window 2,048",
        "line detail=configuration x=length~log y=log_ratio~symlog of !datum.leads",
        "point x=length~log y=log_ratio~symlog of !datum.leads",
        "area x=length~log y=log_low y2=log_high of datum.leads",
        "line x=length~log y=log_ratio~symlog of datum.leads",
        "point x=length~log y=log_ratio~symlog of datum.leads",
    ],
    "tail": [
        "rule y=log_ratio of log_ratio 0",
        "point x=length y=log_ratio~symlog of !datum.leads",
        "rule x=length y=log_low y2=log_high of datum.leads",
        "point x=length y=log_ratio~symlog of datum.leads",
    ],
    "position": [
        "rule x=position of position 2048, text window 2,048",
        "text text=text x=position of position 2048, text window 2,048",
        "line detail=configuration x=position~log y=nll of !datum.leads",
        "line x=position~log y=nll of datum.leads",
        "point x=position~log y=nll of datum.leads",
    ],
    "retrieval-01": ["rect x=length y=depths color=share", "text text=short x=length y=depths"],
    "pareto": [
        "rule y=value of value 19.0273",
        "text text=text y=value of value 19.0273, text dropping the context",
        "line order=log_cost x=log_cost~symlog y=value~log of datum.front",
        "point x=log_cost~symlog y=value~log of !datum.front",
        "point x=log_cost~symlog y=value~log of datum.front",
    ],
    "sensitivity": [
        "rule x=log_ratio of log_ratio 0",
        "rule x=log_low x2=log_high y=step",
        "point x=log_ratio~symlog y=step",
    ],
    "wavelengths": ["line x=unscaled~log y=stretch~log", "point x=unscaled~log y=stretch~log"],
}
AXES = {
    "ratio": ("length, tokens", "perplexity against none"),
    "tail": ("length, tokens", "tail perplexity against truncate"),
    "position": ("position, tokens", "loss, nats per token"),
    "pareto": ("cost at short lengths (worst change of perplexity)", "tail perplexity at 4,096"),
    "sensitivity": ("change of tail perplexity", None),
    "wavelengths": ("unscaled wavelength of the pair, tokens", "stretched by"),
}
METHODS, TOP, BEST, AGREE, STEPS = (
    "By method, at 4,096", "Top ten at 4,096, exploratory",
    "Best per length, exploratory: each row is corrected for itself alone",
    "Do the metrics agree? Rank correlations within a length, exploratory", "Every step",
)  # fmt: skip
TEXTS = [
    # table, what identifies the row, column, text; in the page and in report.md
    ("Perplexity by length", {"configuration": NONE}, "1,024", "16 [8.464, 30.25]"),
    ("Perplexity by length", {"configuration": HALF}, "4,096", "32 [16.92, 60.51]"),
    ("Perplexity by length", {"configuration": WHOLE}, "2,048", "16 [8.461, 30.26]"),
    ("Bits per byte by length", {"configuration": NONE}, "4,096", "1.625 [1.395, 1.855]"),
    ("Bits per byte by length", {"configuration": YARN}, "4,096", "out of memory"),
    ("LongPPL by length", {"configuration": YARN}, "4,096", "64 [34.54, 118.6]"),
    ("Tail perplexity by length", {"configuration": "truncate"}, "4,096", "19.03 [10.06, 35.98]"),
    ("Tail perplexity by length", {"configuration": "truncate"}, "1,024", "–"),
    ("Found by depth", {"configuration": WHOLE, "length": "4,096"}, "0–50 %", "4/4"),
    ("Found by depth", {"configuration": WHOLE, "length": "4,096"}, "50–100 %", "2/4"),
    ("Found by depth", {"configuration": NONE, "length": "4,096"}, "0–50 %", "0/4"),
    (METHODS, {"method": "yarn"}, "best configuration", YARN),
    (METHODS, {"method": "linear"}, "best configuration", WHOLE),
    # Half's 4.375 and 4.875 on odd places, Whole's 4.25 and 5 on even ones: 2^4.8125 where Whole alone has 2^4.625.
    (METHODS, {"method": "linear"}, "held-out tail perplexity", "28.1 [13.73, 57.52]"),
    (METHODS, {"method": "linear"}, "optimism", "+13.88 %"),
    (METHODS, {"method": "yarn"}, "optimism", "+0.00 %"),
    (METHODS, {"method": "yarn"}, "verdict", "best"),
    (METHODS, {"method": "linear"}, "verdict", "worse"),
    (METHODS, {"method": "none"}, "verdict", "worse"),
    (METHODS, {"method": "linear"}, "cost at short lengths", "+41.4 % [+38.6 %, +44.3 %]"),
    (METHODS, {"method": "none"}, "cost at short lengths", "identical"),
    (METHODS, {"method": "yarn"}, "effective length", "at least 4,096"),
    (METHODS, {"method": "none"}, "effective length", "2,048 (tail)"),
    (METHODS, {"method": "linear"}, "effective length", "tail costs more than 10 % already at 1,024"),
    (TOP, {"rank": "1"}, "configuration", YARN),
    (TOP, {"rank": "2"}, "configuration", WHOLE),
    (TOP, {"rank": "3"}, "configuration", HALF),
    (TOP, {"rank": "4"}, "configuration", NONE),
    (TOP, {"rank": "2"}, "passkey", "75 % [41 %, 93 %]"),
    (TOP, {"rank": "3"}, "LongPPL", "16 [8.461, 30.26]"),
    (BEST, {"length": "1,024", "metric": "perplexity"}, "best", NONE),
    (BEST, {"length": "4,096", "metric": "perplexity"}, "best", YARN),
    (BEST, {"length": "4,096", "metric": "LongPPL"}, "best", NONE),
    (BEST, {"length": "4,096", "metric": "bits per byte"}, "best", WHOLE),
    (BEST, {"length": "4,096", "metric": "bits per byte"}, "not told apart", "0 of 2"),
    (BEST, {"length": "4,096", "metric": "passkey"}, "best", YARN),
    # 6 of 8 against 8 of 8: two discordant trials, p = 1/2; 2 of 8: six, p = 1/32, six pairs; 0 of 8: p = 1/128.
    (BEST, {"length": "4,096", "metric": "passkey"}, "not told apart", "2 of 3"),
    (BEST, {"length": "4,096", "metric": "passkey"}, "value [95 % interval]", "100 % [68 %, 100 %]"),
    (BEST, {"length": "4,096", "metric": "passkey"}, "n", "8"),
    (BEST, {"length": "1,024", "metric": "passkey"}, "not told apart", "only one measurement"),
    (BEST, {"length": "4,096", "metric": "tail perplexity"}, "value [95 % interval]", "16 [8.461, 30.26]"),
    # By perplexity none, Half, YaRN, Whole; by tail Half and YaRN change places: 1 - 6 * 2 / (4 * 15).
    (AGREE, {"metrics": "perplexity, tail perplexity"}, "1,024", "+0.80"),
    (AGREE, {"metrics": "perplexity, tail perplexity"}, "4,096", "+1.00"),
    (AGREE, {"metrics": "perplexity, LongPPL"}, "4,096", "-1.00"),
    (AGREE, {"metrics": "perplexity, LongPPL"}, "1,024", "–"),
    (AGREE, {"metrics": "perplexity, passkey"}, "4,096", "+1.00"),
    # Half alone misses passkeys: places 1 to 4 against 2, 4, 2, 2: -1 / sqrt(5 * 3).
    (AGREE, {"metrics": "perplexity, passkey"}, "2,048", "-0.26"),
    (STEPS, {"method": "linear"}, "step", "factor 2 → 4"),
    (STEPS, {"method": "linear"}, "change of tail perplexity", "-8.3 % [-33.3 %, +26.1 %]"),
    (STEPS, {"method": "linear"}, "p (Holm)", "0.450"),
    ("failures", {"configuration": YARN}, "length", "4,096"),
    ("failures", {"configuration": YARN}, "metric", "bits per byte"),
    ("failures", {"configuration": YARN}, "status", "out of memory"),
    ("failures", {"configuration": YARN}, "reason", "4096 did not fit"),
    ("provenance", {"what": "window"}, "value", "2,048 tokens (max_position_embeddings)"),
    ("provenance", {"what": "parameters"}, "value", "135,000,000"),
    ("provenance", {"what": "wall time"}, "value", "4,321 s"),
    ("Documents", {"id": "text-3"}, "tokens read", "40,003"),
]
SIZES = {
    METHODS: 3,
    TOP: 4,
    BEST: 13,
    AGREE: 6,
    STEPS: 1,
    "failures": 1,
    "Found by depth": 9,
    "Perplexity by length": 4,
}
"""Rows of a table."""
EVERY_NUMBER = [
    # configuration, length, metric, column of the full table, expected
    (NONE, 1024, "perplexity", "value", 16.0),
    (NONE, 1024, "perplexity", "against none", 1.0),
    (WHOLE, 1024, "perplexity", "against none", 2**0.25),
    (YARN, 4096, "perplexity", "against none", 2**-2.75),
    (YARN, 4096, "tail", "against none", 2**-4.5),
    (YARN, 4096, "longppl", "against none", 8.0),
    (YARN, 1024, "bits_per_byte", "against none", None),
    (YARN, 4096, "passkey", "against none", None),
    (HALF, 4096, "passkey", "value", 0.25),
    (HALF, 4096, "passkey", "n", 8),
    # 4 -/+ t(3) * s / 2, where s of 3.5, 4.5, 3.5, 4.5 and 1/64 more or less is sqrt(4/3 * (1/4 + 1/64^2))
    (YARN, 4096, "tail", "low", 2 ** (4 - 3.182446 * math.sqrt((1 / 4 + 1 / 4096) / 3))),
    (YARN, 4096, "tail", "high", 2 ** (4 + 3.182446 * math.sqrt((1 / 4 + 1 / 4096) / 3))),
    (YARN, 4096, "tail", "n", 4),
    (YARN, 4096, "tail", "status", "ok"),
    (YARN, 4096, "bits_per_byte", "value", None),
    (YARN, 4096, "bits_per_byte", "status", "out_of_memory: 4096 did not fit"),
    (YARN, 4096, "bits_per_byte", "rotation", YARN),
]
ANSWER = (
    "For 4,096 tokens, use yarn factor=4.",
    "16 [8.461, 30.26] (4 documents)",
    "Against the unscaled model: -95.6 % [-95.7 %, -95.5 %]",
    "Against dropping the context: -15.9 % [-18.2 %, -13.5 %]",
    "Cost at short lengths: +9.1 % [+6.9 %, +11.2 %] perplexity, at worst, at 1,024",
    "Passkeys found at 4,096: 100 % [68 %, 100 %] (8 trials)",
    "Each of the 3 others is worse, at most 5 % chance of any error, failures on texts unlike these aside "
    "(4 documents).",
    "ropewalk export yarn --model org/model -p factor=4 --target hf --length 4096",
    "1 of 53 cells have no value; the first is yarn factor=4 at 4,096, bits_per_byte (out_of_memory: 4096 did not",
    "At 4,096 yarn factor=4 beats dropping the context",
    "(tail perplexity 16 against 19.03, -15.9 %, 95 % interval -18.2 % to -13.5 %, 4 documents)",
    "1 of 3 extended configurations do.",
    "At 1,024, none has the best tail perplexity (32), and each of the 3 others is worse",
    "At 4,096, yarn factor=4 has the best tail perplexity (16), and each of the 3 others is worse",
    "With 8 passkey trials, two of 4 configurations differ significantly only if at least 8 trials go one way",
    "1 of 53 finished cells have no value.",
    "tail perplexity is shown, by its whole paired 95 % interval, to stay within 10 % of the unscaled model's on the "
    "same tokens and at least 80 % of passkeys are found",
)
"""What report.md says in words."""


def shown() -> tuple[dict[str, Any], dict[str, Grid], dict[str, Grid], str]:
    """Data and tables of the golden page, tables and text of its Markdown."""
    made = content(golden())
    html, text = page(made), markdown(made, ["report.html"])
    named = markdown_tables(text)
    for anchor, title in (("failures", "Cells without a value"), ("provenance", "Provenance")):
        named[anchor] = named.pop(title, [])
    return page_data(html), page_tables(html), named, text.replace("\\", "")


def check(report: tuple[dict[str, Any], dict[str, Grid], dict[str, Grid], str]) -> None:
    """Compare everything above with what is shown.

    Raises:
        AssertionError: names what differs.
    """
    data, html, text, words = report
    check_points(data)
    check_charts(data)
    for tables in (html, text):
        check_tables(tables)
    check_every_number(data)
    for sentence in ANSWER:
        assert sentence in words, sentence


def check_points(data: Mapping[str, Any]) -> None:
    keys = {"position": "positions", "wavelengths": "pair"}
    for picture, which, field, expected in POINTS:
        points = data["charts"][picture]["datasets"]["points"]
        if picture == "sensitivity":
            found = [p for p in points if p["step"] == which[0]]
        else:
            names = ("configuration", keys.get(picture, "length"), "depths")[: len(which)]
            found = [p for p in points if tuple(p[name] for name in names) == which]
        assert len(found) == 1, (picture, which)
        same(found[0][field], expected, (picture, which, field))


def check_charts(data: Mapping[str, Any]) -> None:
    for picture, expected in LAYERS.items():
        assert layers(data["charts"][picture]) == expected, picture
    for picture, titles in AXES.items():
        encoding = data["charts"][picture]["layer"][-1]["encoding"]
        assert (encoding["x"]["title"], encoding["y"]["title"]) == titles, picture
        assert not any(encoding[channel].get("scale", {}).get("reverse") for channel in ("x", "y")), picture


def check_tables(tables: Mapping[str, Grid]) -> None:
    for title, key, column, expected in TEXTS:
        rows = [row for row in tables[title] if key.items() <= row.items()]
        assert len(rows) == 1, (title, key, len(rows))
        assert rows[0][column] == expected, (title, key, column, rows[0][column])
    for title, size in SIZES.items():
        assert len(tables[title]) == size, (title, len(tables[title]))
    assert [row["method"] for row in tables[METHODS]] == ["yarn", "linear", "none"]


def check_every_number(data: Mapping[str, Any]) -> None:
    table = data["table"]
    names = [column["name"] for column in table["columns"]]
    assert len(table["rows"]) == 53
    for label, length, metric, column, expected in EVERY_NUMBER:
        (row,) = [r for r in table["rows"] if r[:3] == [label, length, metric]]
        same(row[names.index(column)], expected, (label, length, metric, column))


def same(value: Any, expected: Any, where: object) -> None:
    """Equal; numbers to the six digits that a page holds."""
    if isinstance(expected, float):
        assert isinstance(value, float) and math.isclose(value, expected, rel_tol=6e-6), (where, value, expected)  # noqa: PT018
    else:
        assert value == expected, (where, value, expected)
