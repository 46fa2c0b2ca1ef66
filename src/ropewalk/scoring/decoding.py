"""Greedy continuations of many prompts: what prompts share is fed once, and rows decode beside each other.

Prompts walk their prefix tree as in `shared`, one row per scheme. What a prompt leaves behind in keys and values is
copied into a store, one row per prompt and scheme; the rows of a full store then take step after step together, each at
its own position and under its own scheme, until half of them have finished and the others move closer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ropewalk.models.patch import patched
from ropewalk.models.placement import upload
from ropewalk.models.size import size_of
from ropewalk.models.spread import gpus_of
from ropewalk.scheme import Scheme
from ropewalk.scoring.foreign_errors import ForwardError, is_out_of_memory, release
from ropewalk.scoring.generate import Finished, ends, generate
from ropewalk.scoring.head import Split
from ropewalk.scoring.loop import Failure, even_part, require_known
from ropewalk.scoring.modes import Held, continuing, stepping
from ropewalk.scoring.shared import Step, grain_of, walk

MOST_ROWS = 64
"""More rows than this make no step cheaper per row."""

STORE_BYTES = 2**30
"""Keys and values that decode together on a CPU."""

FREE_SHARE = 0.4
"""Of a GPU's free memory, which prompts being fed need as well."""

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptRow:
    """Continue `ids` int32 `[T]` by up to `new_tokens` greedy tokens under one scheme: fewer after an end of text, or
    when what they say contains one of `stop`."""

    ids: NDArray[np.int32]
    scheme: Scheme
    new_tokens: int
    stop: tuple[str, ...] = ()


New = NDArray[np.int32] | Failure
"""The new tokens, int32 `[T]`, at most new_tokens, the one that ended them included; or why there are none."""


def generate_shared(
    model: Any, parts: Split, rows: Sequence[PromptRow], batch_tokens: int, decode: Decode
) -> Iterator[list[tuple[int, New]]]:
    """Continue every row; batches come back as (index into rows, new tokens) when they are done.

    Out of memory halves the rows that decode together and then the schemes that are fed together. Rows that a model's
    own forward pass fails on, or that do not fit alone, go through transformers' loop one by one, as do all unless
    `parts.held`, and as do rows whose schemes have branches, or ask of attention what its fast form is not right for.

    Args:
        model: a causal language model of transformers.
        parts: what `split` and `fast` gave.
        rows: prompts; the same array may stand in several rows.
        batch_tokens: positions per batch of prompts being fed.
        decode: new tokens to what they say; asked only of rows with stop strings.

    Raises:
        ModelError: a token that the model does not know.
    """
    for row in rows:
        require_known(model, row.ids)
    changed = {index for index, row in enumerate(rows) if not row.scheme.only_rotates}
    wrong = changed if changed and parts.schemes() is not None else {i for i in changed if rows[i].scheme.branches}
    apart = sorted(wrong) if parts.held else list(range(len(rows)))
    yield from ([(index, _alone(model, rows[index], decode))] for index in apart)
    together = [index for index in range(len(rows)) if index not in set(apart)]
    if apart:
        own = [rows[index] for index in together]
        for batch in generate_shared(model, parts, own, batch_tokens, decode) if own else ():
            yield [(together[index], new) for index, new in batch]
        return
    chunks, most = chunked(rows, batch_tokens if parts.rows else 1), MOST_ROWS if parts.rows else 1
    while chunks:
        chunk = chunks.pop(0)
        left = set(chunk[0])
        try:
            for batch in _continued(model, parts, rows, chunk, most, decode):
                left.difference_update(index for index, _ in batch)
                yield batch
        except (ForwardError, torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not isinstance(error, ForwardError) and not is_out_of_memory(error):
                raise
            release()
            places = [place for place, index in enumerate(chunk[0]) if index in left]
            rest = [[own[place] for place in places] for own in chunk]
            if len(chunk) == most == 1 or isinstance(error, ForwardError):
                yield from ([(i, _alone(model, rows[i], decode))] for own in rest for i in own)
            elif most > len(chunk):
                chunks.insert(0, rest)
                most = max(len(chunk), min(most, len(chunk) * len(places)) // 2)
            else:
                half = -(-len(chunk) // 2)
                chunks[:0] = [part for part in (rest[:half], rest[half:]) if part]
                most = half


def chunked(rows: Sequence[PromptRow], limit: int) -> list[list[list[int]]]:
    """Schemes, as their rows in one order of prompts, that are fed together: with the same prompts and softmax scale,
    and no more than `limit` tokens."""
    groups: dict[Scheme, list[int]] = {}
    for step in _steps(rows, 1):
        groups.setdefault(rows[step.prompt].scheme, []).append(step.prompt)
    alike: dict[tuple[str | int, ...], list[list[int]]] = {}
    for own in groups.values():
        key = (rows[own[0]].scheme.batch, *(id(rows[i].ids) for i in own))
        alike.setdefault(key, []).append(own)
    chunks = []
    for same in alike.values():
        longest = max(len(rows[i].ids) for i in same[0])
        while same:
            count = even_part(len(same), max(1, limit // longest))
            chunks.append(same[:count])
            del same[:count]
    return chunks


def stores(
    model: Any, parts: Split, rows: Sequence[PromptRow], chunk: list[list[int]], most: int = MOST_ROWS
) -> list[list[Step]]:
    """The prompts of a chunk in the order of their walk, as many together as are fed before they decode."""
    prompts = [rows[i] for i in chunk[0]]
    room = max(len(rows[i].ids) + rows[i].new_tokens for own in chunk for i in own)
    at_once = max(1, min(most, rows_held(model, room)) // len(chunk))
    steps = _steps(prompts, grain_of(parts.head.weight))
    return [steps[start : start + at_once] for start in range(0, len(steps), at_once)]


def _steps(rows: Sequence[PromptRow], grain: int) -> list[Step]:
    return walk([row.ids for row in rows], [0] * len(rows), grain)


def _alone(model: Any, row: PromptRow, decode: Decode) -> New:
    """One row by transformers' own loop."""
    try:
        return generate(model, row.ids, row.scheme, row.new_tokens, _finished(model, row, decode))
    except ForwardError as error:
        return Failure(status="error", reason=str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    release()
    reason = f"generating after {len(row.ids)} tokens did not fit in memory"
    return Failure(status="out_of_memory", reason=reason)


def _finished(model: Any, row: PromptRow, decode: Decode) -> Finished:
    """Whether new tokens end a row."""
    last = ends(model)

    def finished(new: Sequence[int]) -> bool:
        if len(new) >= row.new_tokens or new[-1] in last:
            return True
        said = decode(new) if row.stop else ""
        return any(stop in said for stop in row.stop)

    return finished


@torch.inference_mode()
def _continued(
    model: Any, parts: Split, rows: Sequence[PromptRow], chunk: list[list[int]], most: int, decode: Decode
) -> Iterator[list[tuple[int, New]]]:
    """The rows of schemes with the same prompts: as many prompts as fit into a store are fed, then they decode."""
    schemes, prompts = [rows[own[0]].scheme for own in chunk], [rows[i] for i in chunk[0]]
    held = Held(room=max(len(row.ids) for row in prompts))
    room = max(len(rows[i].ids) + rows[i].new_tokens for own in chunk for i in own)
    for taken in stores(model, parts, rows, chunk, most):
        first, store = _fed(model, parts, schemes, prompts, taken, held, room)
        every = [own[step.prompt] for step in taken for own in chunk]
        new = stepped(model, parts, [rows[i] for i in every], first, store, decode)
        yield [(index, np.array(tokens, dtype=np.int32)) for index, tokens in zip(every, new, strict=True)]


def rows_held(model: Any, room: int) -> int:
    """Rows of a store with `room` positions each."""
    device = model.get_output_embeddings().weight.device
    size = size_of(model, model.dtype, device.type)
    free = min((FREE_SHARE * torch.cuda.mem_get_info(gpu)[0] for gpu in gpus_of(model)), default=STORE_BYTES)
    return max(1, int(free // (2 * size.element_bytes * size.keys * size.layers * room)))


def _fed(
    model: Any,
    parts: Split,
    schemes: list[Scheme],
    prompts: Sequence[PromptRow],
    steps: Sequence[Step],
    held: Held,
    room: int,
) -> tuple[list[int], Held]:
    """The first new token of every prompt under every scheme, prompt by prompt, and a store of what they go on from."""
    count = len(schemes)
    store, first = Held(room=room), list[torch.Tensor]()
    with patched(model, schemes):
        for place, step in enumerate(steps):
            row, start = prompts[step.prompt], step.shared
            ids = upload(row.ids[start:].astype(np.int64), parts.first)
            positions = torch.arange(start, len(row.ids), device=parts.first)[None] if start else None
            with continuing(held, start, 1):
                hidden_BSH = parts.body(ids.expand(count, -1), positions)
            first.append(parts.head.logits(hidden_BSH[:, -1]).argmax(-1))
            store.take(held, len(row.ids), place * count, len(steps) * count)
    return torch.cat(first).tolist(), store


def stepped(
    model: Any, parts: Split, rows: Sequence[PromptRow], first: list[int], store: Held, decode: Decode
) -> list[list[int]]:
    """The new tokens of every row of a store, of which the first are given."""
    device, new = parts.first, [[token] for token in first]
    ended = [_finished(model, row, decode) for row in rows]
    beside, going = list(range(len(rows))), [i for i in range(len(rows)) if not ended[i](new[i])]
    while going:
        store.keep([beside.index(i) for i in going])
        beside = going
        with patched(model, [rows[i].scheme for i in beside]):
            while 2 * len(going) > len(beside):
                last = torch.tensor([new[i][-1:] for i in beside], device=device)
                places = torch.tensor([len(rows[i].ids) + len(new[i]) - 1 for i in beside], device=device)
                with stepping(store, places):
                    hidden_B1H = parts.body(last, places[:, None])
                likeliest = parts.head.logits(hidden_B1H[:, 0]).argmax(-1).tolist()
                said = dict(zip(beside, likeliest, strict=True))
                for i in going:
                    new[i].append(said[i])
                going = [i for i in going if not ended[i](new[i])]
    return new
