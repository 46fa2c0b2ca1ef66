"""How long passes take on this device with this model: a short probe, and what follows from it for a whole run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from ropewalk.models.size import size_of
from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme
from ropewalk.scoring.foreign_errors import is_out_of_memory, release
from ropewalk.scoring.head import Split
from ropewalk.scoring.loop import AnswerRow, NllRow, finish, score
from ropewalk.scoring.shared import grain_of, walk, walked

TINY, SHORT = 16, 256
SHARE = 0.02
"""What a probe feeds at once may be this part of the run that it predicts."""

ANSWER_TOKENS = 5
ANSWER_PARTS = 1.5
"""Tokens that two answers feed under one rotation, by those of a prompt: the second goes on half-way."""

Clock = Callable[[], float]
"""Seconds since some moment."""

PAIRS = (1.0, 3.0)
"""Seconds of attention per FLOP, by those of products with weights: 1.9 on an H100, 1.3 on two CPU cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fed:
    """A pass: `rows` of `new` positions each, after `before` positions that are not computed again."""

    rows: int
    new: int
    before: int = 0

    @property
    def tokens(self) -> int:
        return self.rows * self.new

    @property
    def pairs(self) -> float:
        """Query-key pairs under causal attention."""
        return self.tokens * (self.before + self.new / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds per pass, per token, and per query-key pair."""

    pass_s: float
    token_s: float
    pair_s: float

    def seconds(self, passes: Iterable[Fed]) -> float:
        return sum(self.pass_s + fed.tokens * self.token_s + fed.pairs * self.pair_s for fed in passes)


def fit(passes: Sequence[Sequence[Fed]], seconds: Sequence[float], arithmetic: float) -> Pace:
    """The non-negative pace that is nearest to the measured seconds, in relative terms.

    Args:
        passes: what was fed, pass after pass, in each measurement.
        seconds: what each measurement took.
        arithmetic: FLOP of a query-key pair by those of a token. The squares of short passes are small beside noise and
            large in long ones: their pace is held within PAIRS of what the arithmetic says.
    """
    sums = np.array([[len(each), sum(f.tokens for f in each), sum(f.pairs for f in each)] for each in passes])
    relative, ones = sums / np.array(seconds)[:, None], np.ones(len(passes))
    (pass_s, token_s, pair_s), _ = nnls(relative, ones)
    least, most = (bound * arithmetic for bound in PAIRS)
    if least * token_s <= pair_s <= most * token_s:
        return Pace(pass_s=float(pass_s), token_s=float(token_s), pair_s=float(pair_s))
    share = least if pair_s < least * token_s else most
    held = np.stack([relative[:, 0], relative[:, 1] + share * relative[:, 2]], 1)
    (pass_s, token_s), _ = nnls(held, ones)
    return Pace(pass_s=float(pass_s), token_s=float(token_s), pair_s=float(share * token_s))


def probe(
    model: Any,
    parts: Split,
    ids: NDArray[np.int32],
    rotations: Sequence[Rotation],
    budget: int,
    tokens: int,
    *,
    answers: bool,
    limit_s: float = math.inf,
    clock: Clock = time.perf_counter,
) -> tuple[Pace, float]:
    """Time a few passes over `ids` (int32 `[longest length]`): the pace of scored documents, or that of `answers` which
    go on from a shared beginning, and the seconds that the first passes took more (to compile, to load kernels).

    Nothing fed at once is more than SHARE of a run of `tokens`, and the longest pass is all of `ids`, or half of it, a
    quarter ... `rotations` are the run's, which go through beside each other. Nothing but the shortest passes is fed
    that is expected, at the pace so far, to take more than its part of what is left of `limit_s`.
    """
    end, room = clock() + limit_s, min(budget, int(SHARE * tokens))
    longest = _longest(len(ids), int(SHARE * tokens))
    size = size_of(model, model.dtype, parts.head.weight.device.type)
    arithmetic = 4.0 * size.queries * size.layers / (2.0 * size.parameters)
    alike = [each for each in rotations if each.softmax_factor == rotations[0].softmax_factor]
    beside = alike[: max(1, budget // len(ids))]
    timed = _answers if answers else _documents
    least = ANSWER_PARTS if answers else 1.0
    passes: list[list[Fed]] = []
    firsts, took = list[float](), list[float]()
    for left, wanted in zip((3, 2, 1), (TINY, SHORT, longest), strict=True):
        length, most = min(wanted, len(ids)), math.inf
        if took:
            token_s = took[-1] / sum(fed.tokens for fed in passes[-1])
            can_feed = partial(_affordable, (end - clock()) / left, token_s, arithmetic)
            length = _fitting(length, passes[-1][0].new, least, can_feed)
            most = can_feed(length)
        if not length:
            break
        (_, first_s), (fed, again_s) = (
            timed(model, parts, ids[:length], beside, int(min(room, most)), clock) for _ in range(2)
        )
        passes.append(fed)
        firsts.append(first_s)
        took.append(again_s)
    return fit(passes, took, arithmetic), max(0.0, sum(firsts) - sum(took))


def _affordable(seconds: float, token_s: float, arithmetic: float, length: int) -> float:
    """Tokens in passes of a length that go through twice in so many seconds, if attention costs as much as it may."""
    return max(0.0, seconds) / 2 / (token_s * (1 + PAIRS[1] * arithmetic * length / 2))


def _fitting(length: int, shorter: int, least: float, can_feed: Callable[[int], float]) -> int:
    """The length, or half of it, a quarter ... that can be fed; 0 where that is not longer than what was."""
    while length > shorter and least * length > can_feed(length):
        length //= 2
    return length if length > shorter else 0


def _longest(length: int, room: int) -> int:
    """The length, or half of it, a quarter ... until it fits or is short."""
    while length > max(room, 2 * SHORT):
        length //= 2
    return length


def _documents(
    model: Any, parts: Split, ids: NDArray[np.int32], rotations: Sequence[Rotation], room: int, clock: Clock
) -> tuple[list[Fed], float]:
    """What is fed, and seconds: rows of tokens `[T]`, as many as there is room for."""
    rows = max(1, room // len(ids)) if len(ids) > TINY else 1
    start = clock()
    for _ in score(model, parts, [NllRow(ids=ids, scheme=Scheme(rotation=rotations[0]))] * rows, rows * len(ids)):
        pass
    return [Fed(rows=rows, new=len(ids))], clock() - start


def _answers(
    model: Any, parts: Split, ids: NDArray[np.int32], rotations: Sequence[Rotation], room: int, clock: Clock
) -> tuple[list[Fed], float]:
    """The same for two prompts `[T]`, the second of which leaves the first half-way, under as many rotations as fit."""
    prompts = [ids, np.concatenate([ids[: len(ids) // 2], ids[len(ids) // 2 :][::-1]])]
    tokens = min(ANSWER_TOKENS, len(ids) - 1)
    beside = rotations[: max(1, room // (2 * len(ids)))]
    rows = [
        AnswerRow(ids=prompt, scheme=Scheme(rotation=rotation), answer_tokens=tokens)
        for rotation in beside
        for prompt in prompts
    ]
    chunk = [[2 * place, 2 * place + 1] for place in range(len(beside))]
    steps = walk(prompts, [tokens, tokens], grain_of(parts.head.weight))
    start = clock()
    try:
        running = [pending for batch in walked(model, parts, rows, chunk, range(len(rows))) for _, pending in batch]
        for pending in running:
            finish(pending)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        release()  # a run says it of its rows, as `score` does
    seconds = clock() - start
    return [Fed(rows=len(beside), new=len(ids) - step.shared, before=step.shared) for step in steps], seconds
