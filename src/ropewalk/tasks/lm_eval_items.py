"""Items of lm-eval's tasks: the requests that lm-eval itself builds, with what an answer to them is held against.

Only tasks whose score is `acc`, `acc_norm` or `exact_match` of one answer: what a run stores of them can be judged
again without lm-eval, its data or code of a task. `ropewalk.harness.evaluate` takes all others.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
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
SCORES = {"multiple_choice": "acc", "loglikelihood": "acc", "generate_until": "exact_match"}
PLAIN = {"metric", "aggregation", "higher_is_better"}
"""Keys of a metric that change nothing about what one answer is worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One document of a task.

    Attributes:
        pairs: (context, continuation) each; of an item to be generated one, without continuation.
        gold: places of right continuations; empty where there is one and greedy decoding has to give it.
        references: what may be said; empty unless it is generated.
        characters: of each choice, where longer ones are not to lose by their length; empty elsewhere.
        new_tokens: 0 unless it is generated.
    """

    task: str
    document: int
    pairs: tuple[tuple[str, str], ...]
    gold: tuple[int, ...] = ()
    references: tuple[str, ...] = ()
    characters: tuple[int, ...] = ()
    new_tokens: int = 0
    stop: tuple[str, ...] = ()


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
        ExperimentError: lm-eval is missing or knows no such task; its data is not here; it is scored in another way.
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
    _require_plain(name, task)
    task.set_fewshot_seed(seed=SEED)
    task.build_all_requests(limit=limit)
    by_document: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_document.setdefault(int(instance.doc_id), []).append(instance)
    for document, instances in by_document.items():
        yield _item(name, task, document, instances)


def _require_plain(name: str, task: Any) -> None:
    """Raises ExperimentError unless one answer is worth what SCORES says."""
    config = task.config
    scores = {str(each["metric"]): set(each) - PLAIN for each in config.metric_list or [] if "metric" in each}
    wanted = SCORES.get(task.OUTPUT_TYPE, "")
    filters = [part["function"] for each in config.filter_list or [] for part in each["filter"]]
    if scores.get(wanted, {wanted}) or callable(config.process_results) or set(filters) - {"take_first"}:
        raise ExperimentError(
            f"metrics.lm_eval.tasks: {name} ({task.OUTPUT_TYPE}) is not scored by a plain acc or exact_match of one "
            "answer; measure it with ropewalk.harness.evaluate, which takes every task."
        )


def _item(name: str, task: Any, document: int, instances: list[Any]) -> Item:
    doc, kind = instances[0].doc, task.OUTPUT_TYPE
    if kind == "generate_until":
        context, asked = instances[0].args
        return _generated(name, document, context, asked, task.doc_to_target(doc))
    pairs = tuple((str(i.args[0]), str(i.args[1])) for i in instances)
    if kind == "loglikelihood":
        return Item(task=name, document=document, pairs=pairs)
    choices = task.doc_to_choice(doc)
    target = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    gold = [choices.index(t) if isinstance(t, str) else int(t) for t in _listed(target)]
    normal = any(each.get("metric") == "acc_norm" for each in task.config.metric_list)
    return Item(
        task=name,
        document=document,
        pairs=pairs[: len(choices)],
        gold=tuple(gold),
        characters=tuple(max(1, len(choice)) for choice in choices) if normal else (),
    )


def _generated(name: str, document: int, context: str, asked: Mapping[str, Any], target: Any) -> Item:
    if asked.get("do_sample") and asked.get("temperature", 1.0) > 0:
        raise ExperimentError(
            f"metrics.lm_eval.tasks: {name} asks for sampling; only greedy decoding is measured, so leave it out."
        )
    until = asked.get("until") or []
    return Item(
        task=name,
        document=document,
        pairs=((context, ""),),
        references=tuple(str(each) for each in _listed(target)),
        new_tokens=int(asked.get("max_gen_toks", asked.get("max_new_tokens", NEW_TOKENS))),
        stop=(until,) if isinstance(until, str) else tuple(until),
    )


def _listed(value: Any) -> list[Any]:
    found: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value]
    return found


def digest(found: tuple[Item, ...]) -> str:
    """16 hex digits of all items of a task."""
    return sha256(json.dumps([asdict(each) for each in found], sort_keys=True).encode())[:16]
