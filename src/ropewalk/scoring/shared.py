"""Answers of many prompts that share a beginning: the beginning is computed once per rotation.

Passkey prompts of one tokenizer are the same stream of header and filler up to each needle. The stream runs once for
a few rotations at a time and leaves its keys and values; each prompt then feeds only what comes after its own part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ropewalk.models.patch import patched
from ropewalk.rope import Rotation
from ropewalk.scoring.attention import Prefix, continuing, only_last, recording
from ropewalk.scoring.head import Split
from ropewalk.scoring.loop import AnswerRow, Outcome, Pending, answers, finish, is_out_of_memory, release, score

LEAST_SHARE = 0.1
"""Prompts that share less than this part of their tokens are scored one by one."""

PROBE_TOKENS = 8
"""Tokens before and after the joint on which sharing is tried."""


def score_shared(
    model: Any, parts: Split, rows: Sequence[AnswerRow], batch_tokens: int
) -> Iterator[list[tuple[int, Outcome]]]:
    """As `score`, for prompts that share a beginning; same answers, fewer tokens (all tokens if `carries` is false)."""
    stream, shared = common_stream([row.ids for row in rows])
    if not any(shared) or not carries(model, parts):
        yield from score(model, parts, rows, batch_tokens)
        return
    by_rotation: dict[Rotation, list[int]] = {}
    for index, row in enumerate(rows):
        by_rotation.setdefault(row.rotation, []).append(index)
    for own in by_rotation.values():
        own.sort(key=lambda i: (-len(rows[i].ids), shared[i]))
    left = sorted(by_rotation.values(), key=lambda own: (-len(rows[own[0]].ids), _prompts(rows, own)))
    size = max(1, batch_tokens // max(len(row.ids) for row in rows))
    while left:
        chunk = [own for own in left[:size] if _prompts(rows, own) == _prompts(rows, left[0])]
        done: set[int] = set()
        try:
            for batch in _one_behind(_chunk(model, parts, rows, chunk, stream, shared)):
                done.update(index for index, _ in batch)
                yield batch
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            release()
            rest = [[i for i in own if i not in done] for own in chunk]
            if len(chunk) > 1:
                size = len(chunk) // 2
                left = [own for own in rest if own] + left[len(chunk) :]
                continue
            for batch in score(model, parts, [rows[i] for i in rest[0]], batch_tokens):
                yield [(rest[0][i], outcome) for i, outcome in batch]
        left = left[len(chunk) :]


@torch.inference_mode()
def carries(model: Any, parts: Split) -> bool:
    """Whether keys and values are all that this model's layers pass from one position to later ones.

    Tried on a few tokens: linear attention, convolutions and state spaces keep a state of their own, which a prefix
    does not hold, and would start from nothing after it.
    """
    ids = torch.arange(1, 2 * PROBE_TOKENS + 1, device=parts.head.weight.device)[None] % parts.head.weight.shape[0]
    positions = torch.arange(PROBE_TOKENS, 2 * PROBE_TOKENS, device=ids.device)[None]
    prefix = Prefix()
    try:
        whole = parts.body(ids)[:, -1].float()
        with recording(prefix):
            parts.body(ids[:, :PROBE_TOKENS])
        if len(prefix.keys) != model.config.get_text_config(decoder=True).num_hidden_layers:
            return False
        with continuing(prefix, PROBE_TOKENS, 1):
            continued = parts.body(ids[:, PROBE_TOKENS:], positions)[:, -1].float()
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False  # `score` says of every row that it does not fit
    allowed = max(1e-3, 8 * torch.finfo(model.dtype).eps)
    return bool((whole - continued).norm() <= allowed * whole.norm())


def _prompts(rows: Sequence[AnswerRow], own: Sequence[int]) -> tuple[int, ...]:
    """Which prompts these rows are, as the identities of their ids."""
    return tuple(id(rows[i].ids) for i in own)


def _one_behind(batches: Iterator[list[tuple[int, Pending]]]) -> Iterator[list[tuple[int, Outcome]]]:
    """Wait for a batch only when the next one has been started."""
    running: list[tuple[int, Pending]] = []
    for batch in batches:
        if running:
            yield [(index, finish(item)) for index, item in running]
        running = batch
    if running:
        yield [(index, finish(item)) for index, item in running]


def common_stream(prompts: Sequence[NDArray[np.int32]]) -> tuple[NDArray[np.int32], list[int]]:
    """The prompt that most others begin like, and how many tokens each shares with it (never all of them).

    Returns:
        The stream, cut to the longest share; per prompt the number of tokens it shares, 0 for all where that is little.
    """
    longest = max(len(prompt) for prompt in prompts)
    unique = {id(prompt): prompt for prompt in prompts}
    best: tuple[int, NDArray[np.int32], dict[int, int]] | None = None
    for candidate in (prompt for prompt in unique.values() if len(prompt) == longest):
        found = {key: _common(candidate, prompt) for key, prompt in unique.items() if prompt is not candidate}
        found[id(candidate)] = max(found.values(), default=0)
        if best is None or sum(found.values()) > best[0]:
            best = (sum(found.values()), candidate, found)
    assert best is not None
    _, stream, counts = best
    shared = [min(counts[id(prompt)], len(prompt) - 1) for prompt in prompts]
    if sum(shared) < LEAST_SHARE * sum(len(prompt) for prompt in prompts):
        return stream[:0], [0] * len(prompts)
    return stream[: max(shared)], shared


def _common(one: NDArray[np.int32], other: NDArray[np.int32]) -> int:
    size = min(len(one), len(other))
    differs = np.flatnonzero(one[:size] != other[:size])
    return int(differs[0]) if differs.size else size


@torch.inference_mode()
def _chunk(
    model: Any,
    parts: Split,
    rows: Sequence[AnswerRow],
    indices: list[list[int]],
    stream: NDArray[np.int32],
    shared: Sequence[int],
) -> Iterator[list[tuple[int, Pending]]]:
    """Rotations whose prompts are the same: one row per rotation, prompt after prompt."""
    device = parts.head.weight.device
    rotations = [rows[own[0]].rotation for own in indices]
    prefix = Prefix()
    with patched(model, rotations if len(rotations) > 1 else rotations[0]):
        longest = max(min(shared[i], len(rows[i].ids) - rows[i].answer_tokens - 1) for i in indices[0])
        if longest:
            ids = torch.from_numpy(stream[:longest].astype(np.int64)).to(device).expand(len(rotations), -1)
            with recording(prefix):
                parts.body(ids)
        for column in zip(*indices, strict=True):
            row = rows[column[0]]
            start = min(shared[column[0]], len(row.ids) - row.answer_tokens - 1)
            ids = torch.from_numpy(row.ids[start:].astype(np.int64)).to(device).expand(len(rotations), -1)
            if start == 0:
                with only_last(row.answer_tokens + 1):
                    hidden_BSH = parts.body(ids)
            else:
                positions = torch.arange(start, len(row.ids), device=device)[None]
                with continuing(prefix, start, row.answer_tokens + 1):
                    hidden_BSH = parts.body(ids, positions)
            tail = hidden_BSH[:, -row.answer_tokens - 1 :]
            answer = torch.from_numpy(row.ids[-row.answer_tokens :].astype(np.int64)).to(device)
            yield [(i, answers(parts, hidden, answer)) for i, hidden in zip(column, tail, strict=True)]
