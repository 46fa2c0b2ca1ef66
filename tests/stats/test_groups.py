"""Groups of units, such as tasks: what is kept how far, where two readings disagree, and what says nothing.

Every number is chosen by hand: a run of two tasks, "easy" and "hard", read twice, at 256 (the window) to 1024.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ropewalk.errors import ExperimentError
from ropewalk.report.by_group import disagreement_table, profile, reach_table, sections
from ropewalk.report.palette import styles
from ropewalk.report.recommend import recommend
from ropewalk.report.study import known
from ropewalk.stats.findings import groups as found
from ropewalk.stats.groups import Reach, absolute, disagreements, kept, relative
from ropewalk.stats.measured import measured

LOSS, SCORE = known()["answer_nll"], known()["generated"]
SAMPLES = 8
SCORES = {
    "none": {"easy": (1, 1, 0), "hard": (1, 0, 0)},
    "yarn": {"easy": (1, 1, 1), "hard": (1, 1, 0.5)},
}


def run(scores=SCORES, losses=None, order=1, alike=()):
    """Metrics `alike` say what `generated` does.

    The mean of a task is the number above; half of the samples lie a little over, half under, all by name."""
    losses = losses or {
        label: {task: tuple(1 - v for v in values) for task, values in tasks.items()} for label, tasks in scores.items()
    }
    rows, samples = [], []
    every = [("answer_nll", *own) for own in losses.items()] + [
        (metric, *own) for metric in ("generated", *alike) for own in scores.items()
    ]
    for metric, label, tasks in every:
        for place, length in enumerate((256, 512, 1024)):
            name = {"label": label, "method": label, "length": length, "metric": metric}
            rows.append(
                name
                | {"asked": {}, "value": 0.0, "ci_low": 0.0, "ci_high": 0.0, "n": 2 * SAMPLES, "status": "ok"}
                | {"reason": "", "fingerprint": f"{label} {length}"}
            )
            units = [
                {
                    "unit": f"{task} {i}",
                    "numerator": values[place] + 0.01 * (-1) ** i,
                    "denominator": 1.0,
                    "group": task,
                }
                for task, values in tasks.items()
                for i in range(SAMPLES)
            ]
            samples += [name | unit | {"depth": np.nan} for unit in (units if label == "none" else units[::order])]
    meta = {"geometry": {"window": 256, "max_position_embeddings": 256}}
    return measured(pd.DataFrame(rows), pd.DataFrame(samples), meta, known())


def test_effective_lengths_are_relative_to_the_unscaled_model_and_absolute():
    own = relative(run(), SCORE)
    assert own["none", ""] == Reach(length=256, lost_at=512)
    assert own["none", "easy"] == Reach(length=512, lost_at=1024)
    assert own["yarn", "easy"] == Reach(length=1024, lost_at=None)
    assert own["yarn", "hard"] == Reach(length=512, lost_at=1024)
    assert own["yarn", ""] == Reach(length=512, lost_at=1024)
    assert absolute(run(), SCORE) == {"none": Reach(length=256, lost_at=512), "yarn": Reach(length=512, lost_at=1024)}
    assert absolute(run(), LOSS) == {}


def test_a_loss_is_kept_while_each_token_keeps_its_share_of_probability():
    assert kept(LOSS, 1.16, 1.0)
    assert not kept(LOSS, 1.17, 1.0)
    assert kept(SCORE, 0.85, 1.0)
    assert not kept(SCORE, 0.849, 1.0)


def test_units_pair_by_name_whatever_their_order():
    assert relative(run(order=-1), SCORE) == relative(run(), SCORE)
    there, back = (r.block("generated", 512).paired("yarn", "none").interval for r in (run(), run(order=-1)))
    assert there == back


def test_readings_that_say_opposite_things_are_found():
    assert disagreements(run()) == []
    losses = {"none": {"easy": (1, 1, 1), "hard": (1, 1, 1)}, "yarn": {"easy": (1, 1, 1), "hard": (1, 2, 1)}}
    wavy = {"none": {"easy": (1, 1, 0), "hard": (1, 0, 0)}, "yarn": {"easy": (1, 1, 0), "hard": (1, 1, 0)}}
    made = run(wavy, losses)
    for block in (made.blocks["answer_nll", 512], made.blocks["generated", 512]):  # differences need some spread
        block.numerators_CN[1] += np.linspace(0, 0.01, 2 * SAMPLES)
    (only,) = [each for each in disagreements(made) if each.group == "hard"]
    assert (only.length, only.label) == (512, "yarn")
    assert only.loss == pytest.approx(1, abs=0.02)
    assert only.score == pytest.approx(1, abs=0.02)
    told = disagreement_table(made)
    assert told.columns == ("length", "task", "configuration", "loss against none", "score against none")
    assert told.rows[-1][:3] == ("512", "hard", "yarn")


def test_tasks_that_say_nothing_are_named():
    assert found.saturated(run()) == found.hopeless(run()) == []
    full = run({label: {"easy": (1, 1, 1), "hard": (0, 0, 0)} for label in ("none", "yarn")})
    (saturated,), (hopeless,) = found.saturated(full), found.hopeless(full)
    assert saturated.evidence == {"metric": "generated", "groups": {"easy": 1.0}, "at_least": 0.95}
    assert list(hopeless.evidence["groups"]) == ["hard"]
    assert "at most 5 % of hard" in hopeless.sentence
    assert hopeless.evidence == {"metric": "generated", "groups": {"hard": 0.0}, "at_most": 0.05}
    scaled = run({"none": {"easy": (1, 1, 1), "hard": (1, 0, 0)}, "yarn": {"easy": (1, 1, 1), "hard": (0, 0, 0)}})
    assert found.hopeless(scaled) == []  # what another fails, or fails beyond the window, can still be lost
    few = [each for each in found.too_few_samples(full) if each.evidence["metric"] == "generated"]
    assert [each.evidence["length"] for each in few] == [512, 1024]
    assert few[0].evidence["groups"] == ["easy", "hard"]
    assert "with 8 samples each (nor do all together)" in few[0].sentence


def test_a_loss_alone_says_what_is_hopeless_and_names_every_task():
    """Grids feed answers in: a right one of which each token has a quarter at most, ln 4 = 1.386 nats, is not there."""
    names = [f"task{i}" for i in range(6)]
    losses = {
        label: {"easy": (0.5, 4, 4), "near": (1.38, 4, 4)} | dict.fromkeys(names, (1.39, 4, 4))
        for label in ("none", "yarn")
    }
    (only,) = found.hopeless(run({}, losses))
    assert only.evidence["metric"] == "answer_nll"
    assert list(only.evidence["groups"]) == names
    assert only.evidence["at_least"] == pytest.approx(np.log(4), abs=1e-12)
    assert only.sentence.startswith(
        "Nats per token of the right answer: even inside its window of 256 the unscaled model gives each token of the "
        "right answer at most 25 % (geometric mean) in task0, task1, task2, task3, task4, task5; "
    )
    assert only.severity == "warning"


def test_the_page_shows_every_task_what_is_lost_first_and_each_profile():
    one = run()
    loss, score = sections(one, {"yarn": "yarn"}, styles(["none", "yarn"]))
    assert [figure.title for figure in score.figures] == ["easy", "hard"]
    assert all(figure.small and figure.spec is not None for figure in (*loss.figures, *score.figures))
    assert reach_table(one, SCORE).rows == (
        ("none", "256", "256", "at 512: hard"),
        ("yarn", "512", "512", "at 1,024: hard"),
    )
    assert profile(one, SCORE, "yarn").rows == (
        ("easy", "1", "1", "1"),
        ("hard", "1", "1", "0.5"),
        ("all", "1", "1", "0.75"),
    )
    assert "Where it disagrees" in score.tables[-1].title
    assert "Where it disagrees" not in loss.tables[-1].title


def test_no_column_of_tasks_is_left_out_of_the_page():
    every = run(alike=("lm_eval", "lm_eval_norm", "lm_eval_said", "ruler"))
    anchors = [section.anchor for section in sections(every, {"yarn": "yarn"}, styles(["none", "yarn"]))]
    assert anchors == [f"groups-{place}" for place in range(len(every.grouped))]
    assert len(anchors) == 6


def test_a_choice_can_be_by_either_reading():
    assert recommend(run(), 1024, by="generated").choice.label == "yarn"
    assert recommend(run(), 1024, by="answer_nll").column == LOSS
    assert recommend(run(), 1024, by="tasks").column == LOSS
    with pytest.raises(ExperimentError, match="must be one of perplexity, tasks, answer_nll, generated, both"):
        recommend(run(), 1024, by="nothing")
    with pytest.raises(ExperimentError, match="there are no perplexities at 1024 tokens"):
        recommend(run(), 1024, by="perplexity")
