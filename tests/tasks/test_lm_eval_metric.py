"""The metric of lm-eval's tasks: its prompts, our passes, and per item the verdict that lm-eval's own model gives."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import sys

import pytest

import ropewalk as rw
from ropewalk.errors import ExperimentError
from ropewalk.experiment.schema import parse
from ropewalk.experiment.verify import verify_rows
from ropewalk.metrics.lm_eval import ACC, BITS, METRIC, NORM, PPL, SAID, LmEval, gather
from ropewalk.metrics.metric import OfPrompt

LENGTH = 96
SENTENCES = ["The rope is long", "A spinner was in the lane", "Anne Elliot and the sea", "tar and hemp", "The walk"]
CHOICE = """
task: choice
output_type: multiple_choice
doc_to_choice: choices
doc_to_target: 0
num_fewshot: 1
fewshot_split: test
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
LAST = """
task: last
output_type: loglikelihood
doc_to_target: "{{choices[2]}}"
metric_list: [{metric: acc}]
"""
SAYS = """
task: says
output_type: generate_until
doc_to_target: said
generation_kwargs: {until: ["e", "\\n"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match}]
"""
LOST = """
task: lost
output_type: loglikelihood
doc_to_target: "{{choices[2]}}"
metric_list: [{metric: perplexity}, {metric: acc}]
"""
ROLLS = """
task: rolls
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{ (text + '. ') * 3 }}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
"""
LOUD = """
task: loud
output_type: generate_until
doc_to_target: shout
generation_kwargs: {until: ["\\n"], max_gen_toks: 4, do_sample: false}
metric_list: [{metric: exact_match, ignore_case: true, ignore_punctuation: true}]
filter_list: [{name: bare, filter: [{function: remove_whitespace}, {function: uppercase}, {function: take_first}]}]
"""
WHOLE = CHOICE.replace("choice", "whole", 1).replace("{metric: acc}, {metric: acc_norm}", "{metric: f1}, {metric: mcc}")
CODED = SAYS.replace("says", "coded") + "process_results: !function judged.judged"
FILTERED = (
    SAYS.replace("says", "filtered")
    + """
filter_list: [{name: number, filter: [{function: regex, regex_pattern: "(\\\\d+)"}]}]
"""
)
NAMES = ["says", "choice", "last"]
SUMS = ["loud", "lost", "rolls"]
WRITTEN = {"choice": CHOICE, "last": LAST, "says": SAYS, "lost": LOST, "rolls": ROLLS, "loud": LOUD}
WRITTEN |= {"filtered": FILTERED, "whole": WHOLE, "coded": CODED}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tasks of every kind, of items on disk."""
    where = tmp_path_factory.mktemp("tasks")
    rows = [
        {"text": text, "choices": [" green", f" {text[-4:]} is", " a"], "said": " a", "shout": "A!"}
        for text in SENTENCES
    ]
    (where / "items.json").write_text("\n".join(map(json.dumps, rows)))
    common = f"""
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{where / "items.json"}"}}}}
test_split: test
"""
    (where / "judged.py").write_text("def judged(doc, results): return {'exact_match': 1.0}")
    for name, text in WRITTEN.items():
        asks = "" if "doc_to_text" in text else "doc_to_text: text\n"
        (where / f"{name}.yaml").write_text(text + common + asks)
    return where


@pytest.fixture(scope="module", autouse=True)
def _offline(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_OFFLINE", "1")
        patch.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def experiment(folder, tiny, texts, **changes):
    return {
        "model": str(tiny),
        "dtype": "float32",
        "lengths": [LENGTH],
        "methods": {"yarn": {"factor": 4.0}},
        "documents": {"files": [f"{texts}/*.txt"], "count": 2},
        "metrics": {"lm_eval": {"tasks": NAMES, "include_path": str(folder), **changes}},
    }


def swept(asked, out, **more):
    names = ("methods", "lengths", "documents", "metrics", "dtype")
    return rw.sweep(asked["model"], **{name: asked[name] for name in names}, out=out, **more)


@pytest.mark.filterwarnings("ignore")
def test_items_are_judged_as_lm_evals_own_model_judges_them(folder, tiny, texts, tmp_path):
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    asked = experiment(folder, tiny, texts)
    run = swept(asked, tmp_path / "run")
    ours = run.samples()
    ours = ours[ours["label"] == "none"].set_index(["metric", "unit"])["numerator"]
    own = HFLM(pretrained=str(tiny), dtype="float32", device="cpu", max_length=LENGTH, batch_size=1)
    theirs = lm_eval.simple_evaluate(
        own, tasks=NAMES, task_manager=TaskManager(include_path=str(folder)), bootstrap_iters=0
    )["samples"]
    scores = [("choice", "acc", ACC), ("choice", "acc_norm", NORM), ("last", "acc", ACC), ("says", "exact_match", SAID)]
    for task, score, column in scores:
        for each in theirs[task]:
            assert ours[column.name, f"{task} {each['doc_id']}"] == each[score], (task, each["doc_id"])
    assert len(ours) == 4 * len(SENTENCES)
    assert set(run.frame()["n"]) == {5, 10}
    assert verify_rows(run.directory)[1] == []
    resumed(asked, run.directory)


@pytest.mark.filterwarnings("ignore")
def test_numbers_that_add_up_are_lm_evals_own(folder, tiny, texts, tmp_path):
    """A perplexity by word and by answer, bits per byte, and exact_match that looks away from case and points."""
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    run = swept(experiment(folder, tiny, texts, tasks=SUMS), tmp_path / "run")
    rows = run.samples()
    rows = rows[rows["label"] == "none"].groupby(["metric", "group"])[["numerator", "denominator"]].sum()
    own = HFLM(pretrained=str(tiny), dtype="float32", device="cpu", max_length=LENGTH, batch_size=1)
    out = lm_eval.simple_evaluate(
        own, tasks=SUMS, task_manager=TaskManager(include_path=str(folder)), bootstrap_iters=0
    )["results"]
    value = rows["numerator"] / rows["denominator"]
    assert value[PPL.name, "rolls"] == pytest.approx(math.log(out["rolls"]["word_perplexity,none"]), abs=1e-4)
    assert value[BITS.name, "rolls"] == pytest.approx(out["rolls"]["bits_per_byte,none"], abs=1e-4)
    assert value[PPL.name, "lost"] == pytest.approx(math.log(out["lost"]["perplexity,none"]), abs=1e-4)
    assert value[ACC.name, "lost"] == out["lost"]["acc,none"]
    assert value[SAID.name, "loud"] == out["loud"]["exact_match,bare"]
    assert set(value.index) == {(PPL.name, "rolls"), (BITS.name, "rolls"), (PPL.name, "lost"), (ACC.name, "lost")} | {
        (SAID.name, "loud")
    }
    assert verify_rows(run.directory)[1] == []


def test_what_was_said_is_compared_as_the_task_asks():
    def said(text, **how):
        facts = {"task": "t", "document": 0, "part": 0, "parts": 1, "stop": ["\n"], "references": ["Forty-2"], **how}
        return OfPrompt(unit="0", facts=facts, answer=None, predicted=[1], nll=None, text=text)

    held = [{"task": "t", "prompts": 1, "new_tokens": 9, "normalized": False, "sha256": "0" * 16}]
    options = LmEval.model_validate({"tasks": ["t"], "held": held})
    for text, how, right in (
        (" forty2.\nmore", {"filters": ["remove_whitespace"], "ignores": ["ignore_case", "ignore_punctuation"]}, 1.0),
        (" forty2.", {"ignores": ["ignore_case", "ignore_punctuation"]}, 0.0),
        (" forty2.", {"filters": ["remove_whitespace"], "ignores": ["ignore_punctuation"]}, 0.0),
        ("Forty-3", {"ignores": ["ignore_numbers"]}, 1.0),
        ("Forty-2", {}, 1.0),
        ("Forty-2###more\nrest", {"stop": ["\n", "###"]}, 1.0),
        ("Forty-2", {"filters": ["take_first", "uppercase"]}, 0.0),
    ):
        assert [each.numerator for each in gather(SAID, options, [said(text, **how)])] == [right], (text, how)


def resumed(asked, out):
    """A run that lost answers asks for those alone, and comes to the same."""
    before = values(rw.Run.open(out))
    with contextlib.closing(sqlite3.connect(out / "run.sqlite")) as db, db:
        db.execute("DELETE FROM cells")
        db.execute("DELETE FROM answers WHERE rowid % 3 = 0")
    assert values(swept(asked, out)) == before


def values(run):
    kept = ["label", "metric", "value", "n"]
    return run.frame()[kept].sort_values(kept[:2]).to_numpy().tolist()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("tasks", "why"),
    [
        (["filtered"], r"filtered cannot be .*: exact_match comes after filters \(regex\); .*harness.evaluate"),
        (["coded"], r"coded cannot be judged .*: exact_match comes of code of its own \(process_results\)"),
        (
            ["whole"],
            r"whole .*: f1 is a number of the whole set \(f1\), .* has a share; mcc is .*\(matthews_corrcoef\)",
        ),
        (["choyce"], "lm-eval knows no task 'choyce'; `lm-eval ls tasks` lists"),
    ],
)
def test_tasks_that_cannot_be_judged_again_are_refused(folder, tiny, texts, tasks, why):
    pytest.importorskip("lm_eval")
    with pytest.raises(ExperimentError, match=why):
        parse(experiment(folder, tiny, texts, tasks=tasks), "here")


@pytest.mark.filterwarnings("ignore")
def test_a_text_longer_than_the_length_is_refused_with_its_tokens(folder, tiny, texts, tmp_path):
    pytest.importorskip("lm_eval")
    asked = experiment(folder, tiny, texts, tasks=["rolls"])
    with pytest.raises(ExperimentError, match=r"document 0 of rolls has \d+ tokens, and a length of 16 holds one less"):
        swept(asked | {"lengths": [16]}, tmp_path / "run")


def test_without_lm_eval_the_extra_is_named_before_anything_else(folder, tiny, texts, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(ExperimentError, match=r"pip install 'ropewalk\[lm-eval\]'"):
        parse(experiment(folder, tiny, texts, tasks=["arc_easy"]), "here")


def test_what_a_run_recorded_is_read_without_lm_eval(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    held = [
        {"task": "arc", "prompts": 8, "new_tokens": 0, "normalized": False, "sha256": "0" * 16},
        {"task": "gsm", "prompts": 3, "new_tokens": 9, "normalized": False, "sha256": "1" * 16},
    ]
    options = LmEval.model_validate({"tasks": ["gsm", "arc"], "held": held})
    fed, said = METRIC.asks(ACC, options, LENGTH, LENGTH), METRIC.asks(SAID, options, LENGTH, LENGTH)
    assert (fed.first, fed.count, fed.new_tokens, said.first, said.count, said.new_tokens) == (0, 8, 0, 8, 3, 9)
    assert METRIC.asks(NORM, options, LENGTH, LENGTH) is None
    assert [each["task"] for each in METRIC.facts(options, LENGTH, 0)] == ["arc"] * 8 + ["gsm"] * 3


def test_choices_decide_together_and_length_is_taken_out_for_acc_norm():
    def choice(part, nll, document=0):
        facts = {"task": "t", "document": document, "part": part, "parts": 2, "gold": [1], "characters": [1, 4]}
        return OfPrompt(unit=str(part), facts=facts, answer=[1], predicted=[2, 3], nll=nll, text="")

    units = [choice(0, [1.0]), choice(1, [2.0, 1.0]), choice(0, [9.0], document=1)]
    held = [{"task": "t", "prompts": 4, "new_tokens": 0, "normalized": True, "sha256": "0" * 16}]
    options = LmEval.model_validate({"tasks": ["t"], "held": held})
    assert [(each.unit, each.numerator) for each in gather(ACC, options, units)] == [("t 0", 0.0)]
    assert [(each.unit, each.numerator) for each in gather(NORM, options, units)] == [("t 0", 1.0)]
