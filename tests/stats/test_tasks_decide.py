"""Among configurations that perplexity cannot tell apart, the answers to tasks decide where their test does."""

import json

import pytest
from handmade_runs import documents, run_of

from ropewalk.report import wording
from ropewalk.report.printing import recommendation_json
from ropewalk.report.recommend import recommend

LLAMA, YARN, NONE = "llama3 factor=4", "yarn factor=4", "none"


def spread(mean, seed=0, n=20):
    """Numbers around a mean, of tasks that differ among each other more than configurations do."""
    return [mean + 0.3 * (i % 5 - 2) + 0.01 * ((7 * i + 3 * seed) % 11 - 5) for i in range(n)]


def made(llama=1.4, yarn=0.6, **more):
    """llama3 and yarn tie in tail perplexity, llama3 ahead; none is far worse."""
    tail = {(LLAMA, 4096): documents(1, 0.0, 0.05), (YARN, 4096): documents(2, 0.02, 0.05)}
    losses = {LLAMA: spread(llama, 1), YARN: spread(yarn, 2), NONE: spread(3.0, 3)}
    nll = {(label, 4096): values for label, values in losses.items()}
    return run_of(tail=tail | {(NONE, 4096): documents(4, 2.0)}, answer_nll=nll, **more)


def test_both_takes_the_tied_that_answers_better_and_says_why():
    answer = recommend(made(), 4096)
    assert (answer.column.name, answer.second and answer.second.name) == ("tail", "answer_nll")
    assert (answer.choice.label, [c.label for c, _ in answer.outdone]) == (YARN, [LLAMA])
    unit = "nats per token of the right answer"
    assert wording.headline(answer) == (
        f"For 4,096 tokens, use {YARN}, chosen over {LLAMA} for its answers (0.5985 against 1.401 {unit})."
    )
    assert f"is not told apart in tail perplexity, and worse in {unit}, p < 0.001 (paired t, Holm)." in (
        wording.confidence(answer)
    )
    assert wording.facts(answer)["Nats per token of the right answer at 4,096"].startswith("0.5985 [")
    assert recommendation_json(answer, None)["retrieval"] == "answer_nll"
    assert recommend(made(), 4096, by="perplexity").choice.label == LLAMA
    assert recommend(made(), 4096, by="tasks").choice.label == YARN


def test_what_answers_do_not_tell_apart_stays_with_perplexity_and_is_said():
    answer = recommend(made(llama=0.61), 4096)
    assert (answer.choice.label, answer.outdone) == (LLAMA, ())
    assert any(
        text.startswith(f"If nats per token of the right answer decides: {YARN} (0.5985")
        for text in wording.would_change(answer)
    )


def test_tasks_decide_before_shares_of_one_kind_of_prompt():
    keys = {(LLAMA, 4096): [1.0] * 20, (YARN, 4096): [0.0] * 20, (NONE, 4096): [0.0] * 20}
    assert recommend(made(passkey=keys), 4096).choice.label == YARN
    assert recommend(made(passkey=keys), 4096, min_found=0.5).choice.label == LLAMA


def test_without_perplexities_one_reading_breaks_the_ties_of_the_other():
    nll = {(LLAMA, 4096): spread(1.0, 1), (YARN, 4096): spread(1.001, 2)}
    said = {(LLAMA, 4096): spread(0.2, 1), (YARN, 4096): spread(0.5, 2)}
    answer = recommend(run_of(answer_nll=nll, generated=said), 4096)
    assert (answer.column.name, answer.second and answer.second.name) == ("answer_nll", "generated")
    assert answer.choice.label == YARN
    assert any("alone decides (--by answer_nll): llama3 factor=4" in text for text in wording.would_change(answer))
    json.dumps(recommendation_json(answer, None), allow_nan=False)


def test_a_smallest_share_is_one_of_answers_where_no_other_share_is_counted():
    said = {(LLAMA, 4096): spread(0.2, 1), (YARN, 4096): spread(0.5, 2), (NONE, 4096): spread(0.0, 3)}
    answer = recommend(made(yarn=1.41, generated=said), 4096, min_found=0.4)
    assert (answer.choice.label, [c.label for c in answer.too_few_found]) == (YARN, [LLAMA])
    assert answer.choice.found is not None
    assert answer.choice.found.value == pytest.approx(0.5, abs=0.01)
    assert "Fewer answers than 40 % would allow llama3 factor=4 (0.2015 [" in " ".join(wording.would_change(answer))
