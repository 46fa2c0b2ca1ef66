"""The judge's passes: rows of the verdict on the documents and probes that no candidate was measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ropewalk.corpus import Tokens, key_token_mask
from ropewalk.errors import ExperimentError
from ropewalk.execution.worker import said
from ropewalk.experiment.prepare import material, ready_spans
from ropewalk.metrics.metric import OfPrompt
from ropewalk.metrics.requests import Forced
from ropewalk.scoring import Answers, Failure, Split
from ropewalk.scoring.budget import batch_tokens
from ropewalk.searching.asked import Scene
from ropewalk.searching.bench import Bench
from ropewalk.searching.verdict import Verdict, found_block, keys_block, losses_block


def search_bench(scene: Scene, parts: Split) -> Bench:
    """What candidates are measured on: the search documents up to N, and the probes."""
    tokens = [scene.prepared.tokens[i] for i in scene.parts.search]
    length = scene.request.length
    count = scene.section.probes if scene.goal.probes else 0
    return Bench(
        model=scene.prepared.model.model,
        parts=parts,
        batch=batch_tokens(scene.prepared.model.model, length),
        documents=tuple(each.ids[:length] for each in tokens),
        windows=scene.windows,
        keys=_some(scene, _key_masks(scene, tokens)) if scene.goal.keys > 0 else (),
        trials=_probes(scene, scene.probed, count, scene.parts.search_seed, tokens[0]),
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
        keys=_key_masks(scene, tokens) if scene.goal.keys > 0 else (),
        trials=_probes(scene, scene.lengths, count, scene.parts.judge_seed, tokens[0]),
    )


def _key_masks(scene: Scene, tokens: Sequence[Tokens]) -> tuple[NDArray[np.bool_], ...]:
    spans = ready_spans(scene.prepared.asked, [each.document for each in tokens])
    assert spans is not None
    return tuple(key_token_mask(each, of) for each, of in zip(tokens, spans, strict=True))


def _some(scene: Scene, masks: tuple[NDArray[np.bool_], ...]) -> tuple[NDArray[np.bool_], ...]:
    """The same masks. Raises ExperimentError where no key token lies in what is searched on."""
    low, high = scene.window - 1, scene.request.length - 1
    if not any(mask[low:high].any() for mask in masks):
        raise ExperimentError(
            f"search.weights.keys: no key token lies between {scene.window} and {scene.request.length} in the search "
            "documents; set it to 0, or give spans that reach further."
        )
    return masks


def _probes(
    scene: Scene, lengths: Sequence[int], count: int, seed: int, haystack: Tokens
) -> Mapping[int, Sequence[Forced]]:
    asked = scene.probing
    if asked is None or asked.metric.prompts is None or count == 0:
        return {}
    build, some = asked.metric.prompts, asked.probes.some(asked.options, count)
    of = material(scene.prepared.model.tokenizer, haystack, seed)
    return {n: [p.request for p in build(some, of, n) if isinstance(p.request, Forced)] for n in lengths}


class Fingerprinted(Protocol):
    """What is judged: equal ones have one fingerprint."""

    @property
    def fingerprint(self) -> str: ...


Judged = TypeVar("Judged", bound=Fingerprinted, contravariant=True)


class Judging(Protocol[Judged]):
    """What judges: `Bench`, or one that knows more than rotations."""

    @property
    def documents(self) -> tuple[NDArray[np.int32], ...]: ...

    @property
    def keys(self) -> tuple[NDArray[np.bool_], ...]: ...

    @property
    def trials(self) -> Mapping[int, Sequence[Forced]]: ...

    def losses(self, rotations: Sequence[Judged], document: int) -> list[NDArray[np.float32] | Failure]: ...

    def answers(self, rotations: Sequence[Judged]) -> list[dict[tuple[int, int], Answers | Failure]]: ...


def verdict(scene: Scene, bench: Judging[Judged], rows: Mapping[str, Judged]) -> Verdict:
    """Run every row over the judge's documents and probes; equal rotations are one measurement.

    Raises:
        ExperimentError: a row has no losses, such as for want of memory.
    """
    labels, distinct = tuple(rows), {rotation.fingerprint: rotation for rotation in rows.values()}
    places = [list(distinct).index(rotation.fingerprint) for rotation in rows.values()]
    losses: dict[str, list[NDArray[np.float32]]] = {label: [] for label in labels}
    for document in range(len(bench.documents)):
        measured = bench.losses(list(distinct.values()), document)
        for label, place in zip(labels, places, strict=True):
            losses[label].append(_sound(label, measured[place]))
    units = [scene.prepared.tokens[i].document.id for i in scene.parts.judge]
    answered = bench.answers(list(distinct.values()))
    answers = [answered[place] for place in places]
    return Verdict(
        labels=labels,
        length=scene.request.length,
        perplexity={n: losses_block(losses, units, 1, n) for n in scene.lengths},
        beyond=losses_block(losses, units, scene.window, scene.request.length),
        column=scene.probing.probes.column if scene.probing else None,
        found={
            n: found_block(
                scene.probing.probes.column,
                {x: _found(scene, bench, n, x, own) for x, own in zip(labels, answers, strict=True)},
                n,
            )
            for n in bench.trials
            if scene.probing
        },
        keys=keys_block(losses, bench.keys, units, scene.window, scene.request.length),
    )


def _found(
    scene: Scene, bench: Judging[Any], length: int, label: str, own: Mapping[tuple[int, int], Any]
) -> list[bool]:
    tokenizer = scene.prepared.model.tokenizer
    assert scene.probing is not None
    judged = []
    for index, request in enumerate(bench.trials[length]):
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
            f"judging {label}: {outcome.reason}; the search is kept, so give shorter lengths or a smaller batch of "
            "documents and judge again with the same command."
        )
    return outcome
