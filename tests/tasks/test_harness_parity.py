"""lm-eval's own model and ours give the same results document by document, under `none` and under yarn exported to a
directory; with lm-eval alone, which [dev] leaves out for its 33 dependencies."""

from __future__ import annotations

import warnings

import pytest

from ropewalk.errors import ExperimentError
from ropewalk.export import command
from ropewalk.export.command import Options
from ropewalk.harness import evaluate
from ropewalk.methods import make_params, resolve
from ropewalk.models import LoadedModel
from ropewalk.scheme import Scheme

LENGTH = 96
SENTENCES = [
    "The rope is long",
    "A spinner was in the lane",
    "Anne Elliot and the sea",
    "tar and hemp and yarn",
    "The walk",
]
NOISE = 2e-4
"""Nats of a sum of some tens of float32 losses, in other batches."""


def items():
    import datasets

    return datasets.Dataset.from_list(
        [{"text": text, "choices": [" green", f" {text[-4:]} is", " a"]} for text in SENTENCES]
    )


def tasks() -> list[dict]:
    """One of each of lm-eval's request types."""
    common = {"custom_dataset": lambda **_: {"test": items()}, "test_split": "test", "doc_to_text": "text"}
    choice = {
        "task": "choice",
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    rolling = {
        "task": "rolling",
        "output_type": "loglikelihood_rolling",
        "doc_to_target": "{{ (text + '. ') * 12 }}",
        "doc_to_text": "",
        "metric_list": [{"metric": "word_perplexity"}],
    }
    said = {
        "task": "said",
        "output_type": "generate_until",
        "doc_to_target": "text",
        "generation_kwargs": {"until": ["e", "\n"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    }
    return [common | choice, common | rolling, common | said]


@pytest.fixture
def schemes(loaded: LoadedModel):
    turns = [("none", {}), ("yarn", {"factor": 4.0})]
    return {
        method: Scheme(rotation=resolve(loaded.geometry, method, make_params(method, params), LENGTH).rotation)
        for method, params in turns
    }


def test_without_lm_eval_the_extra_is_named(loaded, schemes, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    with pytest.raises(ExperimentError, match=r"pip install 'ropewalk\[lm-eval\]'"):
        evaluate(loaded, schemes, ["arc_easy"], LENGTH)


@pytest.mark.filterwarnings("ignore")
def test_numbers_of_whole_sets_are_no_numbers_of_documents(loaded, schemes):
    """A correlation of labels pairs what is right with what was said; as a sum with a weight it would be nonsense."""
    pytest.importorskip("lm_eval")
    choice = tasks()[0]
    both = choice | {"metric_list": [{"metric": "acc"}, {"metric": "mcc"}]}
    found = evaluate(loaded, schemes, [both], LENGTH, limit=2)
    assert {each.metric for each in found} == {"acc,none"}
    with pytest.raises(ExperimentError, match=r"choice: mcc is a number of the whole set, .*; leave the task out"):
        evaluate(loaded, schemes, [choice | {"metric_list": [{"metric": "mcc"}]}], LENGTH, limit=2)


@pytest.mark.filterwarnings("ignore")
def test_documents_get_what_lm_evals_own_model_gives_them(loaded, tiny, schemes, tmp_path, monkeypatch):
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM

    answers = []
    simple = lm_eval.simple_evaluate

    def kept(*args, **more):
        out = simple(*args, **more)
        answers.append({task: [s["resps"] for s in samples] for task, samples in out["samples"].items()})
        return out

    monkeypatch.setattr(lm_eval, "simple_evaluate", kept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = evaluate(loaded, schemes, tasks(), LENGTH)
        command.run(
            "yarn", "hf", model=str(tiny), params={"factor": 4.0}, length=LENGTH, options=Options(out=tmp_path / "yarn")
        )
        for directory in (tiny, tmp_path / "yarn"):
            own = HFLM(pretrained=str(directory), dtype="float32", device="cpu", max_length=LENGTH, batch_size=1)
            kept(own, tasks=tasks(), bootstrap_iters=0)
    assert len(found) == 2 * len(SENTENCES) * 4
    assert {each.metric for each in found if each.task == "choice"} == {"acc,none", "acc_norm,none"}
    for ours, theirs in zip(answers[:2], answers[2:], strict=True):
        assert ours["said"] == theirs["said"]
        for task in ("choice", "rolling"):
            for one, other in zip(flat(ours[task]), flat(theirs[task]), strict=True):
                assert abs(float(one) - float(other)) < NOISE
    assert answers[0]["rolling"] != answers[1]["rolling"]


def flat(responses):
    """Numbers out of nested lists and pairs."""
    if isinstance(responses, list | tuple):
        for each in responses:
            yield from flat(each)
    else:
        yield responses
