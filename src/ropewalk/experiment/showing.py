"""Prompts of an experiment for people, before any model is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from ropewalk.corpus import tokenize_all
from ropewalk.errors import ExperimentError
from ropewalk.experiment.prepare import Asked, material
from ropewalk.metrics.metric import Shown
from ropewalk.models import read_tokenizer


def shown(asked: Asked) -> list[Shown]:
    """One prompt of each task at the shortest length, under the model's tokenizer.

    Raises:
        RopewalkError: no metric that is asked for shows its prompts, the length is too short, or the tokenizer cannot
            be read.
    """
    experiment = asked.experiment
    metrics = [(metric.show, options) for metric, options in experiment.asked() if metric.show is not None]
    if not metrics:
        raise ExperimentError("--show: no metric of this experiment has tasks to show; add metrics: {tasks: {}}.")
    length = experiment.lengths[0]
    tokenizer = read_tokenizer(asked.spec) if asked.loaded is None else asked.loaded.tokenizer
    document = next(iter(tokenize_all(tokenizer, asked.documents[:1], upto=length)))
    made = material(tokenizer, document, experiment.seed)
    return [each for show, options in metrics for each in show(options, made, length, tokenizer.decode)]


def lines(found: list[Shown]) -> Iterator[str]:
    """Prompts under their headings."""
    for each in found:
        depth = "" if each.depth is None else f", needle at {100 * each.depth:.0f} % of it"
        yield f"--- {each.task}: {each.tokens} tokens{depth}; at most {each.new_tokens} new ones"
        yield f"{each.prompt}\n>>> {each.answer}\n"
