"""The three lines of a demo: what they say of a run is what its table says."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from studies import study

from ropewalk.experiment.held import Held
from ropewalk.report.recommend import recommend
from ropewalk.report.story import bars, story
from ropewalk.stats.findings.finding import percent

METHODS = {"linear": {"factor": 4}, "yarn": {"factor": 4}, "llama3": {"factor": 4}}
HELD = Held(metric="passkey", length=8192, kept=1024, count=2, n=20)


@pytest.fixture(scope="module")
def found():
    return replace(study(METHODS), held=(replace(HELD, length=4096, count=5), HELD))


def count(found, label):
    return round(20 * found.run.row(label, "passkey", 8192).value)


def test_the_sentence_says_what_the_table_says(found):
    first, serve, own = story(found)
    by_found, by_loss = (recommend(found.run, 8192, by=by) for by in ("passkey", "perplexity"))
    best = by_found.choice
    assert first.startswith(
        f"Trained on 2,048 tokens; at 8,192 it finds {count(found, 'none')} of 20 passkeys, with {best.label} "
        f"{count(found, best.label)} of 20"
    )
    assert count(found, best.label) == max(count(found, row.label) for row in found.run.rows if row.method in METHODS)
    said = re.search(r"for ([+-][\d.]+) % perplexity inside the window", first)
    assert float(said[1]) == pytest.approx(100 * (best.cost.ratio.value - 1), abs=0.051)
    assert by_loss.choice.label == best.label
    assert ". It is best by next-token loss too and " in first
    assert first.endswith("dropping the context, which can hold 2 of the 20.")
    served = recommend(found.run, 8192).choice
    assert serve.split(maxsplit=2)[2].startswith(f"ropewalk export {served.method} --model org/model -p factor=4")
    assert own.startswith("Your own model:  ropewalk init MODEL")


def test_bars_are_as_long_as_what_was_found(found):
    shown = bars(found)
    assert shown.columns == ("configuration", "tail at 8,192", "passkey at 8,192")
    assert [row[0] for row in shown.rows] == ["none", "linear factor=4", "yarn factor=4", "llama3 factor=4", "truncate"]
    for label, tail, keys in shown.rows[:-1]:
        assert float(tail.split()[0]) == pytest.approx(found.run.row(label, "tail", 8192).value, rel=5e-4)
        assert (keys.count("█"), keys.split()[1]) == (count(found, label), str(count(found, label)))
    assert shown.rows[-1][2] == "██" + 18 * "░" + " holds 2 of 20"


def test_without_what_is_counted_the_recommendation_alone():
    first, *_ = story(study(METHODS, metrics={"perplexity": {}}))
    assert first.startswith("For 8,192 tokens, ")
    assert bars(study(METHODS, metrics={"perplexity": {}})).columns == ("configuration", "tail at 8,192")


def test_what_is_best_by_losses_may_find_less_and_be_served(found, monkeypatch):
    other = recommend(study({"llama3": {"factor": 4}}).run, 8192).choice

    def chosen(run, target, by="both"):
        answer = recommend(run, target, by=by)
        return answer if by == "passkey" else replace(answer, choice=other)

    monkeypatch.setattr("ropewalk.report.story.recommend", chosen)
    first, serve, _ = story(found)
    assert ", with yarn factor=4 " in first
    finds = f"{round(20 * other.found.value)} of 20, for {percent(other.cost.ratio.value)} perplexity inside the window"
    assert f"By next-token loss alone llama3 factor=4 is best ({finds}) and " in first
    assert serve.split(maxsplit=2)[2].startswith("ropewalk export llama3 --model org/model -p factor=4")
