"""`generate: best`: once the forced answers are there, the best set and `none` answer alone."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest
from runs_for_tests import run

from ropewalk.errors import ExperimentError
from ropewalk.execution.merge import merge
from ropewalk.execution.pace import Stopping
from ropewalk.execution.run import begun, sweep
from ropewalk.execution.shard import Shard
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.results import Run
from ropewalk.experiment.run_data import RunData
from ropewalk.experiment.verify import verify_rows
from ropewalk.report import study
from ropewalk.report.content import content
from ropewalk.report.markdown import markdown
from ropewalk.report.page import page

ASKED = {
    "model": "strand",
    "dtype": "float32",
    "lengths": [512],
    "methods": {"linear": {"factor": 4.0}, "yarn": {"factor": [2.0, 4.0]}},
    "documents": {"corpus": "builtin", "count": 2},
    "metrics": {"tasks": {"tasks": ["single_noise"], "samples": 4, "generate": "best"}},
}
BEST = "yarn factor=4"


class Cut(Exception):
    """The run was cut short."""


def generated(found: Run) -> set[str]:
    frame = found.frame()
    return set(frame[frame["metric"] == "generated"]["label"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("best") / "run"
    run(ASKED, out)
    return out


def test_only_the_best_and_none_are_asked_twice(whole):
    found = Run.open(whole)
    frame = found.frame()
    forced = frame[frame["metric"] == "answer_nll"].set_index("label")["value"]
    assert set(forced.index) == {"none", "linear factor=4", "yarn factor=2", BEST}
    assert forced.idxmin() == BEST
    assert {"none", BEST} <= generated(found) < set(forced.index)
    assert "linear factor=4" not in generated(found)
    assert found.missing.cells == 0
    assert verify_rows(whole)[1] == []


@pytest.mark.parametrize("batches", [1, 4])
def test_a_run_that_was_cut_goes_on_to_the_same(whole, tmp_path, batches):
    """In either phase."""
    told = []

    def cut(what, done, total):
        told.append(done)
        if done and sum(each > 0 for each in told) == batches:
            raise Cut

    with pytest.raises(Cut):
        run(ASKED, tmp_path / "run", progress=cut)
    assert Run.read(tmp_path / "run").missing.cells > 0
    run(ASKED, tmp_path / "run")
    assert rows(tmp_path / "run") == rows(whole)


def test_shards_feed_answers_in_and_the_merged_run_goes_on(whole, tmp_path):
    parts = [tmp_path / str(place) for place in (1, 2)]
    for place, out in enumerate(parts, 1):
        sweep(ask(schema.parse(ASKED, "test")), out, shard=Shard(place, 2))
    with pytest.warns(Warning, match="not measured yet"):
        merge(parts, tmp_path / "merged")
    assert begun(tmp_path / "merged")[2] is None
    run(ASKED, tmp_path / "merged")
    assert rows(tmp_path / "merged") == rows(whole)


def test_a_cell_of_one_who_is_not_asked_is_no_part_of_the_run(whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "forged")
    with sqlite3.connect(out / "run.sqlite") as db:
        db.execute("UPDATE cells SET label = 'linear factor=4' WHERE metric = 'generated' AND label = 'yarn factor=4'")
    db.close()
    with pytest.raises(Exception, match="holds others than were asked for"):
        Run.open(out)


def test_stopping_early_and_the_best_of_everything_exclude_each_other(tmp_path):
    with pytest.raises(ExperimentError, match="generated is asked only of the best"):
        run(ASKED, tmp_path / "run", until=Stopping())
    assert not (tmp_path / "run").exists()


def rows(out):
    kept = ["label", "length", "metric", "value", "n", "status"]
    frame = Run.open(out).frame()[kept].sort_values(kept[:3])
    return json.loads(frame.to_json(orient="records", double_precision=6))


def test_the_report_has_both_readings_each_of_those_it_was_read_for(whole):
    """Nobody who was not asked is missing from it, or stands there without a value."""
    text = markdown(content(study.of(RunData.read(whole))), ())
    forced, said = text.split("## Nats per token of the right answer, task by task")[1].split(
        "## Share of answers found, task by task"
    )
    assert keeping(forced) == {"none", "linear factor=4", "yarn factor=2", BEST}
    assert keeping(said) == generated(Run.open(whole))
    assert "Where it disagrees with nats per token of the right answer" in said
    assert "not measured yet" not in text
    assert "nothing asks what is found" not in text


def keeping(section: str) -> set[str]:
    """Configurations in the table of how far each keeps up."""
    table = section.split("How far each configuration keeps up")[1].strip().split("\n\n")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    return set(rows[2:])


def test_the_page_says_which_line_of_its_small_charts_is_whose(whole):
    drawn = page(content(study.of(RunData.read(whole))))
    for place in range(2):
        section = drawn.split(f'<section id="groups-{place}">')[1].split("</section>")[0]
        keys = section.split('<div class="small">')[0]
        assert [f'data-method="{name}"' in keys for name in ("none", "linear", "yarn")] == [True, place == 0, True]
