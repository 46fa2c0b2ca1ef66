"""What named methods and seeds are measured on, and the judge's passes: on documents and probes that no step saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.corpus import Tokens
from ropewalk.errors import ExperimentError
from ropewalk.execution.worker import said
from ropewalk.experiment.prepare import material
from ropewalk.metrics.metric import OfPrompt
from ropewalk.metrics.requests import Forced
from ropewalk.scheme import Scheme
from ropewalk.scoring import Answers, Failure, Split
from ropewalk.scoring.budget import batch_tokens
from ropewalk.tuning.bench import Bench
from ropewalk.tuning.kept import KeptBench
from ropewalk.tuning.scene import Scene
from ropewalk.tuning.verdict import Verdict, found_block, losses_block


def tuning_bench(scene: Scene, parts: Split) -> Bench:
    """What named methods and seeds are measured on: the tuning documents up to N, and the probes."""
    tokens = [scene.prepared.tokens[i] for i in scene.parts.search]
    length = scene.length
    return Bench(
        model=scene.prepared.model.model,
        parts=parts,
        batch=batch_tokens(scene.prepared.model.model, length),
        documents=tuple(each.ids[:length] for each in tokens),
        windows=scene.windows,
        bos_id=scene.bos_id,
        trials=_probes(scene, scene.probed, scene.probes, scene.parts.search_seed, tokens[0]),
    )


def judge_bench(scene: Scene, parts: Split) -> Bench:
    """What is judged on: the other documents up to the longest length, and the probes of a sweep."""
    tokens = [scene.prepared.tokens[i] for i in scene.parts.judge]
    count = scene.probing.probes.count(scene.probing.options) if scene.probing else 0
    longest = scene.lengths[-1]
    return Bench(
        model=scene.prepared.model.model,
        parts=parts,
        batch=batch_tokens(scene.prepared.model.model, longest),
        documents=tuple(each.ids[:longest] for each in tokens),
        windows=scene.windows,
        bos_id=scene.bos_id,
        trials=_probes(scene, scene.lengths, count, scene.parts.judge_seed, tokens[0]),
    )


def _probes(
    scene: Scene, lengths: Sequence[int], count: int, seed: int, haystack: Tokens
) -> Mapping[int, Sequence[Forced]]:
    asked = scene.probing
    if asked is None or asked.metric.prompts is None or count == 0:
        return {}
    build, some = asked.metric.prompts, asked.probes.some(asked.options, count)
    of = material(scene.prepared.model.tokenizer, haystack, seed)
    return {n: [p.request for p in build(some, of, n) if isinstance(p.request, Forced)] for n in lengths}


def verdict(scene: Scene, kept: KeptBench, rows: Mapping[str, Scheme]) -> Verdict:
    """Run every row over the judge's documents and probes; equal schemes are one measurement.

    Raises:
        ExperimentError: a row has no losses, such as for want of memory.
    """
    labels, distinct = tuple(rows), {scheme.fingerprint: scheme for scheme in rows.values()}
    places = [list(distinct).index(scheme.fingerprint) for scheme in rows.values()]
    losses: dict[str, list[NDArray[np.float32]]] = {label: [] for label in labels}
    for document in range(len(kept.bench.documents)):
        measured = kept.losses(list(distinct.values()), document)
        for label, place in zip(labels, places, strict=True):
            losses[label].append(_sound(label, measured[place]))
    units = [scene.prepared.tokens[i].document.id for i in scene.parts.judge]
    answered = kept.answers(list(distinct.values()))
    answers = [answered[place] for place in places]
    return Verdict(
        labels=labels,
        length=scene.length,
        perplexity={n: losses_block(losses, units, 1, n) for n in scene.lengths},
        beyond=losses_block(losses, units, scene.window, scene.length),
        column=scene.probing.probes.column if scene.probing else None,
        found={
            n: found_block(
                scene.probing.probes.column,
                {x: _found(scene, kept.bench.trials[n], x, own, n) for x, own in zip(labels, answers, strict=True)},
                n,
            )
            for n in kept.bench.trials
            if scene.probing
        },
    )


def _found(
    scene: Scene, trials: Sequence[Forced], label: str, own: Mapping[tuple[int, int], Any], length: int
) -> list[bool]:
    tokenizer = scene.prepared.model.tokenizer
    assert scene.probing is not None
    judged = []
    for index, request in enumerate(trials):
        outcome = _sound(label, own[length, index])
        assert isinstance(outcome, Answers)
        predicted = outcome.predicted.tolist()
        text = said(tokenizer, request.answer, predicted)
        nll = outcome.nll.tolist()
        said_so = OfPrompt(unit="", facts={}, answer=request.answer, predicted=predicted, nll=nll, text=text)
        judged.append(scene.probing.probes.found(said_so))
    return judged


def _sound(label: str, outcome: Any) -> Any:
    if isinstance(outcome, Failure):
        raise ExperimentError(
            f"judging {label}: {outcome.reason}; the tuning is kept, so give shorter lengths or a smaller batch of "
            "documents and judge again with the same command."
        )
    return outcome
