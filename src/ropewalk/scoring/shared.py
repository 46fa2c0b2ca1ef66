"""Answers of many prompts that begin alike: what a prompt shares with the one before it is not computed again.

Passkey prompts of one tokenizer are the same header and filler up to each needle. Sorted by their tokens they walk a
prefix tree depth first: each prompt goes on where it leaves the last one, whose keys and values are still held, so
every node of the tree is computed once per scheme.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ropewalk.models.patch import patched
from ropewalk.models.placement import upload
from ropewalk.scheme import Scheme
from ropewalk.scoring.budget import in_flight
from ropewalk.scoring.foreign_errors import ForwardError, is_out_of_memory, release
from ropewalk.scoring.head import Split
from ropewalk.scoring.loop import (
    AnswerRow,
    Outcome,
    Pending,
    answers,
    even_part,
    finish,
    require_known,
    score,
    sent,
)
from ropewalk.scoring.modes import Held, continuing

LEAST_SHARE = 0.1
"""Prompts that share less than this part of their tokens are scored one by one."""

CPU_GRAIN = 64
"""What goes on from a shared beginning is a multiple of so many tokens on a CPU, where kernels are compiled for every
new shape and kept: the demo's 80 suffixes took 300 MB and no less time when they were fed to the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One prompt of a walk: its index, and how many of its first tokens are those of the prompt before it."""

    prompt: int
    shared: int


class After(Protocol):
    """What is made of the prompts that a walk has fed, while their keys and values are held (`going_on`)."""

    def at_once(self, chunk: Sequence[Sequence[AnswerRow]]) -> int:
        """Prompts to be kept before they are gone on with, of a chunk that begins: rows by scheme."""
        ...

    def keep(self, rows: Sequence[AnswerRow], held: Held, predicted: Sequence[torch.Tensor], most: int) -> None:
        """Told of one prompt under every scheme, with the token ids `[T]` predicted from before its answer on."""
        ...

    def go_on(self) -> None:
        """Told when so many have been kept, outside the patches of the walk."""
        ...


def score_shared(
    model: Any,
    parts: Split,
    rows: Sequence[AnswerRow],
    batch_tokens: int,
    wanted: Collection[int] | None = None,
    after: After | None = None,
) -> Iterator[list[tuple[int, Outcome]]]:
    """As `score`, for prompts that share a beginning; same answers, fewer tokens (all tokens unless `parts.held`).

    Of `rows` only those in `wanted` come out (default: all). On a CPU their losses are the same to the bit as if all
    did: they go on where they would go on then, in the same batches. So a resumed sweep repeats some work.
    `after` goes on from the prompts that are walked, which changes nothing about the answers.
    """
    for row in rows:
        require_known(model, row.ids)
    left = set(range(len(rows)) if wanted is None else wanted)
    chunks = together(parts, rows, batch_tokens)
    if chunks is None:
        asked = sorted(left)
        for batch in score(model, parts, [rows[i] for i in asked], batch_tokens):
            yield [(asked[i], outcome) for i, outcome in batch]
        return
    while chunks:
        chunk = chunks.pop(0)
        if left.isdisjoint(index for own in chunk for index in own):
            continue
        try:
            for batch in _behind(walked(model, parts, rows, chunk, left.copy(), after), max(1, in_flight(model))):
                left.difference_update(index for index, _ in batch)
                yield batch
        except (ForwardError, torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not isinstance(error, ForwardError) and not is_out_of_memory(error):
                raise
            release()
            if len(chunk) > 1:
                limit = _longest(rows, chunk[0]) * (len(chunk) // 2)
                chunks = _chunks(rows, [own for each in (chunk, *chunks) for own in each], limit)
                continue
            rest = [i for i in chunk[0] if i in left]
            for batch in score(model, parts, [rows[i] for i in rest], batch_tokens):
                yield [(rest[i], outcome) for i, outcome in batch]


def changes(rows: Sequence[AnswerRow]) -> bool:
    """Whether any scheme asks more of attention than to attend."""
    return any(not row.scheme.only_rotates for row in rows)


def together(parts: Split, rows: Sequence[AnswerRow], batch_tokens: int) -> list[list[list[int]]] | None:
    """Schemes, as the indices of their rows, that `score_shared` takes together; None where it shares nothing."""
    steps = walk([row.ids for row in rows], [row.answer_tokens for row in rows], grain_of(parts.head.weight))
    if not parts.held or not shares(steps, rows) or (changes(rows) and parts.schemes() is not None):
        return None
    by_scheme: dict[Scheme, list[int]] = {}
    for step in steps:
        by_scheme.setdefault(rows[step.prompt].scheme, []).append(step.prompt)
    return _chunks(rows, list(by_scheme.values()), batch_tokens if parts.rows else 1)


def _chunks(rows: Sequence[AnswerRow], groups: list[list[int]], limit: int) -> list[list[list[int]]]:
    """Schemes, as their rows, that go through together: with the same prompts and attention, and no more
    than `limit` tokens."""
    alike: dict[tuple[str | int, ...], list[list[int]]] = {}
    for own in sorted(groups, key=lambda own: -_longest(rows, own)):
        key = (rows[own[0]].scheme.batch, *(id(rows[i].ids) for i in own))
        alike.setdefault(key, []).append(own)
    chunks = []
    for same in alike.values():
        while same:
            count = even_part(len(same), max(1, limit // _longest(rows, same[0])))
            chunks.append(same[:count])
            del same[:count]
    return chunks


def grain_of(weight: torch.Tensor) -> int:
    """The grain of a walk on the device of a model's weight, of any shape."""
    return 1 if weight.is_cuda else CPU_GRAIN


def walk(prompts: Sequence[NDArray[np.int32]], answer_tokens: Sequence[int], grain: int = 1) -> list[Step]:
    """Prompts in an order in which neighbours share the most, with what each shares with the one before it.

    Args:
        prompts: token ids, int32 `[T]` each; the same array may stand for several rows.
        answer_tokens: per prompt, how many last tokens are its answer: they and the one before are always fed.
        grain: what is fed after a beginning is a multiple of so many tokens, or the whole prompt.
    """
    sorting = {id(prompt): prompt.astype(">i4").tobytes() for prompt in prompts}
    order = sorted(range(len(prompts)), key=lambda i: (sorting[id(prompts[i])], i))
    steps: list[Step] = []
    before = np.zeros(0, np.int32)
    for index in order:
        prompt = prompts[index]
        most = len(prompt) - answer_tokens[index] - 1
        fed = len(prompt) - min(_common(before, prompt), most)
        steps.append(Step(prompt=index, shared=max(0, len(prompt) - -(-fed // grain) * grain)))
        before = prompt
    return steps


def needed(steps: Sequence[Step], wanted: Collection[int]) -> set[int]:
    """The steps, by their places in a walk, that prompts in `wanted` take: their own, and those whose beginnings they
    go on from."""
    found: set[int] = set()
    for place, step in enumerate(steps):
        if step.prompt not in wanted:
            continue
        found.add(place)
        start = step.shared
        while start > 0:  # what is held there was written by the last step before that started earlier
            place -= 1
            if steps[place].shared < start:
                found.add(place)
                start = steps[place].shared
    return found


def shares(steps: Sequence[Step], rows: Sequence[AnswerRow]) -> bool:
    """Whether the prompts of one scheme share enough to go on after one another."""
    first: dict[int, int] = {}
    for step in steps:  # the first of equal prompts, whatever their schemes
        first.setdefault(id(rows[step.prompt].ids), step.shared)
    lengths = {id(row.ids): len(row.ids) for row in rows}
    return sum(first.values()) >= LEAST_SHARE * sum(lengths.values())


def _longest(rows: Sequence[AnswerRow], own: Sequence[int]) -> int:
    return max(len(rows[i].ids) for i in own)


def _behind(batches: Iterator[list[tuple[int, Pending]]], many: int) -> Iterator[list[tuple[int, Outcome]]]:
    """Wait for a batch only when so many after it have been started."""
    running = deque[list[tuple[int, Pending]]]()
    for batch in batches:
        running.append(batch)
        if len(running) > many:
            yield [(index, finish(item)) for index, item in running.popleft()]
    for batch in running:
        yield [(index, finish(item)) for index, item in batch]


def _common(one: NDArray[np.int32], other: NDArray[np.int32]) -> int:
    """How many tokens of `[S]` and `[T]` are the same from the start."""
    size = min(len(one), len(other))
    differs = np.flatnonzero(one[:size] != other[:size])
    return int(differs[0]) if differs.size else size


@torch.inference_mode()
def walked(
    model: Any,
    parts: Split,
    rows: Sequence[AnswerRow],
    chunk: list[list[int]],
    wanted: Collection[int],
    after: After | None = None,
) -> Iterator[list[tuple[int, Pending]]]:
    """Schemes whose prompts are the same, in the order of a walk: one row per scheme, prompt after prompt.

    `chunk` holds, per scheme, the indices of its rows, in one order of prompts; those in `wanted` come out.
    """
    device = parts.head.weight.device
    schemes = [rows[own[0]].scheme for own in chunk]
    prompts = [rows[i] for i in chunk[0]]
    held = Held(room=_longest(rows, chunk[0]))
    steps = walk([row.ids for row in prompts], [row.answer_tokens for row in prompts], grain_of(parts.head.weight))
    places = needed(steps, {at for own in chunk for at, index in enumerate(own) if index in wanted})
    taken = [steps[place] for place in sorted(places)]
    most = after.at_once([[rows[i] for i in own] for own in chunk]) if after else len(taken)
    for begin in range(0, len(taken), most):
        with patched(model, schemes):
            for step in taken[begin : begin + most]:
                row, start = prompts[step.prompt], step.shared
                ids = upload(row.ids[start:].astype(np.int64), parts.first)
                asked = ids if parts.first == device else upload(row.ids[start:].astype(np.int64), device)
                positions = torch.arange(start, len(row.ids), device=parts.first)[None] if start else None
                with continuing(held, start, row.answer_tokens + 1):
                    hidden_BSH = parts.body(ids.expand(len(schemes), -1), positions)
                found = answers(parts, hidden_BSH[:, -row.answer_tokens - 1 :], asked[-row.answer_tokens :])
                every = [(own[step.prompt], sent(*each)) for own, each in zip(chunk, found, strict=True)]
                if after:
                    after.keep([rows[index] for index, _ in every], held, [said for _, said in found], most)
                yield [(index, pending) for index, pending in every if index in wanted]
        if after:
            after.go_on()
