"""What one document does to a best set, what ranks say of it, and how much each question of a report is corrected."""

import math

import numpy as np
from blocks_for_tests import nll_block, passkey_block
from handmade_runs import WINDOW, documents, run_of

from ropewalk.stats.best import best_set
from ropewalk.stats.findings import findings
from ropewalk.stats.findings.quality import against_dropping, questions
from ropewalk.stats.paired import holm
from ropewalk.stats.robust import by_ranks, most_influential

FAR = 4 * WINDOW
EVEN = np.array([-1.5, -1.0, -0.5, -0.1, 0.1, 0.5, 1.0, 1.5])


def one_bad_document() -> dict[str, np.ndarray]:
    """b is .1 nats worse than a on every document, but a fails by 2 nats on document 5."""
    a, b = 2.5 + 0.01 * EVEN, 2.6 + 0.01 * EVEN[::-1]
    a[5] += 2
    return {"a": a, "b": b}


def test_the_document_without_which_the_set_is_another_one() -> None:
    block = nll_block(one_bad_document())
    assert set(best_set(block).members) == {"a", "b"}
    most = most_influential(block)
    assert most is not None
    assert (most.unit, most.members) == ("document 5", ("a",))


def test_a_set_that_no_document_changes() -> None:
    assert most_influential(nll_block({"a": 2.5 + 0.01 * EVEN, "b": 2.6 + 0.01 * EVEN[::-1]})) is None
    assert most_influential(nll_block({"a": [2.0, 2.1], "b": [3.0, 3.2]})) is None  # without one there is no test
    assert most_influential(passkey_block({"a": [1] * 9, "b": [0] * 9})) is None


def test_a_document_that_holds_all_key_tokens_is_not_left_out() -> None:
    block = nll_block(one_bad_document(), metric="longppl")
    block.numerators_CN[:, :5] = block.numerators_CN[:, 6:] = 0
    block.denominators_CN[:, :5] = block.denominators_CN[:, 6:] = 0
    assert most_influential(block) is None


def test_ranks_are_not_swayed_by_one_failure() -> None:
    """Four configurations in a fixed order on 15 of 16 documents; on the last the first one fails."""
    rng = np.random.default_rng(3)
    values = {label: 2.5 + 0.1 * i + 0.01 * rng.standard_normal(16) for i, label in enumerate("abcd")}
    values["a"][-1] += 9
    block = nll_block(values)
    assert best_set(block).winner == "b"
    assert by_ranks(block) == ("a", "b")


def test_the_critical_difference_is_nemenyis() -> None:
    """Demsar (2006), section 3.2.2: 4 classifiers on 14 data sets, q .05 = 2.569, critical difference 1.25."""
    shift = 1.25 * 14  # of the sum of ranks that a mean rank has to be above the lowest
    ranks = np.array([[1, 2, 3, 4]] * 14, dtype=float).T
    lowest, second = ranks[0], ranks[1]
    assert by_ranks(nll_block(dict(zip("abcd", ranks, strict=True)))) == ("a", "b")  # 1.0 apart
    swapped = 4
    ranks[1, :swapped], ranks[2, :swapped] = 3, 2  # b: 1.286 above a, beyond 1.25
    assert second.sum() - lowest.sum() > shift
    assert by_ranks(nll_block(dict(zip("abcd", ranks, strict=True)))) == ("a",)
    ranks[1, 3], ranks[2, 3] = 2, 3  # 1.214 above
    assert second.sum() - lowest.sum() < shift
    assert by_ranks(nll_block(dict(zip("abcd", ranks, strict=True)))) == ("a", "b")


def test_the_report_says_both() -> None:
    values = {(label, FAR): each.tolist() for label, each in one_bad_document().items()}
    said = {finding.kind: finding for finding in findings(run_of(tail=values))}
    assert said["one_document"].sentence == (
        "At 8,192 2 of 2 configurations could be the best (b, a); without one document, tail 5, it would be 1 (a)."
    )
    assert said["ranks_differ"].severity == "caution"  # the winner by means is not among the best by ranks
    assert said["ranks_differ"].sentence == (
        "At 8,192 ranks within documents, which a few failures cannot sway, would leave out 1 (b) as possibly the "
        "best; lowest on average ranks a."
    )
    rng = np.random.default_rng(3)
    order = {(c, FAR): (2.5 + 0.1 * i + 0.01 * rng.standard_normal(8)).tolist() for i, c in enumerate("abcdefg")}
    (told,) = [f.sentence for f in findings(run_of(tail=order)) if f.kind == "ranks_differ"]
    assert told == (
        "At 8,192 ranks within documents, which a few failures cannot sway, would keep 3 more (b, c, d) as possibly "
        "the best; lowest on average ranks a."
    )


def test_the_longest_length_has_its_own_five_per_cent_and_the_others_share_one() -> None:
    tail = {(label, n): documents(i) for n in (512, 1024, 2048, FAR) for i, label in enumerate(("none", "yarn"))}
    found = [(block.lengths[0], alpha, lengths) for block, alpha, lengths in questions(run_of(tail=tail))]
    assert found == [(512, 0.05 / 3, 3), (1024, 0.05 / 3, 3), (2048, 0.05 / 3, 3), (FAR, 0.05, 1)]
    (alone,) = questions(run_of(tail={key: value for key, value in tail.items() if key[1] == FAR}))
    assert alone[1:] == (0.05, 1)


def test_a_clear_winner_says_what_its_five_per_cent_are_of() -> None:
    tail = {(label, n): documents(i, i) for n in (512, 1024, FAR) for i, label in enumerate(("none", "yarn"))}
    said = [f.sentence for f in findings(run_of(tail=tail)) if f.kind == "clear_winner"]
    assert [text.split("(")[-1] for text in said] == [
        "at most 5 % chance of any error at these 2 lengths, failures on texts unlike these aside).",
        "at most 5 % chance of any error at these 2 lengths, failures on texts unlike these aside).",
        "at most 5 % chance of any error, failures on texts unlike these aside).",
    ]


def test_dropping_the_context_is_one_question_over_all_lengths() -> None:
    labels = ("none", "yarn", "linear", "truncate")
    tail = {(label, n): documents(7 * i + n) for n in (FAR, 2 * FAR) for i, label in enumerate(labels)}
    found = against_dropping(run_of(tail=tail))
    rows = [row for each in found.values() for row in each]
    assert [(length, row.label) for length, each in found.items() for row in each] == [
        (FAR, "yarn"),
        (FAR, "linear"),
        (2 * FAR, "yarn"),
        (2 * FAR, "linear"),
    ]
    assert [row.adjusted_p for row in rows] == holm([row.paired.p for row in rows])


def test_ranks_rarely_part_what_does_not_differ() -> None:
    rng = np.random.default_rng(5)
    values = 2.5 + 0.05 * rng.standard_normal((200, 7, 8))
    parted = [len(by_ranks(nll_block(dict(zip("abcdefg", run, strict=True))))) < 7 for run in values]
    assert np.mean(parted) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 200)
