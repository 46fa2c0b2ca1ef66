"""Several windows of each document: each a text of its own in the store, the document the unit of every number."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
from runs_for_tests import run

from ropewalk.errors import CorpusError
from ropewalk.execution.rerun import verify_passes
from ropewalk.experiment import schema
from ropewalk.experiment.overview import lines, overview
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.results import Run
from ropewalk.experiment.store import Store
from ropewalk.experiment.tables import BEFORE_WINDOWS
from ropewalk.experiment.verify import verify_rows
from ropewalk.report.compare import compare
from ropewalk.report.content import content
from ropewalk.report.study import read
from ropewalk.stats.pooled import ratio_interval

W = 3


def with_windows(raw, **changes):
    return raw | {"documents": raw["documents"] | changes}


@pytest.fixture(scope="module")
def windowed(base_experiment, tmp_path_factory):
    out = tmp_path_factory.mktemp("windowed") / "run"
    run(with_windows(base_experiment, windows=W), out, source="as written")
    return out


def test_a_document_is_one_unit_and_its_windows_are_pooled(windowed):
    found = Run.open(windowed)
    frame, samples = found.frame(), found.samples()
    rows = found.meta["documents"]
    names = list(dict.fromkeys(row["cluster"] for row in rows))
    assert [row["cluster"] for row in rows] == [name for name in names for _ in range(W)]
    assert [row["id"] for row in rows] == [f"{row['cluster']}@{row['start']}" for row in rows]
    assert len({row["start"] for row in rows[:W]}) == W
    values = {(r["label"], r["length"], r["metric"]): r for r in frame.to_dict("records")}
    for key, own in samples[samples["metric"] != "passkey"].groupby(["label", "length", "metric"]):
        assert len(own) == 3 * W
        pooled = own.groupby("document")[["numerator", "denominator"]].sum()
        expected = ratio_interval(pooled["numerator"].to_numpy(), pooled["denominator"].to_numpy())
        expected = expected if key[2] == "bits_per_byte" else expected.exp()
        row = values[key]
        assert row["n"] == 3
        assert (row["value"], row["ci_low"]) == pytest.approx((expected.value, expected.low), rel=1e-12)
    block = read(windowed).run.blocks["tail", 256]
    assert block.units == tuple(names)
    assert set(found.curve()["n"]) == {3}


def test_the_first_window_is_what_one_window_reads(windowed, finished):
    one, several = Run.open(finished).samples(), Run.open(windowed).samples()
    first = several[several["unit"].str.endswith("@0")]
    for metric in ("perplexity", "tail", "bits_per_byte", "longppl"):
        mine, theirs = (each[each["metric"] == metric] for each in (first, one))
        assert mine["denominator"].tolist() == theirs["denominator"].tolist()
        np.testing.assert_allclose(mine["numerator"], theirs["numerator"], rtol=1e-6)
    row = Run.open(finished).meta["documents"][0]
    assert (row["cluster"], row["start"]) == (row["id"], 0)


def test_it_verifies_reports_and_resumes(windowed, base_experiment):
    cells, wrong = verify_rows(windowed)
    assert (cells > 0, wrong) == (True, [])
    assert verify_passes(windowed, 8, seed=1) == (8, [])
    tables = {section.anchor: section for section in content(read(windowed)).sections}["provenance"].tables
    assert tables[1].table.columns[3] == "windows"
    assert {row[3] for row in tables[1].table.rows} == {str(W)}
    before = Run.open(windowed).frame()
    run(with_windows(base_experiment, windows=W), windowed, source="as written")
    assert Run.open(windowed).frame().equals(before)


def test_windows_begin_with_the_bos_and_count_the_bytes_of_their_own_text(tiny_bos, experiment, tmp_path):
    raw = experiment(model=str(tiny_bos), metrics={"perplexity": {}}, lengths=[64])
    out = tmp_path / "run"
    run(with_windows(raw, windows=2), out)
    with_bos = Store.open_run(out, read_only=True)
    arrays = with_bos.read_arrays("documents.safetensors", with_bos.meta("documents_sha256"))
    with_bos.close()
    assert arrays["0.ids"][0] == arrays["1.ids"][0]
    assert arrays["1.ids"].shape == (64,)
    assert arrays["1.utf8_bytes"][0] == 0
    assert arrays["1.utf8_bytes"][1:].sum() < 64 * 8


def test_another_evaluator_reads_the_same_characters(tiny_bos, base_experiment, experiment, tmp_path):
    longppl = base_experiment["metrics"]["longppl"] | {"evaluator": str(tiny_bos), "min_key_tokens": 1}
    raw = experiment(metrics={"longppl": longppl}, lengths=[64], methods={"linear": {"factor": 2}})
    out = tmp_path / "run"
    run(with_windows(raw, windows=2), out)
    store = Store.open_run(out, read_only=True)
    spans = store.meta("key_spans")
    store.close()
    assert spans[0]["spans"][-1][1] <= spans[1]["spans"][0][0]
    samples = Run.open(out).samples().query("label == 'none'")
    assert (samples["denominator"] > 0).all()
    assert len(samples) == 6
    assert verify_rows(out)[1] == []


def test_auto_fills_a_budget_of_tokens(experiment, tmp_path):
    raw = experiment(metrics={"perplexity": {}}, lengths=[64], methods={"linear": {"factor": 2}})
    found = run(with_windows(raw, windows="auto", tokens=64 * 3 * 2 + 100), tmp_path / "run")
    assert len(found.meta["documents"]) == 3 * 2


def test_plan_counts_windows(base_experiment):
    asked = ask(schema.parse(with_windows(base_experiment, windows=W), "test"))
    alone = ask(schema.parse(base_experiment, "test"))
    assert "3 documents x 3 windows" in lines(overview(asked, None))[1]
    fed = sum(ends[-1] - feed.start for feed, ends in alone.plan.feeds.items()) * 3
    assert asked.plan.tokens == alone.plan.tokens + 2 * fed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"windows": 0},
            "documents: windows=0 must be a whole number >= 1, or auto with tokens: N; leave it out for 1.",
        ),
        (
            {"windows": "all"},
            "documents: windows='all' must be a whole number >= 1, or auto with tokens: N; leave it out for 1.",
        ),
        ({"windows": "auto"}, "documents: windows: auto needs tokens: N, how many to read in all; got tokens=None."),
        ({"tokens": 9}, "documents: tokens=9 is what windows: auto may read; write that, or leave it out."),
        ({"windows": "auto", "tokens": 9}, "may read 9 tokens, but one stretch of 256 of each of 3 documents is 768"),
        ({"windows": 400}, "400 stretches of 256 tokens do not fit document"),
    ],
)
def test_windows_that_cannot_be_are_refused(changes, said, base_experiment, tmp_path):
    with pytest.raises(CorpusError) as refused:
        run(with_windows(base_experiment, **changes), tmp_path / "run")
    assert said in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_runs_of_other_windows_are_not_compared(windowed, finished):
    found = compare(read(finished), read(windowed))
    assert found.not_compared["tail"] == "other windows of the documents were read"
    assert {each.column.name for each in found.contrasts} == {"passkey"}


def test_a_run_without_windows_columns_opens_and_goes_on(copied, base_experiment):
    rows = Run.open(copied).rows()
    with sqlite3.connect(copied / "run.sqlite") as db:
        table = BEFORE_WINDOWS.split("CREATE TABLE documents")[1].split(";")[0]
        names = "document, id, title, kind, source, licence, sha256, tokens"
        kept = db.execute(f"SELECT {names} FROM documents").fetchall()
        db.execute("DROP TABLE documents")
        db.execute(f"CREATE TABLE documents{table}")
        db.executemany(f"INSERT INTO documents ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", kept)
    db.close()
    assert Run.open(copied).rows() == rows
    assert verify_rows(copied)[1] == []
    assert run(base_experiment, copied, source="as written").rows() == rows
