"""A run that stops by itself: losers leave on the way, and everything follows again from what is stored."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest
from runs_for_tests import run

from ropewalk.cli.arguments import parse_until
from ropewalk.errors import ExperimentError, StoreError
from ropewalk.execution.rerun import verify_passes
from ropewalk.execution.run import Stopping
from ropewalk.experiment.results import Run
from ropewalk.experiment.verify import verify_rows
from ropewalk.report.content import content
from ropewalk.report.study import read

RAW = {
    "model": "strand",
    "dtype": "float32",
    "lengths": [128, 512],
    "documents": {"corpus": "builtin", "count": 10, "windows": 2},
    "methods": {"linear": {"factor": [2, 16]}, "yarn": {"factor": [2, 4]}},
    "metrics": {"perplexity": {}, "passkey": {"trials": 4}},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(RAW, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def decided(tmp_path_factory):
    return run(RAW, tmp_path_factory.mktemp("decided") / "run", until=Stopping(), source="as written")


def by_cell(frame):
    return {(r["label"], r["length"], r["metric"]): r for r in frame.to_dict("records")}


def test_losers_leave_with_the_documents_they_have_and_say_why(whole, decided):
    found, state = by_cell(decided.frame()), decided.meta["decided"]
    assert "linear factor=16" in state["left"]
    loser = found["linear factor=16", 512, "tail"]
    kept = found[state["running"][0], 512, "tail"]
    assert loser["n"] < kept["n"] <= 10
    assert loser["reason"] == state["left"]["linear factor=16"]
    assert loser["reason"].startswith(f"linear factor=16 left after {loser['n']} documents: ")
    assert set(found) == set(by_cell(whole.frame()))
    assert found["none", 128, "perplexity"]["n"] == kept["n"]
    assert found["linear factor=16", 512, "passkey"]["n"] < 4
    assert len(decided.meta["passes"]) < len(whole.meta["passes"])


def test_what_was_read_is_what_a_whole_run_reads(whole, decided):
    keys = ["label", "length", "metric", "unit"]
    ours, theirs = decided.samples().set_index(keys), whole.samples().set_index(keys)
    assert len(ours) < len(theirs)
    both = ours.join(theirs, rsuffix="_whole", how="left")
    assert (both["denominator"] == both["denominator_whole"]).all()
    assert both["numerator"].to_numpy() == pytest.approx(both["numerator_whole"].to_numpy(), rel=1e-4)


def test_it_verifies_and_a_second_run_asks_for_nothing(decided, tmp_path):
    assert verify_rows(decided.directory)[1] == []
    assert verify_passes(decided.directory, 3, seed=0) == (3, [])
    again = shutil.copytree(decided.directory, tmp_path / "again")
    run(RAW, again, until=Stopping(), source="as written")
    assert Run.open(again).frame().equals(decided.frame())
    assert len(Run.open(again).meta["passes"]) == len(decided.meta["passes"])


def test_a_run_cut_short_goes_on_to_the_same_decision(decided, tmp_path):
    cut = shutil.copytree(decided.directory, tmp_path / "cut")
    with sqlite3.connect(cut / "run.sqlite") as db:
        db.execute("DELETE FROM passes WHERE rowid > 30")
        db.execute("DELETE FROM cells")
    db.close()
    assert "--until decided" in str(Run(directory=cut).missing)
    assert verify_rows(cut)[1] == []
    run(RAW, cut, until=Stopping(), source="as written")
    assert by_cell(Run.open(cut).frame()).keys() == by_cell(decided.frame()).keys()
    assert Run.open(cut).meta["decided"] == decided.meta["decided"]


def test_the_report_holds_best_sets_to_what_the_looks_left(decided):
    found = read(decided.directory)
    block, look = found.run.blocks["tail", 512], decided.meta["decided"]["look"]
    assert block.share == look["share"] < 1
    assert block.left_out["linear factor=16"] == decided.meta["decided"]["left"]["linear factor=16"]
    assert any(finding.kind == "stopped" for finding in content(found).findings)


def test_another_schedule_than_recorded_is_noticed(decided, tmp_path):
    forged = shutil.copytree(decided.directory, tmp_path / "forged")
    with sqlite3.connect(forged / "run.sqlite") as db:
        ((text,),) = db.execute("SELECT value FROM meta WHERE key = 'until'").fetchall()
        db.execute("UPDATE meta SET value = ? WHERE key = 'until'", [json.dumps(json.loads(text) | {"alpha": 0.5})])
    db.close()
    assert [each.what for each in verify_rows(forged)[1]] == ["meta until"]


def test_it_is_another_experiment_than_one_that_reads_everything(decided):
    with pytest.raises(StoreError, match="until"):
        run(RAW, decided.directory, source="as written")


def test_a_precision_ends_a_run(tmp_path):
    raw = RAW | {"methods": {"linear": {"factor": 2}}, "metrics": {"perplexity": {}}, "lengths": [256]}
    raw |= {"documents": {"corpus": "builtin", "count": 6}}
    found = run(raw, tmp_path / "run", until=Stopping(precision=99.0))
    assert found.meta["decided"]["why"] in ("precision", "decided")
    assert found.meta["decided"]["look"]["units"] == 4


def test_budgets(tmp_path):
    raw = RAW | {"methods": {"yarn": {"factor": [2, 2.01]}}, "metrics": {"perplexity": {}}}
    with pytest.raises(ExperimentError, match="one round takes about .* finished work is kept"):
        run(raw, tmp_path / "run", until=Stopping(budget_s=1e-6))
    Run(directory=tmp_path / "run")
    ended = run(raw, tmp_path / "run", until=Stopping(budget_s=1e6))
    assert ended.meta["decided"]["why"] is not None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, "1%", None), "--precision 1%: says when `--until decided` stops; add that, or leave it out."),
        (("soon", None, None), "--until 'soon': must be decided; leave it out to measure everything."),
        (("decided", "0", None), "--precision '0': must be per cent of a perplexity, such as 1%."),
        (("decided", None, "5"), "--budget 5: must be a whole number with s, m or h, such as 90s or 5m."),
    ],
)
def test_options_that_say_nothing_are_refused(given, said):
    with pytest.raises(ExperimentError) as refused:
        parse_until(*given)
    assert str(refused.value) == said
