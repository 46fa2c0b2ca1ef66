"""One study whose numbers are chosen by hand, and a reader of what a report shows of it.

Perplexities are powers of two: a table below holds their exponents, one per document, so that every pooled perplexity
is 2 to the mean of four numbers and every ratio 2 to a difference of means. No number here comes from ropewalk.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from statistics import fmean, stdev
from typing import Any

import pandas as pd
from studies import Frames

from ropewalk.report.study import Study

T3 = 3.182446305284263
"""97.5 % quantile of Student's t with 3 degrees of freedom (any table of t: 3.182)."""
Z = 1.959963984540054
WINDOW = 2048
NONE, HALF, WHOLE, YARN, DROP = "none", "linear factor=2", "linear factor=4", "yarn factor=4", "truncate"
"""HALF and WHOLE are one method's two configurations; the names say how far they stretch to 4096."""
PARAMS: Mapping[str, Mapping[str, Any]] = {
    NONE: {},
    HALF: {"factor": 2.0},
    WHOLE: {"factor": 4.0},
    YARN: {"factor": 4.0},
    DROP: {},
}
Exponents = Mapping[tuple[str, int], Mapping[str, Sequence[float]]]
E = 1 / 64


def around(middle: float, *apart: float) -> tuple[float, ...]:
    """Two easy and two hard documents, half below and half above the middle, and what sets this configuration apart."""
    return tuple(middle + side + (apart[i] if apart else 0) for i, side in enumerate((-0.5, 0.5, -0.5, 0.5)))


UP, SIDE, CROSS = (E, E, -E, -E), (E, -E, -E, E), (E, -E, E, -E)
LOG2: Exponents = {
    ("perplexity", 1024): {
        NONE: around(4), HALF: around(4.0625, *UP), WHOLE: around(4.25, *SIDE), YARN: around(4.125, *CROSS)},
    ("perplexity", 2048): {
        NONE: around(3.5), HALF: around(3.53125, *UP), WHOLE: around(4, *SIDE), YARN: around(3.5625, *CROSS)},
    ("perplexity", 4096): {
        NONE: around(6.5), HALF: around(5, *UP), WHOLE: around(4, *SIDE), YARN: around(3.75, *CROSS)},
    ("tail", 1024): {
        NONE: around(5), HALF: around(5.125, *UP), WHOLE: around(5.25, *SIDE), YARN: around(5.0625, *CROSS)},
    ("tail", 2048): {
        NONE: around(4.5), HALF: around(4.5625, *UP), WHOLE: around(5, *SIDE), YARN: around(4.53125, *CROSS)},
    # Half the better of its method on documents 1 and 3, Whole on 2 and 4: choosing on halves costs.
    ("tail", 4096): {
        NONE: around(8.5), HALF: around(4.5, 0.125, 0.375, 0.125, 0.375), WHOLE: around(4.5, 0.25, 0, 0.25, 0),
        YARN: around(4, *UP), DROP: around(4.25, *SIDE)},
    ("longppl", 4096): {
        NONE: around(3), HALF: around(4, *UP), WHOLE: around(5, *SIDE), YARN: around(6, *CROSS)},
}  # fmt: skip
FOUND = {
    (1024, NONE): 8, (1024, HALF): 8, (1024, WHOLE): 8, (1024, YARN): 8,
    (2048, NONE): 8, (2048, HALF): 6, (2048, WHOLE): 8, (2048, YARN): 8,
    (4096, NONE): 0, (4096, HALF): 2, (4096, WHOLE): 6, (4096, YARN): 8,
}  # fmt: skip
"""Passkeys found of 8, those nearest to the beginning first."""
TRIALS = 8
TOKENS = {"perplexity": 128, "tail": 64, "longppl": 32}
FAILED = ("bits_per_byte", 4096, YARN)
CURVE = (
    (NONE, 1, 2, 9.0), (NONE, 64, 257, 3.0), (NONE, 900, 2501, 5.0), (NONE, 4000, 4001, 8.0),
    (HALF, 1, 2, 9.5), (HALF, 64, 257, 3.25), (HALF, 900, 2501, 3.5), (HALF, 4000, 4001, 4.5),
    (WHOLE, 1, 2, 9.75), (WHOLE, 64, 257, 3.5), (WHOLE, 900, 2501, 3.25), (WHOLE, 4000, 4001, 2.5),
    (YARN, 1, 2, 9.25), (YARN, 64, 257, 3.125), (YARN, 900, 2501, 3.0), (YARN, 4000, 4001, 2.25),
)  # fmt: skip
"""Label, first token, one past the last, nats."""
ROTATIONS = {
    NONE: ((1.0, 0.01), 1.0),
    HALF: ((0.5, 0.005), 1.0),
    WHOLE: ((0.25, 0.0025), 1.0),
    YARN: ((1.0, 0.0025), 1.125),
}
"""inv_freq of the two pairs of a head of four dimensions at theta 10,000, unscaled 1 and 0.01."""


def t_ends(values: Sequence[float]) -> tuple[float, float]:
    """Ends of the 95 % t interval of the mean of four values."""
    reach = T3 * stdev(values) / 2
    return fmean(values) - reach, fmean(values) + reach


def wilson_ends(found: int) -> tuple[float, float]:
    """Ends of Wilson's 95 % interval of a share of 8."""
    p, z2 = found / TRIALS, Z * Z / TRIALS
    middle, reach = p + z2 / 2, Z * math.sqrt(p * (1 - p) / TRIALS + z2 / TRIALS / 4)
    return (middle - reach) / (1 + z2), (middle + reach) / (1 + z2)


def golden(changes: Exponents | None = None, *, found: Mapping[tuple[int, str], int] | None = None) -> Study:
    """The study; `changes` and `found` replace single cells."""
    cells = {key: dict(values) | dict((changes or {}).get(key, {})) for key, values in LOG2.items()}
    rows: list[tuple[Any, ...]] = []
    samples: list[tuple[Any, ...]] = []
    for (metric, length), own in cells.items():
        for label, exponents in own.items():
            low, high = (2**end for end in t_ends(exponents))
            rows.append((label, length, metric, 2 ** fmean(exponents), low, high, 4))
            tokens = TOKENS[metric]
            samples += [
                (label, length, metric, f"text-{i}", x * math.log(2) * tokens, tokens, math.nan)
                for i, x in enumerate(exponents)
            ]
            if metric == "perplexity":  # a token is four bytes
                low, high = t_ends([x / 4 for x in exponents])
                rows.append((label, length, "bits_per_byte", fmean(exponents) / 4, low, high, 4))
                samples += [
                    (label, length, "bits_per_byte", f"text-{i}", x * tokens, 4 * tokens, math.nan)
                    for i, x in enumerate(exponents)
                ]
    for (length, label), count in (FOUND | dict(found or {})).items():
        rows.append((label, length, "passkey", count / TRIALS, *wilson_ends(count), TRIALS))
        samples += [(label, length, "passkey", str(i), float(i < count), 1, i / (TRIALS - 1)) for i in range(TRIALS)]
    return Frames(
        frame=pd.DataFrame([_row(*row) for row in rows]),
        samples=pd.DataFrame(
            samples, columns=["label", "length", "metric", "unit", "numerator", "denominator", "depth"]
        ),
        curve=pd.DataFrame(
            [(label, 4096, low, high, nll, 4) for label, low, high, nll in CURVE],
            columns=["label", "length", "position_low", "position_high", "nll", "n"],
        ),
        meta=_META,
        rotations=dict(ROTATIONS),
    ).study()


def _row(label: str, length: int, metric: str, value: float, low: float, high: float, n: int) -> dict[str, Any]:
    row = {"label": label, "method": label.split()[0], "asked": PARAMS[label], "length": length, "metric": metric}
    row |= {"resolved": PARAMS[label], "fingerprint": label, "n": n, "status": "ok", "reason": None}
    if (metric, length, label) == FAILED:
        return row | {
            "value": None,
            "ci_low": None,
            "ci_high": None,
            "n": 0,
            "status": "out_of_memory",
            "reason": "4096 did not fit",
        }
    return row | {"value": value, "ci_low": low, "ci_high": high}


_META: dict[str, Any] = {
    "model": {
        "id": "org/model", "parameters": 135_000_000, "dtype": "float32", "device": "cpu", "chat_template": False,
    },
    "geometry": {
        "rotary_dim": 4, "rope_theta": 10000.0, "rope_type": "default", "window": WINDOW,
        "window_source": "max_position_embeddings", "max_position_embeddings": WINDOW,
    },
    "experiment": {"model": "org/model", "documents": {"corpus": "builtin"}, "lengths": [1024, 2048, 4096], "seed": 7},
    "identity": {"exact": False},
    "versions": {"python": "3.11", "torch": "2.13"},
    "started": "2026-01-02T03:04:05+00:00",
    "wall_s": 4321.0,
    "attention": "ropewalk",
    "documents": [
        {"id": f"text-{i}", "title": f"Text {i}", "kind": "novel", "sha256": f"{i:064d}", "tokens": 40_000 + i}
        for i in range(4)
    ],
}  # fmt: skip

Grid = list[dict[str, str]]


def page_data(html: str) -> dict[str, Any]:
    """The JSON that a page's script draws from."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1])


def page_tables(html: str) -> dict[str, Grid]:
    """Tables of a page by title (by section's anchor where they have none), each a list of rows by column."""
    reader = _Tables()
    reader.feed(re.sub(r"<(script|style).*?</\1>", "", html, flags=re.S))
    return reader.tables


def markdown_tables(text: str) -> dict[str, Grid]:
    """Tables of report.md by the heading above them."""
    tables: dict[str, Grid] = {}
    title, lines = "", text.splitlines()
    for i, line in enumerate(lines):
        if found := re.match(r"#+ (.*)|<details><summary>(.*) \(", line):
            title = found[1] or found[2]
        if line.startswith("| ") and not lines[i - 1].startswith("| "):
            end = next((j for j in range(i, len(lines)) if not lines[j].startswith("| ")), len(lines))
            head, _, *rows = ([_unescaped(c) for c in re.split(r"(?<!\\)\|", x)[1:-1]] for x in lines[i:end])
            tables[title] = [dict(zip(head, row, strict=True)) for row in rows]
    return tables


def _unescaped(text: str) -> str:
    text = re.sub(r"\\(.)", r"\1", text.strip())
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


class _Tables(HTMLParser):
    """Collects tables under the last title that was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, Grid] = {}
        self.title, self.text, self.head, self.row = "", "", list[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("h3", "summary", "th", "td"):
            self.text = ""
        elif tag == "section":
            self.title = dict(attrs).get("id") or ""
        elif tag == "table":
            self.head = []
        elif tag == "tr":
            self.row = []

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        text = self.text.replace("\u00a0", " ").strip()
        if tag in ("h3", "summary"):
            self.title = re.sub(r" \(\d+ rows\)$", "", text)
        elif tag == "th":
            self.head.append(text)
        elif tag == "td":
            self.row.append(text)
        elif tag == "tr" and self.row:
            self.tables.setdefault(self.title, []).append(dict(zip(self.head, self.row, strict=True)))


def layers(chart: Mapping[str, Any]) -> list[str]:
    """What each layer of a chart draws: mark, channels with field and scale, points that it is given.

    `line x=length~log y=log_ratio~symlog of datum.leads`; `log_NAME` is checked to be the logarithm of NAME.
    """
    return [_layer(layer) for layer in chart["layer"]]


def _layer(layer: Mapping[str, Any]) -> str:
    channels = [
        f"{name}={channel['field']}{'~' + kind if (kind := (channel.get('scale') or {}).get('type')) else ''}"
        for name, channel in sorted(layer["encoding"].items())
        if name in ("x", "x2", "y", "y2", "text", "order", "detail") and "field" in channel
    ]
    channels += [
        f"color={c['field']}" for c in [layer["encoding"].get("color", {})] if c.get("field") not in (None, "method")
    ]
    steps = layer.get("transform") or []
    for step in steps:
        if "calculate" in step:
            name = step["as"].removeprefix("log_")
            assert step == {"calculate": f"isValid(datum.{name}) ? log(datum.{name}) : null", "as": f"log_{name}"}
    given = [step["filter"] for step in steps if "filter" in step and "shown" not in step["filter"]]
    own = (layer.get("data") or {}).get("values")
    given += [", ".join(f"{key} {value}" for key, value in row.items()) for row in own or ()]
    return " ".join([layer["mark"]["type"], *channels]) + (f" of {'; '.join(given)}" if given else "")
