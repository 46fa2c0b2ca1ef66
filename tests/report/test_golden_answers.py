"""What is answered about studies, beside their reports, kept as a file: recommendations, comparisons, suites, stories,
and every finding with its evidence.

`python tests/report/test_golden_answers.py` writes it again; read what changed before you commit it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from golden import DROP, HALF, NONE, WHOLE, YARN, around, golden
from studies import study

from ropewalk.errors import RopewalkError
from ropewalk.report import joint, printing
from ropewalk.report.compare import compare
from ropewalk.report.content import content
from ropewalk.report.markdown import markdown, render
from ropewalk.report.page import page
from ropewalk.report.recommend import recommend
from ropewalk.report.story import bars, story
from ropewalk.report.study import Study
from ropewalk.stats.findings import findings

KEPT = Path(__file__).parent / "golden_files" / "answers.txt"
E = 1 / 64
TASKS = {"perplexity": {}, "tasks": {"samples": 4, "tasks": ["single_noise", "multikey", "tracking"]}}
METHODS = {
    "yarn": {"factor": [2, 4]},
    "linear": {"factor": 4},
    "self_extend": {"neighbor_window": 512, "group_size": 8},
}


def studied() -> dict[str, Study]:
    """By hand with cells changed, and drawn with all kinds of metrics."""
    other = golden({("tail", 4096): {YARN: around(4.5, E, E, -E, -E), DROP: around(4)}}, found={(4096, YARN): 3})
    level = golden({("tail", 4096): {HALF: around(4), WHOLE: around(4, E, -E, E, -E)}}, found={(2048, NONE): 0})
    short = golden({("perplexity", 1024): {YARN: around(5), HALF: around(3.75)}})
    return {
        "golden": golden(),
        "other": other,
        "level": level,
        "short": short,
        "drawn": study(METHODS, documents=3),
        "shifted": study(METHODS, documents=3, shift=0.05, seed=1),
        "tasks": study(METHODS, (1024, 2048, 4096), documents=3, metrics=TASKS),
    }


def said() -> list[str]:
    """The lines of the file."""
    all_of = studied()
    hand = {name: all_of[name] for name in ("golden", "other", "tasks")}
    found = [
        "# a suite",
        *joint.text("suite: 3 models", joint.tables(hand), {"third|one": "is not here."}).splitlines(),
    ]
    for name, each in all_of.items():
        found += [f"# {name}: story", *story(each), *render(bars(each)).splitlines(), f"# {name}: findings"]
        found += [f"{x.severity} {x.kind}: {x.sentence} {_json(x.evidence)}" for x in findings(each.run)]
        found += [line for target in (1024, 4096, 8192) for line in _recommended(name, each, target)]
    for a, b in (
        ("golden", "other"),
        ("golden", "golden"),
        ("drawn", "shifted"),
        ("drawn", "tasks"),
        ("level", "short"),
    ):
        found += [f"# {a} and {b}", *_compared(all_of[a], all_of[b])]
    found += ["# tasks: report", *markdown(content(all_of["tasks"]), ["report.html"]).splitlines()]
    return [*found, *(line for name in ("tasks", "drawn") for line in [f"# {name}: page", *_page(all_of[name])])]


def _page(study: Study) -> Iterator[str]:
    """A page's text and tags, without scripts, styles, pictures and rows of more than the first table cells."""
    html = re.sub(r"<(script|style|svg)\b.*?</\1>", "", page(content(study)), flags=re.S)
    html = re.sub(r"<tbody\b.*?</tbody>", "", html, flags=re.S)  # tables are in the Markdown
    yield from (line.strip() for line in html.splitlines() if line.strip())


def _recommended(name: str, each: Study, target: int) -> Iterator[str]:
    for asked in ({}, {"by": "perplexity"}, {"by": "passkey"}, {"bound_percent": 5.0}, {"min_found": 0.8}):
        yield f"# {name}: recommend {target} {asked}"
        try:
            answer = recommend(each.run, target, **asked)
        except RopewalkError as error:
            yield f"refused: {error}"
            continue
        yield from printing.recommendation_lines(answer, "COMMAND", "MISSING.", ["SETTLING"])
        if name in ("golden", "tasks") and target == 4096:
            yield _json(printing.recommendation_json(answer, None, 3))


def _compared(a: Study, b: Study) -> Iterator[str]:
    try:
        found = compare(a, b)
    except RopewalkError as error:
        yield f"refused: {error}"
        return
    yield from printing.compared_lines(found)
    yield from render(printing.compared_table(found)).splitlines()
    if len(found.contrasts) < 50:
        yield _json(printing.compared_json(found))


def _json(value: Any) -> str:
    return json.dumps(_rounded(value), ensure_ascii=False, default=float)


def _rounded(value: Any) -> Any:
    """Floats at six digits, so that the last ones of another machine's logarithm make no difference."""
    if isinstance(value, dict):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float | np.floating) else value


def test_nothing_else_changed() -> None:
    assert "\n".join(said()).splitlines() == KEPT.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    KEPT.write_text("\n".join(said()) + "\n", encoding="utf-8")
