"""The page in a real browser, opened from disk with the network off. Screenshots go to $ROPEWALK_SCREENSHOTS."""

import os
from pathlib import Path

import browser
import pytest
from studies import frames

from ropewalk.report.content import content
from ropewalk.report.page import page

pytestmark = pytest.mark.skipif(
    browser.PROGRAM is None and not os.environ.get("CI"), reason="needs chromium (apt-get install chromium)"
)
NAME = "</script><b>bold"
MARKS = """() => [...document.querySelectorAll('[data-chart]')].map(place => [
    place.dataset.chart,
    place.querySelectorAll('.mark-symbol path, .mark-rect path').length,
    place.querySelector('svg')?.clientWidth ?? 0])"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The grid of 172 with one method under a hostile name."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(content(frames().renamed("longrope", NAME).study())), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def shots(tmp_path) -> Path:
    return Path(os.environ.get("ROPEWALK_SCREENSHOTS") or tmp_path)


@pytest.mark.parametrize(
    ("name", "width", "dark", "media"),
    [("wide", 1440, False, "screen"), ("dark", 1440, True, "screen"), ("narrow", 390, False, "screen"),
     ("narrow-dark", 390, True, "screen"), ("print", 800, True, "print")],
)  # fmt: skip
def test_every_chart_is_drawn_everywhere(tab, report, shots, name, width, dark, media):
    tab.errors.clear()
    tab.requests.clear()
    tab.open(report, width, dark=dark, media=media)
    tab.screenshot(shots / f"report-{name}.png")
    marks = tab.evaluate(f"({MARKS})()")
    assert len(marks) >= 13
    for chart, count, drawn_width in marks:
        assert count >= 4, chart
        assert 0 < drawn_width <= width, chart
    if media == "screen":
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, "nothing hangs over the side"
    assert tab.errors == []
    assert all(url.startswith(("file:", "data:")) for url in tab.requests)


def test_colours_follow_the_system_the_button_and_paper(tab, report):
    paper = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('[data-chart] .role-axis-label text')).fill"
    tab.open(report, dark=False)
    light = tab.evaluate(paper), tab.evaluate(ink)
    tab.evaluate("document.getElementById('theme').click(); document.getElementById('theme').click()")
    dark = tab.evaluate(paper), tab.evaluate(ink)
    assert dark[0] == "rgb(20, 23, 28)"
    assert light[0] == "rgb(255, 255, 255)"
    assert light[1] != dark[1]
    tab.open(report, dark=True)
    assert (tab.evaluate(paper), tab.evaluate(ink)) == dark
    tab.open(report, dark=True, media="print")
    assert (tab.evaluate(paper), tab.evaluate(ink)) == light


def test_the_table_sorts_and_filters(tab, report):
    tab.open(report)
    column = "[...document.querySelectorAll('#rows tbody tr')].map(row => row.cells[{}].textContent)"
    head = "document.querySelectorAll('#rows th')[3]"
    tab.evaluate(
        "document.querySelector('[name=metric]').value = 'tail'; "
        "document.querySelector('[name=length]').value = '8192'; "
        "document.getElementById('filters').dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert set(tab.evaluate(column.format(2))) == {"tail"}
    assert set(tab.evaluate(column.format(1))) == {"8,192"}
    assert tab.evaluate("document.getElementById('count').textContent") == "45 of 882 rows"
    tab.evaluate(f"{head}.querySelector('button').click()")
    rising = [float(text) for text in tab.evaluate(column.format(3))]
    assert rising == sorted(rising)
    assert len(rising) == 45
    assert tab.evaluate(f"{head}.getAttribute('aria-sort')") == "ascending"
    tab.evaluate(f"{head}.querySelector('button').click()")
    assert [float(text) for text in tab.evaluate(column.format(3))] == rising[::-1]
    assert tab.evaluate(f"{head}.getAttribute('aria-sort')") == "descending"
    tab.evaluate(
        "document.getElementById('filters').reset(); document.querySelector('[name=text]').value = 'YARN 48'; "
        "document.getElementById('filters').dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert all("yarn" in label and "48" in label for label in tab.evaluate(column.format(0)))
    tab.evaluate(
        "document.getElementById('filters').reset(); "
        "document.getElementById('filters').dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert tab.evaluate("document.querySelectorAll('#rows tbody tr').length") == 100
    assert tab.evaluate("document.getElementById('count').textContent") == "882 of 882 rows, the first 100 shown"
    tab.evaluate("document.getElementById('more').click()")
    assert tab.evaluate("document.querySelectorAll('#rows tbody tr').length") == 882


def test_hostile_names_stay_text(tab, report):
    tab.open(report)
    assert tab.evaluate("document.querySelectorAll('main b, .vega-embed b').length") == 0
    assert tab.evaluate("[...document.querySelectorAll('[name=method] option')].map(o => o.value)").count(NAME) == 1


def test_a_key_hides_its_method_in_every_chart(tab, report):
    tab.open(report)
    before = {name: count for name, count, _ in tab.evaluate(f"({MARKS})()")}
    tab.evaluate("document.querySelector('.key[data-method=yarn]').focus()")
    tab.call("Input.dispatchKeyEvent", type="keyDown", key=" ", code="Space", text=" ")
    tab.call("Input.dispatchKeyEvent", type="keyUp", key=" ", code="Space")
    tab.evaluate("new Promise(done => setTimeout(done, 300))")
    after = {name: count for name, count, _ in tab.evaluate(f"({MARKS})()")}
    for name in ("ratio", "tail", "position", "pareto", "sensitivity", "wavelengths"):
        assert 0 < after[name] < before[name], name
    pressed = "[...document.querySelectorAll('.key[data-method=yarn]')].map(k => k.getAttribute('aria-pressed'))"
    assert set(tab.evaluate(pressed)) == {"false"}


def test_the_keyboard_reaches_the_answer_the_keys_and_the_table(tab, report):
    def press(key: str, code: str, text: str = "") -> None:
        tab.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=code, text=text)
        tab.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=code)

    tab.open(report)
    press("Tab", "Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().left >= 0"), "seen once it has the focus"
    reached = set()
    for _ in range(200):
        press("Tab", "Tab")
        reached.add(tab.evaluate("document.activeElement.className || document.activeElement.name || "
                                 "document.activeElement.tagName.toLowerCase()"))  # fmt: skip
    assert reached >= {"a", "copy", "key", "summary", "text", "method", "length", "metric"}
    tab.evaluate("document.querySelector('#rows th button').focus()")
    press("Enter", "Enter", "\r")
    assert tab.evaluate("document.querySelector('#rows th').getAttribute('aria-sort')") == "ascending"
    ring = "getComputedStyle(document.activeElement).outlineStyle"
    assert tab.evaluate(ring) == "solid"


def test_hovering_a_point_shows_its_row(tab, report):
    tab.open(report)
    place = tab.evaluate("""(() => {
        const marks = [...document.querySelectorAll('[data-chart=tail] .mark-symbol path')];
        const box = marks.at(-1).getBoundingClientRect();
        window.scrollTo({top: box.top + scrollY - 300, behavior: 'instant'});
        const now = marks.at(-1).getBoundingClientRect();
        return [now.left + now.width / 2, now.top + now.height / 2];
    })()""")
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    tab.evaluate("new Promise(done => setTimeout(done, 200))")
    shown = tab.evaluate("document.querySelector('#vg-tooltip-element.visible')?.innerText ?? ''")
    assert "configuration" in shown
    assert "change" in shown
    assert "8,192" in shown


def test_print_unfolds_everything(tab, report):
    tab.open(report)
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    assert tab.evaluate("document.querySelectorAll('#rows tbody tr').length") == 882
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("document.querySelectorAll('details[open]').length") == 0
