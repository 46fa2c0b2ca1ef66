"""Where Vega puts what: on every chart of the golden report, up, down, left and right mean what the numbers mean."""

from itertools import combinations
from statistics import fmean

import pytest
import vl_convert
from golden import CURVE, HALF, LOG2, NONE, ROTATIONS, WHOLE, YARN, golden

from ropewalk.report.content import content
from ropewalk.report.write import drawings

LEADING = (WHOLE, YARN)


@pytest.fixture(scope="module")
def drawn():
    """Marks of each chart: kind, what it says of itself, absolute pixels, the item."""
    specs = drawings(content(golden()))
    return {name: list(_marks(vl_convert.vegalite_to_scenegraph(spec)["scenegraph"])) for name, spec in specs.items()}


def _marks(node, left=0.0, top=0.0):
    for item in node.get("items", []):
        x, y = left + item.get("x", 0), top + item.get("y", 0)
        if node.get("marktype") == "group":
            for child in item.get("items", []):
                yield from _marks(child, x, y)
        elif node.get("role") == "mark":
            yield node["marktype"], item.get("description", ""), x, y, item


def spots(marks, *keys):
    """Pixels of points by the named facts that they tell when pointed at."""
    found = {}
    for kind, says, x, y, _ in marks:
        if kind == "symbol":
            facts = dict(fact.split(": ", 1) for fact in says.split("; "))
            found[tuple(facts[key] for key in keys)] = (x, y)
    return found


def exponent(metric, length, label):
    return fmean(LOG2[metric, length][label])


def ordered(pixels, numbers):
    """Larger numbers have larger pixels, equal ones equal ones."""
    for one, other in combinations(numbers, 2):
        apart = pixels[one] - pixels[other]
        assert (apart > 0) == (numbers[one] > numbers[other]), (one, other)
        assert (apart < 0) == (numbers[one] < numbers[other]), (one, other)


def rules(marks, field):
    return [(x, y, item) for kind, says, x, y, item in marks if kind == "rule" and field in says]


def test_above_the_line_is_worse_than_none(drawn):
    found = spots(drawn["ratio"], "configuration", "length")
    against = {
        (label, f"{length:,}"): exponent("perplexity", length, label) - exponent("perplexity", length, NONE)
        for length in (1024, 2048, 4096)
        for label in (HALF, WHOLE, YARN)
    }
    ((_, line, _),) = rules(drawn["ratio"], "log_ratio: 0")
    ordered({key: -y for key, (_, y) in found.items()} | {"line": -line}, against | {"line": 0.0})
    ordered({key: x for key, (x, _) in found.items()}, {key: int(key[1].replace(",", "")) for key in found})


def test_bands_lie_around_the_leading_lines(drawn):
    found = spots(drawn["ratio"], "configuration", "length")
    band = [(x, y, y + item["height"]) for kind, _, x, y, item in drawn["ratio"] if kind == "area"]
    assert len(band) == 6
    for label in LEADING:
        for length in ("1,024", "2,048", "4,096"):
            x, y = found[label, length]
            assert any(px == pytest.approx(x) and min(a, b) < y < max(a, b) for px, a, b in band), (label, length)


def test_above_the_line_is_worse_than_dropping_the_context(drawn):
    found = spots(drawn["tail"], "configuration")
    values = {(label,): exponent("tail", 4096, label) for label in (NONE, HALF, WHOLE, YARN)}
    ((_, line, _),) = rules(drawn["tail"], "log_ratio: 0")
    dropping = exponent("tail", 4096, "truncate")
    ordered({key: -y for key, (_, y) in found.items()} | {"line": -line}, values | {"line": dropping})
    whiskers = rules(drawn["tail"], "log_low")
    assert len(whiskers) == 3
    for x, y in (found[label,] for label in (NONE, *LEADING)):
        ((_, low, item),) = [rule for rule in whiskers if rule[0] == pytest.approx(x)]
        assert item["y2"] < y < low


def test_higher_is_a_larger_loss_and_right_is_later(drawn):
    found = spots(drawn["position"], "configuration", "positions")
    places = {(64, 257): "64 to 256", (900, 2501): "900 to 2,500", (4000, 4001): "4,000"}
    losses = {
        (label, places[low, high]): nll
        for label, low, high, nll in CURVE
        if (low, high) in places and label != HALF  # drawn as a line alone
    }
    ordered({key: -y for key, (_, y) in found.items()}, losses)
    late = dict(zip(places.values(), range(3), strict=True))
    ordered({key: x for key, (x, _) in found.items()}, {key: late[key[1]] for key in found})


def test_right_costs_more_and_higher_is_worse(drawn):
    found = spots(drawn["pareto"], "configuration")
    ordered({key: x for key, (x, _) in found.items()}, {(NONE,): 0, (HALF,): 1, (YARN,): 2, (WHOLE,): 3})
    values = {(label,): exponent("tail", 4096, label) for label in (NONE, HALF, WHOLE, YARN)}
    ((_, line, _),) = rules(drawn["pareto"], "value: 19.")
    dropping = exponent("tail", 4096, "truncate")
    ordered({key: -y for key, (_, y) in found.items()} | {"line": -line}, values | {"line": dropping})
    joined = [(x, y) for kind, _, x, y, _ in drawn["pareto"] if kind == "line"]
    assert joined == [pytest.approx(found[label,]) for label in (NONE, HALF, YARN)]


def test_left_of_the_line_is_better(drawn):
    ((x, _),) = spots(drawn["sensitivity"], "from").values()
    ((line, _, _),) = rules(drawn["sensitivity"], "log_ratio: 0")
    ((end, _, item),) = rules(drawn["sensitivity"], "log_low")
    assert x < line  # 4.625 after 4.75
    assert min(end, item["x2"]) < x < max(end, item["x2"])


def test_higher_is_more_stretched_and_right_is_slower(drawn):
    found = spots(drawn["wavelengths"], "configuration", "pair")
    stretch = {
        (label, str(pair)): (1.0, 0.01)[pair] / ROTATIONS[label][0][pair]
        for label in (NONE, *LEADING)
        for pair in (0, 1)
    }
    ordered({key: -y for key, (_, y) in found.items()}, stretch)
    ordered({key: x for key, (x, _) in found.items()}, {key: int(key[1]) for key in found})


def test_lighter_cells_are_found_passkeys_and_the_beginning_is_on_top(drawn):
    cells = {}
    for kind, says, _, y, item in drawn["retrieval"]:
        if kind == "rect":
            facts = dict(fact.split(": ", 1) for fact in says.split("; "))
            cells[facts["configuration"], facts["length"], facts["depths"]] = (y, item["fill"])
    none, some, both = (
        _light(cells[key][1])
        for key in ((NONE, "4096", "0–50 %"), (WHOLE, "4096", "50–100 %"), (WHOLE, "4096", "0–50 %"))
    )
    assert none < some < both
    assert cells[WHOLE, "4096", "0–50 %"][0] < cells[WHOLE, "4096", "50–100 %"][0]
    said = [item["text"] for kind, _, _, _, item in drawn["retrieval"] if kind == "text"]
    assert sorted(said) == ["0/4"] * 2 + ["2/4"] + ["4/4"] * 15


def _light(fill):
    """Sum of the channels of `rgb(1, 2, 3)`."""
    return sum(int(x) for x in fill.removeprefix("rgb(").removesuffix(")").split(","))
