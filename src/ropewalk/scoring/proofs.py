"""Which fast paths are right for a model: each is held against the model's own forward pass before it is used.

Reference is the model as transformers runs it: with eager attention on a few tokens (what `--exact` runs), with the
attention that it was loaded with on more. A path under which hidden states come out otherwise is left out, and a note
says so: an architecture that nobody has met is slow, not wrong.

Shapes: B rows, T positions, H hidden size.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ropewalk.errors import ModelError
from ropewalk.models import patched
from ropewalk.models.pairs import Call, calls_of
from ropewalk.models.patch import require_schemes
from ropewalk.rope import Rotation
from ropewalk.scheme import Branch, Gains, Positions, Scheme
from ropewalk.scoring.attention import MASKED, NAME, in_use, installed, name_for
from ropewalk.scoring.comparing import REFUSALS, apart, said, two_rotations
from ropewalk.scoring.foreign_errors import is_out_of_memory, release
from ropewalk.scoring.head import Split
from ropewalk.scoring.modes import Held, continuing, only_last, stepping

_LOG = logging.getLogger(__name__)

TOKENS = 64
"""Positions of a proof, unless something of the model begins later or layers are compiled."""

BEGINNINGS = ("window", "chunk", "topk", "top_k", "block", "sparse", "sink", "local", "compress", "floor")
"""Parts of a configuration key that says from how many tokens on attention is not to all of them."""

REACH = 2
"""Twice as many tokens are fed: then half of what came before is out of sight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The fast paths of a pass.

    Attributes:
        attention: name of the implementation.
        mlp: MLPs take all rows as one, in chunks.
        compiled: layers are compiled.
        tail: the last layer computes only the positions that are asked for.
    """

    attention: str
    mlp: bool = False
    compiled: bool = False
    tail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Text:
    """Tokens int64 `[B, T]`, one rotation per row, and the reference's last hidden states `[B, T, H]`."""

    ids: Tensor
    rotations: tuple[Rotation, ...]
    expected: Tensor

    @property
    def tail(self) -> int:
        """Last positions that are compared."""
        return self.ids.shape[1] // 2


Running = Callable[[Paths], AbstractContextManager[Split]]
"""Runs the model with some paths inside a block, and gives the parts to run it by."""


@torch.inference_mode()
def choose(model: Any, parts: Split, running: Running, *, compiled: int, longest: int | None) -> tuple[Paths, Split]:
    """The fast paths that give the reference's hidden states, and the parts with what else holds, and notes.

    Args:
        model: a causal language model of transformers.
        parts: what `split(model)` gave.
        running: installs paths.
        compiled: tokens from which on layers are to be compiled; 0 leaves them as they are.
        longest: the most tokens of a pass to come; nothing that begins later matters. None: unknown.
    """
    exact, notes = _eager(model), list[str]()
    texts = [_text(model, parts, exact, max(TOKENS, compiled // 2), rows=2 if parts.rows else 1)]
    best = Paths(attention=name_for(model.config), mlp=True, compiled=compiled > 0, tail=True)
    begins = first_beyond(model.config.get_text_config(decoder=True), longest)
    if begins is not None or _differs(model, running, best, texts) is not None:
        plain = _plain(model, running, texts, exact, notes)
        fits = begins is None or _reaches(model, parts, plain, texts, begins * REACH, longest, notes)
        best = _what_holds(model, running, plain, best, texts, notes) if fits else plain
    fast_attention, why = best.attention in (NAME, MASKED), None
    with running(best) as quick:
        if fast_attention and (why := _forgets(model, quick, texts[-1])) is not None:
            notes.append(f"prompts that begin alike are fed whole: {why}")
    left_out = (*parts.left_out, *(f"{type(model).__name__}: {note}" for note in notes))
    held = fast_attention and why is None
    parts = dataclasses.replace(parts, tail=best.tail, held=held, attention=best.attention, left_out=left_out)
    return best, dataclasses.replace(parts, exact=exact, schemes=cache(partial(schemes_differ, model, parts, exact)))


def _plain(model: Any, running: Running, texts: Sequence[Text], exact: str, notes: list[str]) -> Paths:
    """No fast path: the attention that a model was loaded with, or the exact one if that differs."""
    loaded = Paths(attention=in_use(model))
    if (why := _differs(model, running, loaded, texts)) is None:
        return loaded
    notes.append(f"the attention {loaded.attention!r} that it was loaded with is left out for {exact!r}: {why}")
    return dataclasses.replace(loaded, attention=exact)


def _reaches(
    model: Any, parts: Split, plain: Paths, texts: list[Text], length: int, longest: int | None, notes: list[str]
) -> bool:
    """Whether a text of `length` tokens (at most the longest) could be added, where it says more than the others."""
    length = min(length, longest or length)
    if length <= texts[0].ids.shape[1]:
        return True
    try:
        texts.append(_text(model, parts, plain.attention, length, rows=1))
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        release()
        notes.append(f"all fast paths are left out: {length} tokens, on which they may differ, do not fit into memory")
        return False
    return True


def first_beyond(text: Any, longest: int | None) -> int | None:
    """The most tokens that attention sees all of, as far as the configuration tells; None if that is no limit here."""
    named = {key: value for key, value in text.to_dict().items() if any(part in key for part in BEGINNINGS)}
    counts = [value for value in named.values() if isinstance(value, int) and not isinstance(value, bool)]
    return max((value for value in counts if 1 < value < (longest or float("inf"))), default=None)


def _what_holds(
    model: Any, running: Running, kept: Paths, best: Paths, texts: Sequence[Text], notes: list[str]
) -> Paths:
    """The best paths, or those that hold when one after the other is added; what differs is left out, with a note."""
    if _differs(model, running, best, texts) is None:
        return best
    names = dict.fromkeys([best.attention, MASKED])
    steps: list[tuple[str, dict[str, Any]]] = [("the fast attention", {"attention": name}) for name in names]
    steps.append(("MLPs in chunks", {"mlp": True}))
    steps += [("compiled layers", {"compiled": True})] * best.compiled
    steps.append(("a last layer for the wanted positions alone", {"tail": True}))
    for words, change in steps:
        if kept.attention in (NAME, MASKED) and "attention" in change:
            continue
        why = _differs(model, running, dataclasses.replace(kept, **change), texts)
        if why is None:
            kept = dataclasses.replace(kept, **change)
        elif change.get("attention") != NAME:  # that which makes masks is tried after it
            notes.append(f"{words} is left out: {why}")
    return kept


def _text(model: Any, parts: Split, attention: str, length: int, *, rows: int) -> Text:
    """A text of random tokens, and what the reference makes of it, row after row."""
    weight = parts.head.weight
    drawn = torch.randint(weight.shape[0], (rows, length), generator=torch.Generator().manual_seed(length))
    ids = drawn.to(weight.device)
    rotations = two_rotations(model)[:rows]
    expected = []
    with installed(model, attention):
        for row, rotation in zip(ids, rotations, strict=True):
            with patched(model, rotation):
                expected.append(parts.body(row[None]))
    return Text(ids=ids, rotations=rotations, expected=torch.cat(expected))


def _eager(model: Any) -> str:
    """The name of the plainest attention that a model has."""
    try:
        with installed(model, "eager"):
            return "eager"
    except REFUSALS:
        return in_use(model)


def _differs(model: Any, running: Running, paths: Paths, texts: Sequence[Text]) -> str | None:
    """Why a pass with these paths does not give the reference's hidden states; None if it does."""
    try:
        with running(paths) as quick:
            for text in texts:
                with patched(model, text.rotations), only_last(text.tail if paths.tail else 0):
                    found = quick.body(text.ids)
                if (why := apart(text.expected[:, -text.tail :], found[:, -text.tail :])) is not None:
                    return f"{why} on {text.ids.shape[1]} tokens"
    except REFUSALS as error:
        return said(error)
    return None


@torch.inference_mode()
def schemes_differ(model: Any, parts: Split, exact: str) -> str | None:
    """Why attention, as it runs now, does not do under gains, temperatures and branches what the exact one does.

    Raises:
        ModelError: the exact one does not take them either.
    """
    weight = parts.head.weight
    ids = torch.randint(weight.shape[0], (1, TOKENS), generator=torch.Generator().manual_seed(TOKENS)).to(weight.device)
    layers = model.config.get_text_config(decoder=True).num_hidden_layers
    for scheme in schemes_to_prove(two_rotations(model), calls_of(model), layers):
        if not _takes(model, scheme):
            continue
        with installed(model, exact), patched(model, scheme):
            expected = parts.body(ids)
        try:
            with patched(model, scheme):
                why = apart(expected, parts.body(ids))
        except REFUSALS as error:
            why = said(error)
        if why is not None:
            note = f"{type(model).__name__}: schemes that change attention run under {exact!r}: {why}"
            _LOG.warning("%s", note)
            return note
    return None


def _takes(model: Any, scheme: Scheme) -> bool:
    """Whether a model takes schemes of a kind at all; if not, `patched` refuses them wherever they are asked for."""
    try:
        require_schemes(model, [scheme])
    except ModelError:
        return False
    return True


def schemes_to_prove(rotations: tuple[Rotation, Rotation], calls: Sequence[Call], layers: int) -> Iterator[Scheme]:
    """Gains (a temperature takes the same way), of all distances and of a branch, and branches by tokens and by blocks,
    with gaps, cut off every grid."""
    own, other = rotations
    shape = layers, max(call.heads for call in calls), own.inv_freq.size
    log = np.random.default_rng(0).normal(0, 0.2, shape).astype(np.float32)
    log[sorted(set(range(layers)) - {call.layer for call in calls if call.pairs.turns})] = 0
    gains = Gains(log=log)
    yield Scheme(rotation=own, gains=gains)
    near, step = Branch(rotation=own, stop=7), Positions(group=3, offset=4)
    middle = Branch(rotation=other, start=7, stop=30, query=step, key=Positions(group=3), gains=gains)
    first = Branch(rotation=own, start=30, keys=5, query=Positions(limit=34))
    yield Scheme(rotation=own, branches=(near, middle, first))
    chunk, key = Branch(rotation=own, block=10, stop=1), Positions(period=10)
    before = Branch(rotation=own, block=10, start=1, stop=2, query=Positions(period=10, offset=10, limit=13), key=key)
    older = Branch(rotation=other, block=10, start=2, query=Positions(scale=0, offset=13), key=key)
    yield Scheme(rotation=own, branches=(chunk, before, older))


def _forgets(model: Any, parts: Split, text: Text) -> str | None:
    """Why a pass cannot go on from held keys and values, with more tokens of a row or one of each row; None if they are
    all that goes from position to position.

    Linear attention, convolutions and state spaces keep a state of their own, which is not held, and would start from
    nothing: transformers marks such models, and what it does not mark shows in the numbers.
    """
    if getattr(model, "_is_stateful", False):
        return "its layers keep a state beside keys and values"
    ids, start = text.ids[:1], text.ids.shape[1] // 2
    held = Held(room=ids.shape[1])
    try:
        with patched(model, text.rotations[:1]):
            with continuing(held, 0, 0):
                parts.body(ids[:, :start])
            layers = model.config.get_text_config(decoder=True).num_hidden_layers
            if len(held.keys) != layers:
                return f"{len(held.keys)} calls of the fast attention in {layers} layers"
            with continuing(held, start, text.tail // 2):
                found = parts.body(ids[:, start:], torch.arange(start, ids.shape[1], device=ids.device)[None])
            for layer in held.keys:
                held.keys[layer], held.values[layer] = (
                    part.repeat(2, 1, 1, 1) for part in (held.keys[layer], held.values[layer])
                )
            last = torch.tensor([ids.shape[1] - 1, ids.shape[1] - 2], device=ids.device)
            with stepping(held, last):
                each = parts.body(ids[0, last][:, None], last[:, None])
    except REFUSALS as error:
        return said(error)
    wanted = text.tail // 2
    whole = apart(text.expected[:1, -wanted:], found[:, -wanted:])
    return whole or apart(text.expected[0, last][:, None], each)
