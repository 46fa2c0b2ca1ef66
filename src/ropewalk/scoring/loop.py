"""Rows to outcomes: batch by length, patch the schemes in, one forward pass, halve on out of memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ropewalk.errors import ModelError
from ropewalk.models.patch import patched
from ropewalk.models.placement import Landing, download, upload
from ropewalk.scheme import Scheme
from ropewalk.scoring.attention import attention_for
from ropewalk.scoring.budget import in_flight
from ropewalk.scoring.foreign_errors import ForwardError, is_out_of_memory, release
from ropewalk.scoring.head import Split
from ropewalk.scoring.modes import only_last


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NllRow:
    """Score the tokens of `ids` int32 `[T]` from token `first` on, which is at least 1, under one scheme."""

    ids: NDArray[np.int32]
    scheme: Scheme
    first: int = 1

    @property
    def tail(self) -> int:
        """Last positions whose hidden states are wanted."""
        return len(self.ids) - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnswerRow:
    """Score the last `answer_tokens` tokens of `ids` int32 `[T]`, and predict the token after them."""

    ids: NDArray[np.int32]
    scheme: Scheme
    answer_tokens: int

    @property
    def tail(self) -> int:
        """Last positions whose hidden states are wanted."""
        return self.answer_tokens + 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """nll float32 `[A]`, nats, of the answer's tokens; predicted int32 `[A + 1]`: the argmax at each, and after."""

    nll: NDArray[np.float32]
    predicted: NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A row that has no outcome, and why: status "out_of_memory" or "error"."""

    status: str
    reason: str


Row = NllRow | AnswerRow
Outcome = NDArray[np.float32] | Answers | Failure
"""Losses of a row, nats per token `[T - 1]`, what it answered, or why there is neither."""
Pending = tuple[Landing, Landing | None] | Failure
"""Losses `[N]` and (for answers) predictions `[N]` of a row, on their way from the device."""


def score(model: Any, parts: Split, rows: Sequence[Row], batch_tokens: int) -> Iterator[list[tuple[int, Outcome]]]:
    """Score rows in batches of equal length; each batch comes back as (index into rows, outcome) when it is done.

    Longest rows first, so that memory that does not suffice shows early. A batch that runs out of memory is split
    in two until single rows fail; `batch_tokens` then stays at what fitted. On a GPU a batch is always in flight (of a
    model over several, one for each), so that what the caller does with the last one costs it nothing; a CPU gives each
    one at once. A row on which the model's own forward pass fails is a Failure, alone.

    Raises:
        ModelError: a token that the model does not know.
    """
    for row in rows:
        require_known(model, row.ids)
    order, behind = in_order(rows), in_flight(model)
    running = deque[tuple[list[int], list[Pending]]]()
    while order:
        batch = _take(rows, order, batch_tokens if parts.rows else 1)
        pending: list[Pending]
        try:
            pending = _forward(model, parts, [rows[i] for i in batch])
        except ForwardError as error:
            if len(batch) > 1:  # one of them may be at fault
                batch_tokens = 1
                continue
            pending = [Failure(status="error", reason=str(error))]
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if running:  # their tensors hold memory: finish them, then try again
                while running:
                    yield _finish(*running.popleft())
                release()
                continue
            release()
            if len(batch) > 1:
                batch_tokens = len(rows[batch[0]].ids) * (len(batch) // 2)
                continue
            reason = f"a single row of {len(rows[batch[0]].ids)} tokens did not fit in memory"
            pending = [Failure(status="out_of_memory", reason=reason)]
        order = order[len(batch) :]
        running.append((batch, pending))
        if len(running) > behind:
            yield _finish(*running.popleft())
    while running:
        yield _finish(*running.popleft())


def require_known(model: Any, ids: NDArray[np.int32]) -> None:
    """Refuse token ids int32 `[T]` that a model has no embedding for.

    Raises:
        ModelError: naming the largest.
    """
    known = model.get_input_embeddings().weight.shape[0]
    if ids.size and int(ids.max()) >= known:
        raise ModelError(
            f"{type(model).__name__}: its tokenizer gives token {int(ids.max())}, but it has embeddings of {known} "
            "tokens only; use the tokenizer that belongs to the model."
        )


def in_order(rows: Sequence[Row]) -> list[int]:
    """The order in which `score` takes rows, as indices: those of one shape beside each other, longest first."""
    return sorted(range(len(rows)), key=lambda i: (*_shape(rows[i]), i))


def batches(rows: Sequence[Row], batch_tokens: int) -> list[list[int]]:
    """The batches that `score` makes of rows, as indices, while memory suffices."""
    order, found = in_order(rows), list[list[int]]()
    while order:
        found.append(_take(rows, order, batch_tokens))
        del order[: len(found[-1])]
    return found


def _take(rows: Sequence[Row], order: Sequence[int], batch_tokens: int) -> list[int]:
    """The next rows of one shape: as many as fit, in even parts."""
    first = rows[order[0]]
    count = sum(1 for _ in takewhile(lambda i: _shape(rows[i]) == _shape(first), order))
    return list(order[: even_part(count, max(1, batch_tokens // len(first.ids)))])


def _shape(row: Row) -> tuple[int, bool, str]:
    """What the rows of a batch have in common: length, kind, the softmax scale and the branches of attention."""
    return -len(row.ids), isinstance(row, AnswerRow), row.scheme.batch


def even_part(count: int, most: int) -> int:
    """How many of `count` to take at once, at most `most`, so that all parts are alike."""
    return -(-count // -(-count // most))


@torch.inference_mode()
def _forward(model: Any, parts: Split, rows: Sequence[Row]) -> list[Pending]:
    """Start a batch; on a GPU the results are still being computed when this returns."""
    device = parts.head.weight.device
    ids = np.stack([row.ids for row in rows]).astype(np.int64)
    ids_BT = upload(ids, parts.first)
    asked_BT = ids_BT if parts.first == device else upload(ids, device)
    schemes = [row.scheme for row in rows]
    wanted = max(row.tail for row in rows)
    with (
        attention_for(model, parts, schemes),
        patched(model, schemes),
        only_last(wanted if parts.tail else 0),
    ):  # one per row, also if equal: compiled for one shape alone
        hidden_BTH = parts.body(ids_BT)
    pending: list[Pending] = []
    for row, hidden_TH, ids_T in zip(rows, hidden_BTH, asked_BT, strict=True):
        if isinstance(row, NllRow):
            pending.append(sent(parts.head.nll(hidden_TH[-row.tail : -1], ids_T[row.first :])))
        else:
            found = answers(parts, hidden_TH[None, -row.tail :], ids_T[-row.answer_tokens :])
            pending += [sent(*each) for each in found]
    return pending


def sent(nll_N: Tensor, predicted_N: Tensor | None = None) -> Pending:
    """What a row waits for."""
    return download(nll_N.float()), None if predicted_N is None else download(predicted_N.to(torch.int32))


def answers(parts: Split, hidden_BAH: Tensor, answer_A: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Judge an answer in B rows from the hidden states before its tokens and after the last, `[B, A + 1, H]`."""
    rows = hidden_BAH.shape[0]
    logits_BAV = parts.head.logits(hidden_BAH.flatten(0, 1)).unflatten(0, (rows, -1))
    nll_BA = parts.head.loss(logits_BAV[:, :-1].flatten(0, 1), answer_A.repeat(rows)).view(rows, -1)
    return list(zip(nll_BA, logits_BAV.argmax(-1), strict=True))


def _finish(batch: list[int], pending: list[Pending]) -> list[tuple[int, Outcome]]:
    return [(index, finish(item)) for index, item in zip(batch, pending, strict=True)]


def finish(pending: Pending) -> Outcome:
    """Wait for a row's tensors and check them: a loss that is not finite is a failure, never a number."""
    if isinstance(pending, Failure):
        return pending
    losses, predicted = pending
    nll = losses.array()
    bad = np.flatnonzero(~np.isfinite(nll))
    if bad.size:
        reason = f"the loss at scored token {int(bad[0]) + 1} is {nll[bad[0]]}; try dtype float32 or bfloat16"
        return Failure(status="error", reason=reason)
    return nll if predicted is None else Answers(nll=nll, predicted=predicted.array())
