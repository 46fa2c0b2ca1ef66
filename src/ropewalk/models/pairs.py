"""Which dimensions of a head turn together, and with which frequency: found by turning them, not by reading code.

Architectures pair the dimensions of a head in halves, in neighbours, in a part of the head, behind other dimensions.
A model is run on a few tokens with attention that looks and adds nothing, under rotations by nothing and by quarter
turns, which move numbers without changing them: so what is found is exact, whatever the weights and the dtype.

Shapes: D head dimension, P rotated pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from ropewalk.errors import ModelError
from ropewalk.models.auto import trunk
from ropewalk.models.forward import Layout, Rotary, given
from ropewalk.models.geometry import geometry_of
from ropewalk.models.layout import layout_of, rotary_modules, stock_forward
from ropewalk.models.replaced import replaced

NAME = "ropewalk_looks"
TOKENS, SAMPLES = 3, 24

ALONE = "it takes rotations alone: choose a frequency method, without a temperature"
"""The end of a refusal: what a model takes whose attention cannot be asked for more."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """How a layer's attention turns: dimension j becomes `q[j] cos(a) + sign[j] q[partner[j]] sin(a)`, where a is the
    angle of pair `pair[j]`. All int64 or float32 `[D]`, on the CPU.

    Attributes:
        pair: -1 where nothing turns.
        partner: the dimension itself where nothing turns.
        sign: 0 where nothing turns.
    """

    pair: Tensor
    partner: Tensor
    sign: Tensor

    @property
    def turns(self) -> bool:
        """Whether any dimension turns."""
        return bool((self.pair >= 0).any())

    @property
    def halves(self) -> bool:
        """Whether dimension j turns with j + D/2."""
        return torch.equal(self.partner, torch.arange(len(self.partner)).roll(len(self.partner) // 2))

    def same(self, other: Pairs) -> bool:
        """Whether two turn alike."""
        mine, its = ((one.pair, one.partner, one.sign) for one in (self, other))
        return all(torch.equal(a, b) for a, b in zip(mine, its, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call:
    """One call of attention in a forward pass: the layer's index, its query heads, and how it turns."""

    layer: int
    heads: int
    pairs: Pairs


_FOUND: WeakKeyDictionary[nn.Module, tuple[Call, ...]] = WeakKeyDictionary()
_seen: list[tuple[int, Tensor, Tensor]] = []


def calls_of(model: Any) -> tuple[Call, ...]:
    """The calls of attention in a forward pass, in order; layers that turn alike share one Pairs. Found once per model.

    Raises:
        ModelError: attention is not called through transformers' interface, or turns otherwise than in pairs.
    """
    if model not in _FOUND:
        _FOUND[model] = _look(model)
    return _FOUND[model]


@torch.no_grad()
def _look(model: Any) -> tuple[Call, ...]:
    count = geometry_of(model.config).rotary_dim // 2
    still = torch.zeros(count, dtype=torch.bool)
    bits = [(torch.arange(count) >> bit) & 1 == 1 for bit in range((count - 1).bit_length())]
    looks = [_under(model, turned) for turned in (still, ~still, *bits)]
    if not looks[0]:
        raise ModelError(
            f"{type(model).__name__}: its attention is not called through transformers' AttentionInterface, so it "
            "takes rotations alone; use the architecture as transformers ships it, or a frequency method."
        )
    known: list[Pairs] = []
    for call in range(len(looks[0])):
        read = _read(model, [look[call] for look in looks])
        known.append(next((other for other in known if other.same(read)), read))
    first = looks[0]
    return tuple(Call(layer=n, heads=q.shape[1], pairs=p) for (n, q, _), p in zip(first, known, strict=True))


def _read(model: Any, looks: Sequence[tuple[int, Tensor, Tensor]]) -> Pairs:
    """What turns in one call, from its queries and keys under no turn, quarter turns, and one pass per bit of pairs."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for of in ([look[1] for look in looks], [look[2] for look in looks]):
        plain, quarter, *bits = (_columns(states) for states in of)
        same, opposite = _equal(quarter, plain), _equal(quarter, -plain)
        partner = (same | opposite).float().argmax(1)
        at = torch.arange(len(partner))
        turns = ~same[at, at]
        sign = torch.where(turns, torch.where(same[at, partner], 1.0, -1.0), 0.0)
        pair = torch.zeros_like(partner)
        known = (same | opposite)[at, partner]
        for bit, columns in enumerate(bits):
            turned, kept = (columns == quarter).all(0), (columns == plain).all(0)
            known &= turned | kept
            pair += turned.long() << bit
        if not bool((known | ~turns).all()):
            raise ModelError(
                f"{type(model).__name__}: its attention does something to queries or keys after they were turned, so "
                f"they cannot be turned elsewhere; {ALONE}."
            )
        found.append((torch.where(turns, pair, -1), torch.where(turns, partner, at), sign))
    queries, keys = (Pairs(pair=pair, partner=partner, sign=sign) for pair, partner, sign in found)
    if not queries.same(keys):
        raise ModelError(f"{type(model).__name__}: queries and keys turn differently; {ALONE}.")
    return queries


def _columns(states: Tensor) -> Tensor:
    """Samples of every dimension, float32 `[N, D]`, of `[1, H, S, D]`."""
    return states[0].transpose(0, 1).flatten(0, 1)[-SAMPLES:].float().cpu()


def _equal(one: Tensor, other: Tensor) -> Tensor:
    """Which columns of one are those of the other, `[D, D]`."""
    return (one.T[:, None] == other.T[None]).all(-1)


def _under(model: Any, turned: Tensor) -> list[tuple[int, Tensor, Tensor]]:
    """Queries and keys `[1, H, S, D]` of every call of attention with the pairs in `turned` `[P]` a quarter around."""
    weight = model.get_input_embeddings().weight
    ids = torch.arange(1, TOKENS + 1, device=weight.device)[None] % weight.shape[0]
    before, layer_type = model.config.get_text_config()._attn_implementation, geometry_of(model.config).layer_type
    _seen.clear()
    with _turned(model, turned, layer_type):
        try:
            model.set_attn_implementation(NAME)
            trunk(model)(input_ids=ids, use_cache=False)
        finally:
            model.set_attn_implementation(before)
    found = list(_seen)
    _seen.clear()
    return found


@contextmanager
def _turned(model: Any, turned: Tensor, layer_type: str | None) -> Iterator[None]:
    with ExitStack() as stack:
        for module in rotary_modules(model):
            stock = stock_forward(module)
            layout, casts = layout_of(module, stock, layer_type)
            forward = constant(turned, stock, layer_type, layout=layout, casts=casts)
            stack.enter_context(replaced(module, forward))
        yield


def constant(
    turned: Tensor, stock: Callable[..., Rotary], scaled: str | None, *, layout: Layout, casts: bool
) -> Callable[..., Rotary]:
    """A rotary forward that turns pairs `[P]` by a quarter or not at all, wherever they stand."""

    def forward(x: Tensor, position_ids: Tensor, layer_type: str | None = None) -> Rotary:
        if scaled is not None and layer_type != scaled:
            return stock(x, position_ids, layer_type)
        rows, places = position_ids.shape[-2:]
        sin = layout.angles(turned.to(x.device).float().expand(rows, places, -1))
        return given(1.0 - sin, sin, x, layout=layout, casts=casts)

    return forward


def _looks(module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    _seen.append((int(getattr(module, "layer_idx", len(_seen))), query.detach(), key.detach()))
    return query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[3]), None


AttentionInterface.register(NAME, _looks)
