"""Runs that are odd, poor or broken: a page and a sentence, never a traceback, never an invented interval."""

import json
import math
import re

import pytest
from studies import Frames, failed, frames

from ropewalk.experiment.missing import Missing
from ropewalk.report import points
from ropewalk.report.content import content
from ropewalk.report.markdown import markdown, plain
from ropewalk.report.page import page

YARN = {"yarn": {"factor": [2, 4]}}
NASTY = [
    "<script>alert(1)</script>",
    "</script><!-- <img src=x onerror=alert(1)>",
    "a\"b'c`d|e*f_g\\h",
    "emoji 🪢 ropé",
    "שלום ‮right to left",
    "{{ 7 * 7 }}{% raw %}",
    "line\nbreak\u2028and\ttab",
    "x" * 300,
]


def texts(found: Frames) -> tuple[str, str]:
    made = content(found.study())
    return page(made), markdown(made, ["report.md"])


def data_of(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1])


def missing_in(html: str) -> list[str]:
    return re.findall(r'<p class="missing">(.*?)</p>', html.split("<noscript>")[0])


def test_one_document_shows_no_interval_anywhere():
    html, text = texts(frames(YARN, documents=1))
    rows = data_of(html)["table"]["rows"]
    assert all(row[4] is None and row[5] is None for row in rows if row[2] != "passkey")
    charts = data_of(html)["charts"]
    for name in ("ratio", "tail", "sensitivity"):
        assert all(p["low"] is None and p["high"] is None for p in charts[name]["datasets"]["points"])
    assert "One document was measured" in text
    assert "not held out" in text


def test_one_length_beyond_the_window():
    html, text = texts(frames(YARN, (4096,)))
    assert set(data_of(html)["charts"]) >= {"ratio", "tail", "position"}
    assert "no length inside the window (2048 tokens) and below 4096 was measured" in html
    assert "no length inside the window" in text


def test_every_length_inside_the_window():
    html, _ = texts(frames(YARN, (512, 1024)))
    assert any("no length lies beyond the window of 2,048 tokens" in reason for reason in missing_in(html))
    assert "this grid extends nothing" in html


def test_only_none():
    html, text = texts(frames(["none"], (1024, 4096)))
    assert "no configuration beside none has a perplexity to compare" in html
    assert "no method has two configurations that differ in one parameter alone" in text


def test_every_cell_failed():
    found = frames(YARN, (1024, 4096), spoil=lambda cell: failed("error", "CUDA <error> & co"))
    html, text = texts(found)
    assert "There is no answer yet." in html
    assert "CUDA &lt;error&gt; &amp; co" in html
    assert data_of(html)["charts"].keys() <= {"position"}
    assert all(row[3] is None for row in data_of(html)["table"]["rows"])
    assert "There is none: length 1024: no configuration has a value" in text


def test_nothing_is_measured_yet():
    found = frames(YARN)
    found.frame, found.samples, found.curve = found.frame.iloc[:0], found.samples.iloc[:0], found.curve.iloc[:0]
    made = content(found.study(missing=Missing(cells=12, asked=12, remedy="run it again.")))
    html = page(made)
    assert "12 of 12 cells are not measured yet; run it again." in html
    assert "no cell is finished" in html
    assert "no cell is finished" in markdown(made, [])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_losses_that_are_no_numbers_take_part_in_nothing(value):
    found = frames(YARN, (1024, 4096))
    bad = found.samples[(found.samples["label"] == "yarn factor=4") & (found.samples["metric"] != "passkey")].index
    found.samples.loc[bad, "numerator"] = value
    rows = (found.frame["label"] == "yarn factor=4") & (found.frame["metric"] != "passkey")
    found.frame.loc[rows, ["value", "ci_low", "ci_high"]] = value
    html, text = texts(found)
    drawn = json.dumps(data_of(html)["charts"]["ratio"])
    assert "yarn factor=2" in drawn
    assert "yarn factor=4" not in drawn
    assert "take no part in comparisons" in text
    assert "NaN" not in json.dumps(data_of(html))


def test_losses_beyond_any_float_are_said_to_be_infinite():
    found = frames({"linear": {"factor": [2, 4]}}, (1024, 4096))
    bad = (found.samples["label"] == "linear factor=4") & (found.samples["metric"] == "perplexity")
    found.samples.loc[bad, "numerator"] *= 1000
    html, _ = texts(found)
    assert "linear factor=4" not in json.dumps(data_of(html)["charts"]["ratio"])
    assert data_of(html)["charts"]["ratio"]["datasets"]["points"]


def test_only_passkey():
    html, text = texts(frames(YARN, metrics={"passkey": {"trials": 20}}))
    assert any("perplexity was not measured" in reason for reason in missing_in(html))
    assert "passkey" in text


def test_only_perplexity():
    html, _ = texts(frames(YARN, metrics={"perplexity": {}}))
    assert any("nothing asks what is found" in reason for reason in missing_in(html))


def test_too_few_key_tokens_is_shown_with_its_reason():
    spoil = lambda cell: failed("too_few_key_tokens", "3 key tokens") if cell.metric == "longppl" else None  # noqa: E731
    html, text = texts(frames(YARN, (1024, 4096), spoil=spoil))
    assert "too_few_key_tokens: 3 key tokens" in html
    assert "| too few key tokens | 3 key tokens |" in text


@pytest.mark.parametrize("name", NASTY)
def test_names_are_text_and_never_markup(name):
    found = frames(YARN, (1024, 4096), model={"id": f"model {name}"}).renamed("yarn", name)
    found.meta["documents"][0]["title"] = name
    found.frame["reason"] = name
    html, text = texts(found)
    rows = data_of(html)["table"]["rows"]
    assert any(row[-1] == name for row in rows)
    markup = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert "<script" not in markup
    assert "<img" not in markup
    assert "onerror=alert(1)>" not in markup
    assert html.count("<script") == 3
    prose = re.sub(r"^(```+)$.*?^\1$", "", text, flags=re.S | re.M)
    assert "<script" not in prose
    assert not re.search(r"(?<!\\)\|", plain(name))
    for line in prose.splitlines():
        if line.startswith("| "):
            assert line.endswith(" |")
    assert "\u2028" not in prose


def test_ten_thousand_cells_make_a_page():
    lengths = [2048 * i for i in range(1, 11)]
    grid = {"yarn": {"factor": [1 + i / 100 for i in range(1, 340)]}}
    found = frames(grid, lengths, documents=3, metrics={"perplexity": {}})
    html, _ = texts(found)
    assert len(data_of(html)["table"]["rows"]) > 10_000
    drawn = {p["configuration"] for p in data_of(html)["charts"]["position"]["datasets"]["points"]}
    assert len(drawn) <= points.MOST_LINES
    assert len(html) < 9_000_000
