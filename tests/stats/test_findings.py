"""Each finding on a hand-made run that has it and on one that has not."""

import json
import math

import pytest
from handmade_runs import WINDOW, documents, run_of
from scipy import stats

from ropewalk.report.tables import duplicates
from ropewalk.stats.findings import Finding, findings
from ropewalk.stats.measured import Measured
from ropewalk.stats.power import units_needed

FAR = 4 * WINDOW


def kinds(run: Measured) -> dict[str, Finding]:
    found = findings(run)
    json.dumps([dict(finding.evidence) for finding in found], allow_nan=False)
    return {finding.kind: finding for finding in found}


def test_no_finding_without_evidence() -> None:
    with pytest.raises(ValueError, match="'winner' has no evidence"):
        Finding(kind="winner", sentence="x is best", evidence={}, severity="note")


def test_grid_inside_the_window() -> None:
    finding = kinds(run_of(tail={("none", WINDOW): documents(1)}))["inside_window"]
    assert finding.sentence == (
        "Every length (longest 2,048) lies inside the model's window of 2,048 tokens: "
        "this grid extends nothing and can only show what scaling costs."
    )
    assert finding.evidence == {"lengths": [2048], "window": 2048}
    assert "inside_window" not in kinds(run_of(tail={("none", WINDOW + 1): documents(1)}))


def test_the_shipped_window_decides_unless_the_experiment_says_otherwise() -> None:
    tail = {("none", FAR): documents(1)}
    shipped = {"window": WINDOW, "max_position_embeddings": 131072}
    assert "inside_window" in kinds(run_of(tail=tail, geometry=shipped))
    override = shipped | {"window_source": "window in the experiment"}
    assert "inside_window" not in kinds(run_of(tail=tail, geometry=override))


def test_duplicates() -> None:
    tail = {(label, FAR): documents(1) for label in ("none", "dynamic_ntk factor=2", "dynamic_ntk factor=4", "yarn")}
    same = {(label, FAR): "f00d" for label in ("none", "dynamic_ntk factor=2", "dynamic_ntk factor=4")}
    finding = kinds(run_of(tail=tail, fingerprints=same))["duplicates"]
    assert finding.sentence == (
        "3 of 4 pairs of configuration and length are only 1 different rotation: at 8,192, none, dynamic_ntk factor=2, "
        "dynamic_ntk factor=4 are one measurement, so their equal numbers confirm nothing."
    )
    assert finding.evidence["groups"][0]["fingerprint"] == "f00d"
    listing = duplicates(run_of(tail=tail, fingerprints=same))
    assert listing.columns == ("length", "rotation", "configurations", "which are one measurement")
    assert listing.rows == (("8,192", "f00d", "3", "none, dynamic_ntk factor=2, dynamic_ntk factor=4"),)
    assert listing.numeric == {"length", "configurations"}
    assert "duplicates" not in kinds(run_of(tail=tail))


def test_baseline_that_misses_passkeys_in_its_own_window() -> None:
    found = kinds(run_of(passkey={("none", WINDOW): [1] * 7 + [0] * 13, ("none", FAR): [0] * 20}))
    finding = found["baseline_fails_retrieval"]
    assert finding.sentence.startswith("The unscaled model finds 35 % of 20 passkeys at 2,048, inside its window")
    assert finding.evidence["value"] == 0.35
    assert "retrieval_without_chat_template" not in found
    for good in (
        {("none", WINDOW): [1] * 16 + [0] * 4},
        {("none", FAR): [0] * 20},
        {("yarn", WINDOW): [0] * 20},
    ):
        assert "baseline_fails_retrieval" not in kinds(run_of(passkey=good))


def test_instruct_model_without_its_chat_template() -> None:
    bad = {("none", WINDOW): [1] * 7 + [0] * 13}
    finding = kinds(run_of(passkey=bad, model={"chat_template": True}))["retrieval_without_chat_template"]
    assert "try metrics: {passkey: {template: chat}}" in finding.sentence
    with_it = {"metrics": {"passkey": {"template": "chat"}}}
    assert "retrieval_without_chat_template" not in kinds(
        run_of(passkey=bad, model={"chat_template": True}, experiment=with_it)
    )


def test_too_few_key_tokens() -> None:
    longppl = {("none", FAR): documents(1), ("yarn", FAR): documents(2)}
    reason = "6 key tokens in 8 documents, fewer than 30"
    failed = {("longppl", FAR, label): ("too_few_key_tokens", reason) for label in ("none", "yarn")}
    found = kinds(run_of(longppl=longppl, failed=failed))
    assert f"LongPPL has no value at 8,192: too few tokens depend on the long context (8,192: {reason})" in (
        found["few_key_tokens"].sentence
    )
    assert not {"tied_winner", "clear_winner", "failed_cells", "not_comparable"} & set(found)
    assert "few_key_tokens" not in kinds(run_of(longppl=longppl))


def test_key_tokens_that_end_early() -> None:
    longppl = {("none", FAR): documents(1), ("yarn", FAR): documents(2)}
    remark = "the last key token is token 2000 of 8192: nothing beyond it is measured here"
    remarked = {("longppl", FAR, "yarn"): ("ok", remark)}
    finding = kinds(run_of(longppl=longppl, failed=remarked))["key_tokens_end_early"]
    assert finding.sentence.startswith(f"LongPPL at 8,192 says little about the end of the text (8,192: {remark})")
    assert "key_tokens_end_early" not in kinds(run_of(longppl=longppl))


def test_the_baseline_is_asked_in_the_window_that_the_checkpoint_ships() -> None:
    found = {("none", WINDOW): [1] * 20, ("none", FAR): [0] * 20}
    shipped = {"window": WINDOW, "max_position_embeddings": 131072}
    finding = kinds(run_of(passkey=found, geometry=shipped))["baseline_fails_retrieval"]
    assert (finding.evidence["length"], finding.evidence["window"]) == (FAR, 131072)
    assert "baseline_fails_retrieval" not in kinds(run_of(passkey=found))


def test_failures_and_cells_that_cannot_be_compared() -> None:
    tail = {("none", FAR): documents(1), ("yarn", FAR): documents(2)}
    found = kinds(run_of(tail=tail, failed={("tail", FAR, "yarn"): ("out_of_memory", "needs 90 GB, has 80")}))
    assert found["failed_cells"].sentence == (
        "1 of 2 cells have no value; the first is yarn at 8,192, tail (out_of_memory: needs 90 GB, has 80)."
    )
    assert "not_comparable" not in found
    broken = kinds(run_of(tail={("none", FAR): documents(1), ("yarn", FAR): [math.inf, *documents(2)[1:]]}))
    assert "1 cell takes no part in comparisons; the first is yarn at 8,192" in broken["not_comparable"].sentence
    assert not {"failed_cells", "not_comparable"} & set(kinds(run_of(tail=tail)))


def test_tied_and_clear_winner() -> None:
    tail = {("none", FAR): documents(1, 1.0), ("yarn", FAR): documents(2), ("linear", FAR): documents(3)}
    tied = kinds(run_of(tail=tail))["tied_winner"]
    winner, rival = tied.evidence["members"]
    assert tied.sentence == (
        f"At 8,192, {winner} has the best tail perplexity ({tied.evidence['value']:.4g}), but 1 of 2 others cannot be "
        f"told apart from it with 8 documents: {rival}."
    )
    assert list(tied.evidence["excluded"]) == ["none"]
    tail[("linear", FAR)] = documents(3, 0.5)
    clear = kinds(run_of(tail=tail))["clear_winner"]
    assert clear.sentence.startswith("At 8,192, yarn has the best tail perplexity")
    assert "each of the 2 others is worse" in clear.sentence
    assert not {"tied_winner", "clear_winner"} & set(kinds(run_of(tail={("none", FAR): documents(1)})))


def test_one_measurement_under_two_names_is_no_tie() -> None:
    tail = {("none", FAR): documents(1), ("dynamic_ntk", FAR): documents(1), ("linear", FAR): documents(3, 0.5)}
    found = kinds(run_of(tail=tail))
    assert "tied_winner" not in found
    assert found["clear_winner"].sentence.startswith("At 8,192, none has the best tail perplexity (")
    assert "as has dynamic_ntk, the same measurement, and linear is worse" in found["clear_winner"].sentence


def test_a_difference_smaller_than_its_interval() -> None:
    tail = {("none", FAR): documents(1), ("yarn", FAR): documents(2, -0.001)}
    finding = kinds(run_of(tail=tail))["smaller_than_interval"]
    ratio = finding.evidence["ratio"]
    assert ratio["low"] <= 1 <= ratio["high"]
    assert f"differs from none by {100 * (ratio['value'] - 1):+.1f} %" in finding.sentence
    tail[("yarn", FAR)] = documents(2, -0.2)
    assert "smaller_than_interval" not in kinds(run_of(tail=tail))
    same = {("none", FAR): documents(1), ("yarn", FAR): documents(1)}
    assert "smaller_than_interval" not in kinds(run_of(tail=same))


def test_extending_against_dropping_the_context() -> None:
    tail = {("none", FAR): documents(1, 3.0), ("yarn", FAR): documents(2), ("truncate", FAR): documents(3)}
    worse = kinds(run_of(tail=tail))["not_better_than_dropping"]
    assert worse.severity == "warning"
    assert worse.sentence.startswith(
        "At 8,192 the best of 1 extended configurations, yarn, is not shown to beat dropping"
    )
    assert worse.sentence.endswith("extending has not been shown to pay here.")
    assert worse.evidence["ratio"]["n"] == 8
    tail[("truncate", FAR)] = documents(3, 0.5)
    better = kinds(run_of(tail=tail))
    assert "not_better_than_dropping" not in better
    assert better["better_than_dropping"].sentence.startswith("At 8,192 yarn beats dropping the context")
    assert better["better_than_dropping"].sentence.endswith("; 1 of 1 extended configurations do.")
    assert better["better_than_dropping"].evidence["better"] == ["yarn"]
    tail[("truncate", FAR)] = documents(3, -0.5)
    shown = kinds(run_of(tail=tail))["not_better_than_dropping"]
    assert "does worse than dropping the context" in shown.sentence
    assert shown.sentence.endswith("extending does not pay here.")
    tail[("truncate", FAR)] = documents(3, 0.5)
    del tail[("yarn", FAR)]
    assert not {"better_than_dropping", "not_better_than_dropping"} & set(kinds(run_of(tail=tail)))
    one = {key: values[:1] for key, values in tail.items()} | {("yarn", FAR): [0.1]}
    assert "without an interval, 1 document)" in kinds(run_of(tail=one))["not_better_than_dropping"].sentence


def test_one_of_many_that_alone_would_beat_dropping_says_what_corrects_it() -> None:
    tail = {("none", FAR): documents(1, 3.0), ("yarn", FAR): documents(2, -0.025), ("truncate", FAR): documents(3)}
    alone = kinds(run_of(tail=tail))["better_than_dropping"]
    many = kinds(run_of(tail=tail | {(f"linear {i}", FAR): documents(10 + i, 0.002) for i in range(6)}))
    finding = many["not_better_than_dropping"]
    assert finding.evidence["ratio"] == alone.evidence["ratio"]
    assert finding.evidence["ratio"]["high"] < 1
    assert "documents) once corrected for 7 comparisons: extending has not been shown" in finding.sentence


def test_memorised_texts() -> None:
    tail, large = {("none", FAR): documents(1)}, {"parameters": 1_235_814_400}
    assert "a model of 1.2 billion parameters" in kinds(run_of(tail=tail, model=large))["memorised"].sentence
    assert "memorised" not in kinds(run_of(tail=tail))
    own = {"documents": {"files": ["mine.txt"]}}
    assert "memorised" not in kinds(run_of(tail=tail, model=large, experiment=own))


def test_trials_that_cannot_decide() -> None:
    def found(trials: int, configurations: int) -> dict[str, Finding]:
        return kinds(run_of(passkey={(f"yarn {c}", FAR): [1] * trials for c in range(configurations)}))

    hopeless = found(10, 43)["few_trials"]
    assert hopeless.severity == "warning"
    assert hopeless.evidence["clearest_adjusted_p"] == 1.0
    assert "cannot tell any two of 43" in hopeless.sentence
    assert "at least 16 trials are needed" in hopeless.sentence
    hard = found(16, 43)["few_trials"]
    assert hard.severity == "caution"
    assert "only if at least 16 trials go one way" in hard.sentence
    assert "few_trials" not in found(20, 43)
    assert "few_trials" not in found(1, 1)


def test_documents_that_cannot_decide() -> None:
    def found(n: int) -> dict[str, Finding]:
        return kinds(run_of(tail={("none", FAR): documents(1, n=n), ("yarn", FAR): documents(2, n=n)}))

    assert "One document was measured: no interval and no test is possible" in found(1)["few_documents"].sentence
    three = found(3)["few_documents"]
    assert three.evidence["critical_t"] == pytest.approx(4.302653, rel=1e-6)
    assert three.sentence == (
        "With 3 documents a difference between two of 2 configurations must be 4.3 times its standard error to count "
        "after correction over 1 pair; 8 documents or more are advised (there 2.4 times)."
    )
    assert "few_documents" not in found(8)
    tail = {(f"yarn {c}", FAR): documents(c) for c in range(43)} | {("truncate", FAR): documents(99)}
    many = kinds(run_of(tail=tail))["few_documents"]
    assert (many.severity, many.evidence["pairs"]) == ("caution", 43 * 42 // 2)
    assert many.evidence["critical_t"] == pytest.approx(stats.t.ppf(1 - 0.025 / 903, 7), rel=1e-9)
    advised = many.evidence["advised"]
    assert stats.t.ppf(1 - 0.025 / 903, advised - 1) <= 5 < stats.t.ppf(1 - 0.025 / 903, advised - 2)


def test_documents_needed_for_one_per_cent() -> None:
    tail = {("none", FAR): documents(1, noise=0.05), ("yarn", FAR): documents(2, noise=0.05)}
    finding = kinds(run_of(tail=tail))["documents_needed"]
    evidence = finding.evidence
    assert evidence["documents_needed"] == units_needed(math.log(1.01), evidence["standard_deviation"])
    assert evidence["documents_needed"] > 50
    assert f"takes about {evidence['documents_needed']} documents like these" in finding.sentence
    assert f"the {evidence['documents']} at hand find differences of" in finding.sentence
    assert evidence["detectable_ratio"] == pytest.approx(math.exp(evidence["detectable_nats"]))
    quiet = {("none", FAR): documents(1, noise=1e-4), ("yarn", FAR): documents(2, noise=1e-4)}
    assert "documents_needed" not in kinds(run_of(tail=quiet))


def test_warnings_come_first_and_names_stay_text() -> None:
    evil = "yarn <script>alert('x')</script> \u202eevil \U0001f9e8"
    found = findings(run_of(tail={("none", WINDOW): documents(1), (evil, WINDOW): documents(2)}))
    order = [finding.severity for finding in found]
    assert order == sorted(order, key=["warning", "caution", "note"].index)
    assert any(evil in finding.sentence for finding in found)


@pytest.mark.parametrize(
    "run",
    [
        run_of(tail={("none", FAR): [2.5]}),
        run_of(tail={("none", FAR): [2.5], ("yarn", FAR): [2.4], ("truncate", FAR): [2.6]}),
        run_of(tail={("none", FAR): [2.5, 2.5], ("yarn", FAR): [2.4, 2.4], ("truncate", FAR): [2.4, 2.4]}),
        run_of(tail={("none", FAR): [math.nan] * 4, ("yarn", FAR): [math.inf] * 4}),
        run_of(tail={("none", FAR): [2e3, 3e3], ("yarn", FAR): [2.4, 2.6], ("truncate", FAR): [2e3, 2e3]}),
        run_of(passkey={("none", FAR): [1], ("yarn", FAR): [0]}),
        run_of(
            tail={("none", FAR): [2.5, 2.4], ("yarn", FAR): [2.4, 2.2]},
            failed={("tail", FAR, x): ("error", "boom") for x in ("none", "yarn")},
        ),
    ],
)
def test_poor_runs_give_sentences_and_no_traceback(run: Measured) -> None:
    for kind, finding in kinds(run).items():
        assert kind == "not_comparable" or "nan" not in finding.sentence


def test_evidence_of_a_real_run_is_not_rounded() -> None:
    run = run_of(tail={("none", FAR): documents(1), ("yarn", FAR): documents(2), ("truncate", FAR): documents(3)})
    block = run.blocks[("tail", FAR)]
    evidence = kinds(run)["not_better_than_dropping"].evidence
    assert evidence["ratio"]["high"] == block.paired("yarn", "truncate").interval.high
