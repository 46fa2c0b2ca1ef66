"""What a report claims: which methods are worse, how far a configuration reaches, which question has which 5 %."""

import numpy as np
from studies import frames, study

from ropewalk.report.content import content
from ropewalk.report.ranking import by_method, reach
from ropewalk.stats.best import best_set
from ropewalk.stats.crossfit import cross_fit


def verdicts(run, block):
    return {row[0]: row[4] for row in by_method(run, block).rows}


def test_a_method_is_worse_only_if_all_of_its_configurations_left_the_best_set():
    """linear 2 and 4 are as good as yarn, each on its own half of the documents; what one half chooses fails on the
    other, so that the held-out value is worse than yarn's on every document."""
    asked = frames({"linear": {"factor": [2, 4]}, "yarn": {"factor": 2}}, (8192,), metrics={"perplexity": {}})
    swing = 0.1 * (-1.0) ** np.arange(8)
    means = {"none": 1.0, "yarn factor=2": 0.0, "linear factor=2": swing, "linear factor=4": -swing}
    for label, mean in means.items():
        cells = (asked.samples.metric == "tail") & (asked.samples.label == label)
        noise = np.random.default_rng(len(label)).standard_normal(8)
        asked.samples.loc[cells, "numerator"] = (2.5 + mean + 0.01 * noise) * 512
    run = asked.study().run
    block = run.block("tail", 8192)
    fitted = cross_fit(block, run.configurations)
    assert fitted.block.paired("linear", "yarn").p < 0.001
    assert verdicts(run, block)["linear"] in ("best, tied", "tied with the best")
    assert verdicts(run, block)["none"] == "worse"


def test_no_method_is_worse_for_what_choosing_on_half_the_documents_does_to_it():
    """Runs in which nothing differs: held-out values alone would call some method worse in more of them."""
    rng = np.random.default_rng(2)
    asked = frames(
        {"linear": {"factor": [2, 3, 4]}, "yarn": {"factor": [2, 3, 4]}}, (8192,), metrics={"perplexity": {}}
    )
    run = asked.study().run
    block = run.block("tail", 8192)
    ours, held_out = [], []
    for _ in range(250):
        block.numerators_CN[:] = (2.5 + 0.05 * rng.standard_normal(block.numerators_CN.shape)) * 512
        ours.append("worse" in verdicts(run, block).values())
        held_out.append(bool(best_set(cross_fit(block, run.configurations).block).excluded))
    assert np.mean(ours) <= 0.05
    assert np.mean(ours) < np.mean(held_out)


def test_reach_is_held_against_dropping_the_context_at_the_same_length():
    """The end of the long texts is easy for everybody: yarn is 15 % worse there than dropping the context."""
    asked = frames({"yarn": {"factor": 4}}, (2048, 8192), metrics={"perplexity": {}})
    at = {
        label: asked.samples[(asked.samples.label == label) & (asked.samples.metric == "tail")]
        for label in ("none", "truncate")
    }
    rng = np.random.default_rng(4)
    inside = at["none"][at["none"].length == 2048].numerator.to_numpy()
    for label, length, worse in (
        ("yarn factor=4", 2048, 0.0),
        ("truncate", 8192, -0.3),
        ("yarn factor=4", 8192, -0.16),
    ):
        cells = (asked.samples.label == label) & (asked.samples.metric == "tail") & (asked.samples.length == length)
        asked.samples.loc[cells, "numerator"] = inside + (worse + 0.01 * rng.standard_normal(8)) * 512
    run = asked.study().run
    assert run.row("yarn factor=4", "tail", 8192) is not None
    assert reach(run, "yarn factor=4") == "2,048 (tail)"
    assert reach(run, "none") == "2,048 (tail)"


def test_the_page_says_what_its_levels_are_and_which_question_is_corrected():
    made = {section.anchor: section for section in content(study({"yarn": {"factor": [2, 4]}})).sections}
    for anchor in ("ratio", "tail", "table"):
        assert "Values are of the first tokens of each document, which are unlike the rest of it" in made[anchor].lead
        assert "cover about 90 %" in made[anchor].lead
    assert "The page asks four questions, each with a chance of at most 5 % of any false answer" in made["ranking"].lead
    titles = {listing.title: "exploratory" in listing.title for listing in made["ranking"].tables}
    assert titles == {
        "By method, at 8,192": False,
        "Top ten at 8,192, exploratory": True,
        "Best per length, exploratory: each row is corrected for itself alone": True,
        "Do the metrics agree? Rank correlations within a length, exploratory": True,
    }
    assert all(made[anchor].lead.startswith("Exploratory") for anchor in ("ratio", "position", "pareto"))
