"""Items of lm-eval's tasks: the requests that lm-eval itself builds, with what an answer to them is held against.

Only numbers that follow from an answer and what is recorded beside it (SCORES): a stored run can be judged again
without lm-eval, its data or code of a task, and somebody else's run executes nothing. `ropewalk.harness.evaluate` takes
all others that add up over documents.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from ropewalk.errors import ExperimentError
from ropewalk.files import sha256

SEED = 1234
"""Of few-shot examples, as lm-eval's own command line has it."""
NEW_TOKENS = 256
"""Where a task does not say how many to generate, as in lm-eval's own model."""
SCORES: dict[str, dict[str, tuple[str, bool]]] = {
    "multiple_choice": {"acc": ("mean", True), "acc_norm": ("mean", True)},
    "loglikelihood": {"acc": ("mean", True), "perplexity": ("perplexity", False)},
    "loglikelihood_rolling": {
        "word_perplexity": ("weighted_perplexity", False),
        "byte_perplexity": ("weighted_perplexity", False),
        "bits_per_byte": ("bits_per_byte", False),
    },
    "generate_until": {"exact_match": ("mean", True)},
}
"""By kind of request, the metrics that stored answers are judged by: lm-eval's aggregation, whether more is better."""
ADDED = ("mean", "nanmean", "perplexity", "weighted_perplexity", "bits_per_byte")
"""Aggregations that are sums over documents, of numbers or of numbers with weights; any other is of the whole set."""
PLAIN = {"metric", "aggregation", "higher_is_better"}
"""Keys of a metric that change nothing about what one answer is worth."""
IGNORED: dict[str, Callable[[str], str]] = {
    "ignore_case": str.lower,
    "ignore_punctuation": lambda text: text.translate(str.maketrans("", "", string.punctuation)),
    "ignore_numbers": lambda text: text.translate(str.maketrans("", "", string.digits)),
}
"""What exact_match may be told to look away from, in its order."""
FILTERS: dict[str, Callable[[str], str]] = {
    "take_first": str,
    "remove_whitespace": str.strip,
    "lowercase": str.lower,
    "uppercase": str.upper,
}
"""Filters of what was said. Patterns are not among them: those of somebody else's run could take for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One document of a task.

    Attributes:
        pairs: (context, continuation) each; of an item to be generated one, without continuation.
        gold: places of right continuations; empty where there is one and greedy decoding has to give it.
        references: what may be said; empty unless it is generated.
        characters: of each choice, where longer ones are not to lose by their length; empty elsewhere.
        new_tokens: 0 unless it is generated.
        accurate: whether its task reports acc.
        words: that its loss is shared among where its task reports a perplexity: words, bytes, or 1; 0 elsewhere.
        utf8_bytes: the same where it reports bits_per_byte.
        filters: of FILTERS, what is done to what was said.
        ignores: of IGNORED, what a comparison looks away from.
    """

    task: str
    document: int
    pairs: tuple[tuple[str, str], ...]
    gold: tuple[int, ...] = ()
    references: tuple[str, ...] = ()
    characters: tuple[int, ...] = ()
    new_tokens: int = 0
    stop: tuple[str, ...] = ()
    accurate: bool = True
    words: int = 0
    utf8_bytes: int = 0
    filters: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()


def installed(module: str) -> Any:
    """A module of lm-eval, which the extra brings. Raises ExperimentError."""
    try:
        return import_module(module)
    except ImportError:
        raise ExperimentError(
            "lm_eval: the package lm-eval is not installed; pip install 'ropewalk[lm-eval]'."
        ) from None


@lru_cache(maxsize=4)
def items(tasks: tuple[str, ...], limit: int | None, include_path: str | None) -> tuple[tuple[Item, ...], ...]:
    """The items of each task, the first `limit` of them.

    Raises:
        ExperimentError: lm-eval is missing or knows no such task; its data is not here; no metric of it can be judged
            from stored answers.
    """
    library = installed("lm_eval.tasks")
    with contextlib.redirect_stderr(io.StringIO()):  # bars of progress
        manager = library.TaskManager(include_path=include_path)
        unknown = [name for name in tasks if name not in manager.all_tasks]
        if unknown:
            raise ExperimentError(
                f"metrics.lm_eval.tasks: lm-eval knows no task {unknown[0]!r}; `lm-eval ls tasks` lists what there is, "
                "and include_path names a folder of your own."
            )
        return tuple(tuple(_of_task(name, manager, library, limit)) for name in tasks)


def _of_task(name: str, manager: Any, library: Any, limit: int | None) -> Iterator[Item]:
    try:
        task = library.get_task_dict([name], manager)[name]
    except Exception as error:  # whatever loading a data set or a task's code raises
        raise ExperimentError(f"metrics.lm_eval.tasks: {name} cannot be loaded ({error!s:.200}); mend it.") from error
    if isinstance(task, Mapping):
        raise ExperimentError(f"metrics.lm_eval.tasks: {name} is a group; name the tasks in it.")
    scores = _scores(name, task)
    task.set_fewshot_seed(seed=SEED)
    task.build_all_requests(limit=limit)
    by_document: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_document.setdefault(int(instance.doc_id), []).append(instance)
    for document, instances in by_document.items():
        yield _item(name, task, scores, document, instances)


def _scores(name: str, task: Any) -> list[str]:
    """The metrics of a task that stored answers are judged by, in its order.

    Raises:
        ExperimentError: none; says why of each.
    """
    config, known = task.config, SCORES.get(task.OUTPUT_TYPE, {})
    given = {str(each["metric"]): each for each in config.metric_list or [] if "metric" in each}
    filters = _filters(task)
    if callable(config.process_results):
        raise ExperimentError(_refused(name, f"{', '.join(given)} comes of code of its own (process_results)"))
    if set(filters) - FILTERS.keys() or (filters and "take_first" not in filters) or len(config.filter_list or []) > 1:
        raise ExperimentError(_refused(name, f"{', '.join(given)} comes after filters ({', '.join(filters)})"))
    found = [metric for metric, each in given.items() if metric in known and _plain(task, metric, each)]
    if not found:
        raise ExperimentError(_refused(name, "; ".join(_why_not(task, metric) for metric in given) or "has no metric"))
    return found


def _filters(task: Any) -> tuple[str, ...]:
    return tuple(str(part["function"]) for each in task.config.filter_list or [] for part in each["filter"])


def _plain(task: Any, metric: str, given: Mapping[str, Any]) -> bool:
    """Whether a metric is what SCORES says."""
    aggregation, higher_is_better = SCORES[task.OUTPUT_TYPE][metric]
    more = set(given) - PLAIN - (IGNORED.keys() if metric == "exact_match" else set[str]())
    same = aggregation_of(task, metric) == aggregation and task.higher_is_better()[metric] == higher_is_better
    return same and not more


def _why_not(task: Any, metric: str) -> str:
    aggregation = aggregation_of(task, metric)
    if aggregation not in ADDED:
        return f"{metric} is a number of the whole set ({aggregation}), in which no document has a share"
    return f"{metric} is judged by lm-eval's code"


def _refused(name: str, why: str) -> str:
    return (
        f"metrics.lm_eval.tasks: {name} cannot be judged from stored answers: {why}; leave it out, or measure it with "
        "ropewalk.harness.evaluate, which takes every number that adds up over documents."
    )


def aggregation_of(task: Any, metric: str) -> str:
    """lm-eval's name for how a metric of a task is aggregated; "its own" if it has none."""
    own = task.aggregation().get(metric)
    known: Mapping[str, Any] = installed("lm_eval.api.registry").AGGREGATION_REGISTRY
    return next((name for name in known if known[name] is own), "its own")


def _item(name: str, task: Any, scores: list[str], document: int, instances: list[Any]) -> Item:
    doc, kind = instances[0].doc, task.OUTPUT_TYPE
    if kind == "generate_until":
        context, asked = instances[0].args
        return _generated(name, task, doc, document, context, asked)
    accurate = "acc" in scores
    if kind == "loglikelihood_rolling":
        return _rolling(name, scores, document, str(instances[0].args[0]), str(task.doc_to_target(doc)))
    pairs = tuple((str(i.args[0]), str(i.args[1])) for i in instances)
    if kind == "loglikelihood":
        words = int("perplexity" in scores)
        return Item(task=name, document=document, pairs=pairs, accurate=accurate, words=words)
    choices = task.doc_to_choice(doc)
    target = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    gold = [choices.index(t) if isinstance(t, str) else int(t) for t in _listed(target)]
    return Item(
        task=name,
        document=document,
        pairs=pairs[: len(choices)],
        gold=tuple(gold),
        characters=tuple(max(1, len(choice)) for choice in choices) if "acc_norm" in scores else (),
        accurate=accurate,
    )


def _rolling(name: str, scores: list[str], document: int, said: str, target: str) -> Item:
    """A whole text, whose loss is shared among the words or bytes of its target."""
    counts = {"word_perplexity": len(re.split(r"\s+", target)), "byte_perplexity": len(target.encode())}
    return Item(
        task=name,
        document=document,
        pairs=(("", said),),
        accurate=False,
        words=next((counts[score] for score in scores if score in counts), 0),
        utf8_bytes=len(target.encode()) if "bits_per_byte" in scores else 0,
    )


def _generated(name: str, task: Any, doc: Any, document: int, context: str, asked: Mapping[str, Any]) -> Item:
    if asked.get("do_sample") and asked.get("temperature", 1.0) > 0:
        raise ExperimentError(
            f"metrics.lm_eval.tasks: {name} asks for sampling; only greedy decoding is measured, so leave it out."
        )
    until, target, filters = asked.get("until") or [], task.doc_to_target(doc), _filters(task)
    given = next(each for each in task.config.metric_list if each.get("metric") == "exact_match")
    if task.config.doc_to_choice is not None:
        target = task.doc_to_choice(doc)[target]
    return Item(
        task=name,
        document=document,
        pairs=((context, ""),),
        references=tuple(str(each) for each in _listed(target)),
        new_tokens=int(asked.get("max_gen_toks", asked.get("max_new_tokens", NEW_TOKENS))),
        stop=(until,) if isinstance(until, str) else tuple(until),
        accurate=False,
        filters=filters,
        ignores=tuple(key for key in IGNORED if given.get(key)),
    )


def _listed(value: Any) -> list[Any]:
    found: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value]
    return found


def digest(found: tuple[Item, ...]) -> str:
    """16 hex digits of all items of a task."""
    return sha256(json.dumps([asdict(each) for each in found], sort_keys=True).encode())[:16]
