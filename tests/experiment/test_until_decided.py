"""A run that stops by itself: losers leave on the way, and everything follows again from what is stored."""

from __future__ import annotations

import json
import shutil
import sqlite3
import warnings
from pathlib import Path

import pytest
from runs_for_tests import run
from test_executors import raw_files, rows
from typer.testing import CliRunner

from ropewalk.cli import app
from ropewalk.cli.arguments import parse_until, read_experiment
from ropewalk.corpus import builtin_documents
from ropewalk.errors import CorpusError, ExperimentError, StoreError, UnfinishedRun
from ropewalk.execution.merge import merge
from ropewalk.execution.pace import Stopping
from ropewalk.execution.rerun import verify_passes
from ropewalk.execution.run import begun
from ropewalk.execution.shard import Shard
from ropewalk.experiment import schema
from ropewalk.experiment.results import Run
from ropewalk.experiment.verify import verify_rows
from ropewalk.report.content import content
from ropewalk.report.study import read

RAW = {
    "model": "strand",
    "dtype": "float32",
    "lengths": [128, 256],
    "methods": {"linear": {"factor": [2, 16]}, "yarn": {"factor": 4}},
    "metrics": {"perplexity": {}, "passkey": {"trials": 8}},
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """The beginnings of ten documents: long enough for two windows, and quickly tokenised."""
    folder = tmp_path_factory.mktemp("beginnings")
    for index, document in enumerate(builtin_documents(10)):
        (folder / f"{index}.txt").write_text(document.text[:4000], encoding="utf-8")
    return RAW | {"documents": {"files": [str(folder / "*.txt")], "windows": 2}}


@pytest.fixture(scope="module")
def whole(raw, tmp_path_factory):
    return run(raw, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def decided(raw, tmp_path_factory):
    return run(raw, tmp_path_factory.mktemp("decided") / "run", until=Stopping(), source="as written")


def by_cell(frame):
    return {(r["label"], r["length"], r["metric"]): r for r in frame.to_dict("records")}


def test_losers_leave_with_the_documents_they_have_and_say_why(whole, decided):
    found, state = by_cell(decided.frame()), decided.meta["decided"]
    assert "linear factor=16" in state["left"]
    loser = found["linear factor=16", 256, "tail"]
    kept = found[state["running"][0], 256, "tail"]
    assert loser["n"] < kept["n"] <= 10
    assert loser["reason"] == state["left"]["linear factor=16"]
    assert loser["reason"].startswith(f"linear factor=16 left after {loser['n']} documents: ")
    assert set(found) == set(by_cell(whole.frame()))
    assert found["none", 128, "perplexity"]["n"] == kept["n"]
    assert found["linear factor=16", 256, "passkey"]["n"] < 8
    assert len(decided.meta["passes"]) < len(whole.meta["passes"])


def test_what_was_read_is_what_a_whole_run_reads(whole, decided):
    keys = ["label", "length", "metric", "unit"]
    ours, theirs = decided.samples().set_index(keys), whole.samples().set_index(keys)
    assert len(ours) < len(theirs)
    same = theirs.loc[ours.index]
    assert (ours["denominator"] == same["denominator"]).all()
    assert ours["numerator"].to_numpy() == pytest.approx(same["numerator"].to_numpy(), rel=1e-4)


def test_it_verifies_and_a_second_run_asks_for_nothing(raw, decided, tmp_path):
    assert verify_rows(decided.directory)[1] == []
    assert verify_passes(decided.directory, 3, seed=0) == (3, [])
    again = shutil.copytree(decided.directory, tmp_path / "again")
    run(raw, again, until=Stopping(), source="as written")
    assert Run.open(again).frame().equals(decided.frame())
    assert len(Run.open(again).meta["passes"]) == len(decided.meta["passes"])


def test_a_run_cut_short_goes_on_to_the_same_decision(raw, decided, tmp_path):
    cut = shutil.copytree(decided.directory, tmp_path / "cut")
    with sqlite3.connect(cut / "run.sqlite") as db:
        db.execute("DELETE FROM passes WHERE rowid > 30")
        db.execute("DELETE FROM cells")
    db.close()
    assert "ropewalk resume" in str(Run.read(cut).missing)
    assert begun(cut)[3] == Stopping()
    assert verify_rows(cut)[1] == []
    run(raw, cut, until=Stopping(), source="as written")
    assert by_cell(Run.open(cut).frame()).keys() == by_cell(decided.frame()).keys()
    assert Run.open(cut).meta["decided"] == decided.meta["decided"]


def test_the_report_holds_best_sets_to_what_the_looks_left(decided):
    found = read(decided.directory)
    block, look = found.run.blocks["tail", 256], decided.meta["decided"]["look"]
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


def test_it_is_another_experiment_than_one_that_reads_everything(raw, decided):
    with pytest.raises(StoreError, match="until"):
        run(raw, decided.directory, source="as written")


def test_a_precision_ends_a_run(raw, tmp_path):
    alike = raw | {"methods": {"abf": {"rope_theta": 10001}}, "metrics": {"perplexity": {}}, "lengths": [128]}
    found = run(alike, tmp_path / "run", until=Stopping(precision=5.0))
    assert (found.meta["decided"]["why"], found.meta["decided"]["look"]["units"]) == ("precision", 4)


def test_budgets(raw, tmp_path):
    raw = raw | {"methods": {"yarn": {"factor": 2}}, "lengths": [128]}
    with pytest.raises(ExperimentError, match=r"one round takes about .* finished work is kept"):
        run(raw, tmp_path / "run", until=Stopping(budget_s=1e-6))
    assert Run.read(tmp_path / "run").missing.cells
    ended = run(raw, tmp_path / "run", until=Stopping(budget_s=1e6))
    assert ended.meta["decided"]["why"] in ("decided", "everything read")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, "1%", None), "--precision 1%: says when `--until decided` stops; add that, or leave it out."),
        (("soon", None, None), "--until 'soon': must be decided; leave it out to measure everything."),
        (("decided", "0", None), "--precision '0': must be per cent of a perplexity and more than 0, such as 1%."),
        (("decided", None, "5"), "--budget 5: must be a whole number with s, m or h and more than 0, such as 90s or 5m."),
    ],
)
def test_options_that_say_nothing_are_refused(given, said):
    with pytest.raises(ExperimentError) as refused:
        parse_until(*given)
    assert str(refused.value) == said


def test_a_precision_that_the_documents_cannot_give_is_said_with_what_would(raw, tmp_path):
    alike = raw | {"methods": {"abf": {"rope_theta": 10001}}, "metrics": {"perplexity": {}}, "lengths": [128]}
    found = run(alike, tmp_path / "run", until=Stopping(precision=1e-4))
    assert found.meta["decided"]["why"] == "everything read"
    (said,) = [each.sentence for each in content(read(found.directory)).findings if each.kind == "stopped"]
    assert "do not give the 0.0001 % that were asked for; ask for less, read more windows of each" in said


def test_a_kill_between_losses_and_answers_leaves_nothing_out(raw, decided, tmp_path):
    cut = Path(shutil.copytree(decided.directory, tmp_path / "cut"))
    with sqlite3.connect(cut / "run.sqlite") as db:
        db.execute("DELETE FROM answers WHERE rowid % 2")
        db.execute("DELETE FROM cells")
    db.close()
    assert not run(raw, cut, until=Stopping(), source="as written").missing.cells
    assert rows(cut) == rows(decided.directory)


@pytest.fixture(scope="module")
def two_rounds(raw, tmp_path_factory):
    """Two rounds by two shards, merged after each; the merged runs."""
    folder = tmp_path_factory.mktemp("rounds")
    merged: list[Path] = []
    for number in (1, 2):
        for place in (1, 2):
            asked = {"until": Stopping(), "shard": Shard(place, 2), "reuse": merged[-1] if merged else None}
            run(raw, folder / str(place), source="as written", **asked)
        merged.append(folder / f"round {number}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnfinishedRun)
            merge([folder / "2", folder / "1"], merged[-1])
    return merged


def test_shards_measure_rounds_and_one_process_ends_them_as_a_run_in_a_piece(raw, decided, two_rounds, tmp_path):
    for directory, documents in zip(two_rounds, (4, 5), strict=True):
        state = Run.read(directory).meta["decided"]
        assert (state["why"], state["look"]["units"]) == (None, documents)
        assert len(rows(directory)["passes"]) == 4 * documents
        assert verify_rows(directory)[1] == []
    whole = Path(shutil.copytree(two_rounds[1], tmp_path / "whole"))
    assert begun(whole)[2:] == (None, Stopping())
    run(raw, whole, until=Stopping(), source="as written")
    assert rows(whole) == rows(decided.directory)
    assert raw_files(whole) == raw_files(decided.directory)
    assert Run.open(whole).meta["decided"] == decided.meta["decided"]


def test_a_shard_that_was_cut_short_measures_its_part_of_its_round_and_no_more(raw, two_rounds, tmp_path):
    shard = Path(shutil.copytree(two_rounds[0].parent / "1", tmp_path / "1"))
    before = rows(shard)
    with sqlite3.connect(shard / "run.sqlite") as db:
        db.execute("DELETE FROM answers WHERE rowid > 36")  # after the losses of its second round
    db.close()
    again = {"until": Stopping(), "shard": Shard(1, 2), "source": "as written"}
    run(raw, shard, reuse=two_rounds[0], **again)
    assert rows(shard) == before
    with pytest.raises(StoreError, match=r"1: is past its first round; name the merged run with --reuse\."):
        run(raw, shard, **again)
    with pytest.raises(StoreError, match=r"2: is a shard; merge all shards, and name what that gives\."):
        run(raw, shard, reuse=two_rounds[0].parent / "2", **again)


def test_a_round_follows_from_the_merged_run_alone(raw, decided, two_rounds, tmp_path):
    other = Path(shutil.copytree(decided.directory, tmp_path / "other"))
    with sqlite3.connect(other / "run.sqlite") as db:
        ((text,),) = db.execute("SELECT value FROM meta WHERE key = 'identity'").fetchall()
        del (identity := json.loads(text))["until"]
        db.execute("UPDATE meta SET value = ? WHERE key = 'identity'", [json.dumps(identity)])
        db.execute("DELETE FROM meta WHERE key = 'until'")
    db.close()
    with pytest.raises(StoreError, match=r"other: is of another run \(until is None there and .*; name their merged"):
        run(raw, tmp_path / "1", until=Stopping(), shard=Shard(1, 2), source="as written", reuse=other)


def test_what_failed_in_a_round_stays_failed_for_every_shard_of_the_next(raw, two_rounds, tmp_path):
    failed = Path(shutil.copytree(two_rounds[0], tmp_path / "failed"))
    yarn = {cell.fingerprint for cell in Run.read(failed).data.plan.cells if cell.label == "yarn factor=4"}
    assert len(yarn) == 1
    with sqlite3.connect(failed / "run.sqlite") as db:
        failure = "UPDATE passes SET status = 'error', reason = 'no', file = NULL, sha256 = NULL "
        db.execute(f"{failure} WHERE fingerprint = ? AND document = 0", [*yarn])
        db.execute("UPDATE answers SET status = 'error', reason = 'no', answer = NULL WHERE rowid = 1")
    db.close()
    next_to = tmp_path / "1"
    run(raw, next_to, until=Stopping(), shard=Shard(1, 2), source="as written", reuse=failed)
    passes = rows(next_to)["passes"]
    assert [(row[0], row[1], row[6]) for row in passes if row[5] != "ok"] == [(*yarn, 0, "no")]
    assert [row[3] for row in rows(next_to)["answers"] if row[2] != "ok"] == ["no"]
    fifth = {row[0] for row in passes if row[1] == 8}  # rows are windows, two of each document
    assert len(fifth) == 3
    assert not yarn & fifth


def test_a_run_directory_is_the_experiment_that_it_recorded(decided, tmp_path):
    recorded = Run.read(decided.directory).meta["experiment"]
    assert read_experiment(str(decided.directory))[0].resolved() == recorded
    changed, text = read_experiment(str(decided.directory), changes=["documents.windows=1"])
    assert changed.resolved()["documents"] == recorded["documents"] | {"windows": 1}
    assert schema.parse(schema.load_yaml(text, "again"), "again").resolved() == recorded
    with pytest.raises(StoreError, match="holds no run"):
        read_experiment(str(tmp_path))


def test_shards_of_a_suite_do_not_go_round_by_round(raw, tmp_path):
    suite = {name: value for name, value in raw.items() if name != "model"} | {"models": ["strand"]}
    (tmp_path / "suite.yaml").write_text(json.dumps(suite))
    asked = [
        "run",
        str(tmp_path / "suite.yaml"),
        "--out",
        str(tmp_path / "out"),
        "--shard",
        "1/2",
        "--until",
        "decided",
    ]
    found = CliRunner().invoke(app, [*asked, "--until", "decided"])
    assert "--shard 1/2 and --until decided: go round by round, each model at its own pace" in str(found.exception)
    assert not (tmp_path / "out").exists()


def test_a_shard_has_no_budget(raw, tmp_path):
    with pytest.raises(ExperimentError) as refused:
        run(raw, tmp_path / "run", until=Stopping(budget_s=60.0), shard=Shard(1, 2))
    assert str(refused.value) == (
        "--shard 1/2 and --budget 60s: such a shard measures its part of one round, whatever that takes; leave "
        "--budget out, and go on for as many rounds as there is time."
    )
    assert not (tmp_path / "run").exists()


def test_windows_that_the_documents_do_not_hold_are_counted(raw, tmp_path):
    with pytest.raises(CorpusError, match=r"hold (\d+); ask for at most \1 or lower the longest length to \d+\.$"):
        run(raw | {"documents": raw["documents"] | {"windows": 99}}, tmp_path / "run", until=Stopping())
    assert not (tmp_path / "run").exists()
