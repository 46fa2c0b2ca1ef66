import json
import math
import shlex
from dataclasses import replace

import pytest
from studies import failed, frames, study

from ropewalk.errors import ExperimentError
from ropewalk.report import wording
from ropewalk.report.costs import short_costs
from ropewalk.report.deploy import deploy_command
from ropewalk.report.printing import recommendation_json, recommendation_lines
from ropewalk.report.recommend import recommend
from ropewalk.stats.findings import findings
from ropewalk.stats.intervals import Interval
from ropewalk.stats.paired import Paired


@pytest.fixture(scope="module")
def run():
    return study({"linear": {"factor": [2, 4]}, "yarn": {"factor": [2, 4, 8]}, "dynamic_ntk": {"factor": 2}}).run


def test_chooses_the_lowest_tail_at_the_target(run):
    answer = recommend(run, 8192)
    values = {row.label: row.value for row in run.rows if row.metric == "tail" and row.length == 8192}
    del values["truncate"]
    assert answer.column.name == "tail"
    assert answer.choice.label == min(values, key=values.__getitem__)
    assert answer.choice.value.value == pytest.approx(min(values.values()), rel=1e-12)
    assert answer.choice.against_none is not None
    assert answer.choice.against_none.interval.n == 8


def test_the_next_longer_length_decides_and_says_so(run):
    answer = recommend(run, 5000)
    assert answer.judged_at == 8192
    assert "5,000 tokens were not measured; the next longer length, 8,192, decided." in wording.would_change(answer)


def test_cost_is_the_worst_ratio_inside_the_window(run):
    cost = short_costs(run, 8192)["yarn factor=4"]
    ratios = {
        length: run.row("yarn factor=4", "perplexity", length).value / run.row("none", "perplexity", length).value
        for length in (1024, 2048)
    }
    assert cost.ratio.value == pytest.approx(max(ratios.values()), rel=1e-9)
    assert cost.length == max(ratios, key=ratios.__getitem__)
    assert set(short_costs(run, 2048))
    assert short_costs(run, 2048)["none"].length == 1024
    assert short_costs(run, 1024) == {}


def test_a_bound_on_cost_excludes_and_names_what_it_excludes(run):
    free, bound = recommend(run, 8192), recommend(run, 8192, 1.0)
    assert free.choice.cost.ratio.value > 1.01
    assert bound.choice.cost.ratio.value <= bound.choice.cost.at_most <= 1.01
    assert free.choice.label in [c.label for c in bound.too_costly]
    said = " ".join(wording.would_change(bound))
    assert "A larger bound than 1 % at short lengths, or more documents, would allow" in said
    assert free.choice.label in said


def test_a_bound_holds_what_documents_not_measured_may_cost():
    """yarn costs .9 % on average, within the bound of 1 %, and may cost far more on other documents."""
    asked = frames({"yarn": {"factor": 2}}, (1024, 8192))
    short = (asked.samples.metric == "perplexity") & (asked.samples.length == 1024)
    nats = (-0.011, 0.029, 0.009, -0.031, 0.049, 0.009, 0.0, 0.008)
    costs = {f"text-{i}": each for i, each in enumerate(nats)}
    none = asked.samples[short & (asked.samples.label == "none")].set_index("unit").numerator
    yarn = short & (asked.samples.label == "yarn factor=2")
    asked.samples.loc[yarn, "numerator"] = [none[u] + 1023 * costs[u] for u in asked.samples.loc[yarn, "unit"]]
    run = asked.study().run
    cost = short_costs(run, 8192)["yarn factor=2"]
    assert cost.ratio.value < 1.01 < cost.at_most
    assert cost.at_most == run.block("perplexity", 1024).paired("yarn factor=2", "none", 0.9).interval.high
    assert recommend(run, 8192).choice.label == "yarn factor=2"
    assert recommend(run, 8192, 1.0).choice.label == "none"
    assert recommend(run, 8192, 100 * (cost.at_most - 1) + 0.01).choice.label == "yarn factor=2"


def test_bounds_hold_for_all_configurations_at_once(run):
    """Each bound is there to choose by, so 5 % are shared among the five distinct rotations."""
    cost = short_costs(run, 8192)["yarn factor=4"]
    blocks = [run.block("perplexity", length) for length in (1024, 2048)]
    highs = [block.paired("yarn factor=4", "none", 1 - 0.1 / 5).interval.high for block in blocks]
    assert cost.at_most == max(highs)
    assert short_costs(run, 8192)["none"].at_most == 1.0


@pytest.mark.parametrize("bound", [-1.0, math.nan, math.inf])
def test_refuses_impossible_bounds(run, bound):
    with pytest.raises(ExperimentError, match="must be a number of per cent >= 0"):
        recommend(run, 8192, bound)


def test_refuses_a_bound_without_short_lengths():
    run = study({"yarn": {"factor": 2}}, (4096,)).run
    with pytest.raises(ExperimentError, match="costs at short lengths are unknown: no length inside the window"):
        recommend(run, 4096, 2.0)
    assert "no length inside the window (2048 tokens) and below 4096" in recommend(run, 4096).no_cost


def test_refuses_beyond_what_was_measured_and_says_what_to_run(run):
    with pytest.raises(ExperimentError) as refusal:
        recommend(run, 16384)
    assert str(refusal.value) == (
        "length 16384: nothing was measured at or beyond it (the longest length is 8192); run the experiment file with "
        "--lengths 1024,2048,4096,8192,16384 and a new --out."
    )


def test_refuses_where_every_cell_failed():
    spoil = lambda cell: failed("out_of_memory", "8192 tokens did not fit") if cell.length == 8192 else None  # noqa: E731
    run = study({"yarn": {"factor": 2}}, spoil=spoil).run
    with pytest.raises(ExperimentError, match=r"no configuration has a value .* \(8192 tokens did not fit\)"):
        recommend(run, 8192)


def test_ties_are_listed_and_none_among_them_changes_the_headline():
    close = study({"yarn": {"factor": [1.001, 1.002]}}, (1024, 2048)).run
    answer = recommend(close, 2048)
    assert answer.tied
    assert "cannot be told apart from it with 8 documents" in wording.confidence(answer)
    assert wording.headline(answer) in (
        "For 2,048 tokens, leave the model as it is.",
        "For 2,048 tokens, nothing is shown to beat leaving the model as it is.",
    )


def test_a_command_that_may_be_no_gain_is_not_ordered():
    answer = recommend(study({"yarn": {"factor": [1.001, 1.002]}}, (1024, 2048)).run, 2048)
    none = next(each for each in (answer.choice, *answer.tied) if each.label == "none")
    yarn = next(each for each in answer.tied if each.label != "none")
    tied = replace(answer, choice=yarn, tied=(none,))
    assert "To deploy yarn factor=1.001 all the same:\n  x" in list(recommendation_lines(tied, "x"))
    assert "Deploy it:\n  x" in list(recommendation_lines(replace(tied, tied=()), "x"))


def test_one_document_has_no_interval_and_no_test():
    answer = recommend(study({"yarn": {"factor": 4}}, documents=1).run, 8192)
    assert answer.choice.value.low is None
    assert answer.choice.against_none.interval.low is None
    assert answer.choice.against_none.p is None
    assert "with 1 document no test is possible" in wording.confidence(answer)
    assert "not shown to be better" in wording.facts(answer)["Against dropping the context"]
    assert "[" not in wording.facts(answer)["Tail perplexity at 8,192"]


def test_what_alone_would_beat_dropping_is_said_to_be_corrected():
    answer = recommend(study({"yarn": {"factor": 4}}).run, 8192)
    against = Paired(interval=Interval(value=0.95, low=0.9, high=0.99, n=8), p=0.02)
    alone = replace(answer, choice=replace(answer.choice, against_truncate=against), dropping="unknown")
    term = "Against dropping the context"
    said = "-5.0 % [-10.0 %, -1.0 %]: not shown to be better once corrected for all comparisons"
    assert wording.facts(alone)[term] == said
    wide = replace(against, interval=replace(against.interval, high=1.01))
    open_ = replace(alone, choice=replace(answer.choice, against_truncate=wide))
    assert wording.facts(open_)[term] == "-5.0 % [-10.0 %, +1.0 %]: not shown to be better"


def test_a_single_configuration_leaves_nothing_to_choose():
    answer = recommend(study(["none"], (1024,), metrics={"perplexity": {}}).run, 1024)
    assert wording.headline(answer) == "Nothing to choose between at 1,024 tokens: only none can be compared."
    assert wording.confidence(answer) == "There is nothing to compare it with."
    run = study(["none"], (1024,)).run
    assert deploy_command(run, "none", {}, 1024, "runs/a") is None
    assert deploy_command(run, "yarn", {"factor": 2}, 1024, "runs/a") is not None
    for params in ({"neighbor_window": 64}, {"neighbor_window": 64, "temperature": "logn"}):
        assert deploy_command(run, "self_extend", params, 1024, "runs/a") is None  # `export` would refuse it
    assert deploy_command(run, "yarn", {"factor": 2, "temperature": "logn"}, 1024, "runs/a") is None


def test_dropping_the_context_is_in_the_headline():
    run = study({"linear": {"factor": 4}, "dynamic_ntk": {"factor": 2}}).run
    answer = recommend(run, 8192)
    assert answer.dropping == "worse"
    assert wording.headline(answer) == (
        f"For 8,192 tokens, {answer.choice.label} does best, but worse than dropping the context."
    )
    assert wording.facts(answer)["Against dropping the context"].endswith(": worse")
    unsure = replace(answer, dropping="unknown")
    assert wording.headline(unsure).endswith("does best, but is not shown to beat dropping the context.")
    assert wording.headline(replace(answer, dropping="better")) == f"For 8,192 tokens, use {answer.choice.label}."


def test_headline_and_finding_agree_about_dropping_the_context():
    """Both correct over all extended configurations: the best of many looks better than it is."""
    for seed in range(12):
        run = study({"yarn": {"factor": [4, 5, 6, 8]}}, (2048, 8192), seed=seed, documents=4).run
        answer = recommend(run, 8192)
        said = {f.kind for f in findings(run) if f.evidence.get("length") == 8192}
        assert (answer.dropping == "better") <= ("better_than_dropping" in said)
        assert (answer.dropping == "worse") <= ("not_better_than_dropping" in said)


def test_a_choice_among_equals_is_not_called_the_best():
    run = study({"yarn": {"factor": [4, 4.0001, 4.0002]}}, (2048, 8192)).run
    answer = recommend(run, 8192)
    apart = len(answer.tied) - len(answer.same)
    assert apart > 1
    assert f"{answer.choice.label}, tied with {apart} others, does best" in wording.headline(answer)
    better = replace(answer, dropping="better")
    assert wording.headline(better).endswith(f"use {answer.choice.label} or one of the {apart} tied with it.")


def test_one_measurement_under_two_names_is_no_tie():
    run = study({"dynamic_ntk": {"factor": [2, 4]}, "linear": {"factor": 4}}, (1024, 2048)).run
    answer = recommend(run, 2048)
    assert answer.choice.label == "none"
    assert set(answer.same) == {"dynamic_ntk factor=2", "dynamic_ntk factor=4"}
    assert "The other, linear factor=4, is worse" in wording.confidence(answer)
    assert wording.confidence(answer).endswith("dynamic_ntk factor=2, dynamic_ntk factor=4 are the same measurement.")
    assert not any("may separate" in text for text in wording.would_change(answer))


def test_passkey_alone_can_decide():
    run = study({"linear": {"factor": 4}, "yarn": {"factor": 4}}, metrics={"passkey": {"trials": 20}}).run
    answer = recommend(run, 8192)
    assert answer.column.name == "passkey"
    assert "yarn" in answer.choice.label
    assert "20 trials" in wording.confidence(answer) + " ".join(wording.facts(answer).values())
    assert wording.facts(answer)["Cost at short lengths"].startswith("unknown")


def test_rotations_that_change_with_length_are_said_to():
    run = study({"dynamic_ntk": {"factor": 2}}, (1024, 4096)).run
    answer = recommend(run, 4096)
    assert answer.rotates
    assert any("turns differently at every length" in text for text in wording.would_change(answer))


def test_command_spells_out_the_factor_and_quotes_for_the_shell():
    found = frames({"llama3": {"low_freq_factor": 2}}, (4096,))
    found.meta["experiment"] = found.meta["experiment"] | {"model": "my models/it's", "window": 512}
    run = found.study().run
    words = shlex.split(deploy_command(run, "llama3", {"low_freq_factor": 2.5}, 4096, "runs/a") or "")
    assert words[:5] == ["ropewalk", "export", "llama3", "--model", "my models/it's"]
    assert "factor=8" in words
    assert "low_freq_factor=2.5" in words
    assert "original_max_position_embeddings=512" in words
    assert words[-2:] == ["--length", "4096"]


def test_command_names_the_run_where_a_parameter_is_long():
    """Gains of a tuned scheme are no words of a shell."""
    run = study({"llama3": {"factor": 2}}, (4096,)).run
    command = deploy_command(run, "tuned", {"file": {"gains": "A" * 2001}}, 4096, "my runs/a")
    assert shlex.split(command or "") == [
        *("ropewalk", "export", "my runs/a", "--target", "hf", "--length", "4096", "--out", "MODEL")
    ]


def test_json_holds_what_the_text_says(run):
    answer = recommend(run, 8192, 5.0)
    found = json.loads(json.dumps(recommendation_json(answer, "command"), allow_nan=False))
    assert found["choice"]["label"] == answer.choice.label
    assert found["choice"]["short_cost"]["value"] == answer.choice.cost.ratio.value
    assert [c["label"] for c in found["tied"]] == [c.label for c in answer.tied]
    assert found["max_short_cost_percent"] == 5.0
    lines = "\n".join(recommendation_lines(answer, "the command"))
    assert wording.headline(answer) in lines
    assert "the command" in lines
