"""search.html in a real browser, opened from disk with the network off. Screenshots go to $ROPEWALK_SCREENSHOTS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import browser
import pytest

from ropewalk.report.palette import BACKGROUND
from ropewalk.searching.lines import facts, headline
from ropewalk.searching.run import Found

pytestmark = pytest.mark.skipif(
    browser.PROGRAM is None and not os.environ.get("CI"), reason="needs chromium (apt-get install chromium)"
)
DRAWN = """[...document.querySelectorAll('[data-chart]')].map(place =>
    [place.querySelectorAll('.mark-symbol path').length, place.querySelector('svg')?.clientWidth ?? 0])"""
TOP = """(() => {
    const lines = [...document.querySelectorAll('[data-chart="0"] .mark-line path')].map(p => p.getAttribute('stroke'));
    return lines[lines.length - 1]; })()"""
PAPER = "getComputedStyle(document.body).backgroundColor"
TEXTS = "document.querySelector('main').innerText.replace(/\\u00a0/g, ' ')"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with browser.browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    return Path(os.environ.get("ROPEWALK_SCREENSHOTS") or tmp_path)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_both_charts_are_drawn_everywhere(tab: Any, two: Found, shots: Path, width: int, dark: bool) -> None:
    page = two.directory / "search.html"
    tab.open(page, width, dark=dark)
    tab.screenshot(shots / f"search-{width}-{'dark' if dark else 'light'}.png")
    for marks, drawn in tab.evaluate(DRAWN):
        assert marks > 40
        assert 0 < drawn <= width
    assert tab.evaluate("document.documentElement.scrollWidth") <= width  # nothing reaches over the edge
    paper = "#{:02x}{:02x}{:02x}".format(*map(int, tab.evaluate(PAPER)[4:-1].split(",")))
    assert paper == BACKGROUND["dark" if dark else "light"]
    assert tab.errors == []
    assert all(url.startswith(("file:", "data:")) for url in tab.requests)


def test_it_says_what_search_md_says(tab: Any, two: Found) -> None:
    tab.open(two.directory / "search.html")
    text = tab.evaluate(TEXTS)
    for sentence in (headline(two.result), *facts(two.result)):
        assert sentence in text
    assert "searched seed 4" in text


def test_the_searched_curve_lies_on_top_and_a_key_hides_it(tab: Any, two: Found) -> None:
    tab.open(two.directory / "search.html")
    place = tab.evaluate("JSON.parse(document.getElementById('data').textContent).methods.indexOf('searched')")
    assert tab.evaluate(TOP) == f"var(--method-{place})"
    before = tab.evaluate(DRAWN)
    tab.evaluate("document.querySelector('.key[data-method=searched]').click()")
    after = tab.evaluate(f"new Promise(done => setTimeout(() => done({DRAWN}), 300))")
    assert before[0][0] - after[0][0] == len(two.rotation.inv_freq)
    assert after[1][0] < before[1][0]


def test_hovering_a_candidate_says_what_it_cost(tab: Any, two: Found) -> None:
    tab.open(two.directory / "search.html")
    spot = tab.evaluate(
        "(() => { const marks = document.querySelectorAll('[data-chart=\"1\"] .mark-symbol path');"
        "const mark = marks[marks.length - 1]; mark.scrollIntoView({block: 'center', behavior: 'instant'});"
        "const box = mark.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=spot[0], y=spot[1])
    tip = tab.evaluate(
        "new Promise(done => setTimeout(() => done(document.getElementById('vg-tooltip-element')?.innerText), 300))"
    )
    assert "cost at short lengths" in tip
    assert "perplexity beyond the window" in tip
