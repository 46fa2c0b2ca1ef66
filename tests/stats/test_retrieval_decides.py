"""Among configurations that perplexity cannot tell apart, passkeys decide where their test does."""

import json

import pytest
from handmade_runs import documents, run_of

from ropewalk.errors import ExperimentError
from ropewalk.report import wording
from ropewalk.report.printing import recommendation_json, recommendation_lines
from ropewalk.report.recommend import recommend

LLAMA, YARN, LINEAR = "llama3 factor=4", "yarn factor=4", "linear factor=4"


def found(count, trials=20):
    return [1.0] * count + [0.0] * (trials - count)


def made(llama=9, yarn=20, **more):
    """llama3 and yarn tie in tail perplexity, llama3 ahead; linear is far worse and finds all."""
    tail = {(LLAMA, 4096): documents(1, 0.0, 0.05), (YARN, 4096): documents(2, 0.02, 0.05)}
    tail |= {(LINEAR, 4096): documents(3, 1.0), ("none", 4096): documents(4, 2.0)}
    shares = {LLAMA: llama, YARN: yarn, LINEAR: 20, "none": 0}
    return run_of(tail=tail, passkey={(label, 4096): found(n) for label, n in shares.items()} | more)


def test_the_tied_that_finds_more_is_chosen_and_the_sentence_says_why():
    answer = recommend(made(), 4096)
    assert (answer.column.name, answer.choice.label, answer.tied) == ("tail", YARN, ())
    ((candidate, p),) = answer.outdone
    assert candidate.label == LLAMA
    assert p == pytest.approx(2 * 0.5**11)  # 11 trials go one way and none the other
    assert wording.headline(answer) == (
        f"For 4,096 tokens, use {YARN}, chosen over {LLAMA} for its passkeys (100 % against 45 %)."
    )
    assert wording.confidence(answer) == (
        "Each of the 2 others is worse, at most 5 % chance of any error, failures on texts unlike these aside (8 "
        "documents). llama3 factor=4 is not told apart in tail perplexity, and finds fewer passkeys, p < 0.001 "
        "(exact McNemar, Holm)."
    )
    assert any(
        text.startswith(f"If tail perplexity alone decides (--by perplexity): {LLAMA} (")
        for text in wording.would_change(answer)
    )
    said = json.loads(json.dumps(recommendation_json(answer, None), allow_nan=False))
    assert [(c["label"], c["p_holm"]) for c in said["find_less"]] == [(LLAMA, p)]
    assert said["by"] == "both"
    assert wording.headline(answer) in list(recommendation_lines(answer, None))


def test_p_is_corrected_for_all_pairs_of_the_tied():
    others = {f"yarn factor={n}": documents(n, 0.06, 0.1) for n in (5, 6, 7)}
    tail = {(LLAMA, 4096): documents(1, 0.0, 0.05), (YARN, 4096): documents(2, 0.02, 0.05)}
    tail |= {(label, 4096): values for label, values in others.items()}
    trials = {(LLAMA, 4096): found(13), (YARN, 4096): found(20)}
    trials |= {(label, 4096): found(20 - lost) for lost, label in enumerate(others, 1)}
    run = run_of(tail=tail, passkey=trials)
    assert 2 * 0.5**7 < 0.05 < 10 * 2 * 0.5**7  # one pair alone would decide, one of ten does not
    answer = recommend(run, 4096)
    assert (answer.choice.label, answer.outdone) == (LLAMA, ())
    assert len(answer.tied) == 4


def test_what_its_test_cannot_tell_apart_stays_with_perplexity():
    answer = recommend(made(llama=18), 4096)
    assert (answer.choice.label, answer.outdone) == (LLAMA, ())
    assert wording.headline(answer) == f"For 4,096 tokens, use {LLAMA} or the one tied with it."


def test_perplexity_alone_where_asked():
    answer = recommend(made(), 4096, by="perplexity")
    assert (answer.choice.label, [c.label for c in answer.tied]) == (LLAMA, [YARN])


def test_passkeys_alone_where_asked_equal_shares_in_the_order_of_perplexity():
    answer = recommend(made(), 4096, by="passkey")
    assert (answer.column.name, answer.choice.label, [c.label for c in answer.tied]) == ("passkey", YARN, [LINEAR])
    assert answer.same == ()  # all found by both, and two measurements
    assert answer.choice.cost is None


def test_a_smallest_share_excludes_and_names_what_it_excludes():
    answer = recommend(made(), 4096, by="perplexity", min_found=0.9)
    assert answer.choice.label == YARN
    assert [c.label for c in answer.too_few_found] == [LLAMA]
    assert "Fewer passkeys than 90 % would allow llama3 factor=4 (45 % [26 %, 66 %])." in wording.would_change(answer)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"by": "vibes"}, "--by vibes: must be one of perplexity, passkey, both; write one of these."),
        ({"min_found": 1.5}, "min-found 1.5: must be a share from 0 to 1, for example 0.9."),
        ({"min_found": float("nan")}, "min-found nan: must be a share from 0 to 1, for example 0.9."),
    ],
)
def test_refuses_what_cannot_be(asked, said):
    with pytest.raises(ExperimentError) as refusal:
        recommend(made(), 4096, **asked)
    assert str(refusal.value) == said


def test_refuses_where_no_passkeys_or_no_perplexities_were_measured():
    tails = run_of(tail={("none", 4096): documents(1), (YARN, 4096): documents(2)})
    with pytest.raises(ExperimentError, match=r"--by passkey: must be one of perplexity, both; write one of these\."):
        recommend(tails, 4096, by="passkey")
    with pytest.raises(
        ExperimentError, match=r"min-found 0.5: nothing that counts what is found was measured at 4096; leave it out"
    ):
        recommend(tails, 4096, min_found=0.5)
    keys = run_of(passkey={("none", 4096): found(3), (YARN, 4096): found(20)})
    with pytest.raises(ExperimentError, match="--by perplexity: there are no perplexities at 4096 tokens or beyond"):
        recommend(keys, 4096, by="perplexity")
    with pytest.raises(ExperimentError, match=r"min-found 1: no configuration finds so many .* most is 0.5"):
        recommend(run_of(passkey={("none", 4096): found(10), (YARN, 4096): found(4)}), 4096, min_found=1.0)
