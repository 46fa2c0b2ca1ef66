"""How long passes take on this device with this model: a short probe, and what follows from it for a whole run."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from ropewalk.models.size import size_of
from ropewalk.rope import Rotation
from ropewalk.scoring.head import Split
from ropewalk.scoring.loop import AnswerRow, NllRow, Row, score

TINY, SHORT = 16, 256
SHARE = 0.02
"""The longest pass of a probe may be this part of the run that it predicts."""

ANSWER_TOKENS = 5

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


def fit(passes: list[Fed], seconds: list[float], arithmetic: float) -> Pace:
    """The non-negative pace that is nearest to the measured seconds, in relative terms.

    Args:
        passes: what was fed.
        seconds: what each took.
        arithmetic: FLOP of a query-key pair by those of a token. The squares of short passes are small beside noise and
            large in long ones: their pace is held within PAIRS of what the arithmetic says.
    """
    weights = np.ones(len(passes)) / np.array(seconds)
    tokens, pairs = (np.array([getattr(fed, name) for fed in passes]) for name in ("tokens", "pairs"))
    (pass_s, token_s, pair_s), _ = nnls(np.stack([weights, tokens * weights, pairs * weights], 1), np.ones(len(passes)))
    least, most = (bound * arithmetic for bound in PAIRS)
    if least * token_s <= pair_s <= most * token_s:
        return Pace(pass_s=float(pass_s), token_s=float(token_s), pair_s=float(pair_s))
    share = least if pair_s < least * token_s else most
    (pass_s, token_s), _ = nnls(np.stack([weights, (tokens + share * pairs) * weights], 1), np.ones(len(passes)))
    return Pace(pass_s=float(pass_s), token_s=float(token_s), pair_s=float(share * token_s))


def probe(
    model: Any, parts: Split, ids: NDArray[np.int32], rotation: Rotation, budget: int, tokens: int
) -> tuple[Pace, Pace, float]:
    """Time a few passes over `ids` (int32 `[longest length]`): the pace of scored documents, and of answers, and the
    seconds that a run takes once (to compile, to load kernels).

    No batch is more than SHARE of a run of `tokens`, and the longest pass is all of `ids`, or half of it, a quarter ...
    """

    def timed(fed: Fed, *, answers: bool = False) -> float:
        part = np.ascontiguousarray(ids[: fed.new])
        row: Row = (
            AnswerRow(ids=part, rotation=rotation, answer_tokens=min(ANSWER_TOKENS, fed.new - 1))
            if answers
            else NllRow(ids=part, rotation=rotation)
        )
        start = time.perf_counter()
        for _ in score(model, parts, [row] * fed.rows, fed.tokens):
            pass
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def shape(length: int) -> Fed:
        return Fed(rows=max(1, int(min(budget, SHARE * tokens)) // length), new=length)

    tiny, short = Fed(rows=1, new=min(TINY, len(ids))), shape(min(SHORT, len(ids)))
    first = [timed(fed, answers=answers) for fed in (tiny, short) for answers in (False, True)]
    again = [timed(fed, answers=answers) for fed in (tiny, short) for answers in (False, True)]
    shapes, spent, answer_s = [tiny, short], [again[0], again[2]], again[3]
    long = len(ids)
    while long > 2 * short.new and shape(long).tokens > SHARE * tokens:
        long //= 2
    if long > short.new:
        shapes.append(shape(long))
        spent.append(min(timed(shapes[-1]), timed(shapes[-1])))
    size = size_of(model, model.dtype, parts.head.weight.device.type)
    pace = fit(shapes, spent, 4.0 * size.queries * size.layers / (2.0 * size.parameters))
    saved = max(0.0, spent[1] - answer_s) / short.tokens  # the head, and most of the last layer
    answer_pace = Pace(pass_s=pace.pass_s, token_s=max(0.0, pace.token_s - saved), pair_s=pace.pair_s)
    return pace, answer_pace, max(0.0, sum(first) - sum(again))
