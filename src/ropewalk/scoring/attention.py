"""Causal attention for scoring: no mask tensor, the fastest kernel first, and beginnings that prompts share.

Registered with transformers as the attention implementations "ropewalk", for models whose every layer sees the whole
context (no mask is made for them, and none is looked for), and "ropewalk_masked" for all others: sliding windows are
attended to in blocks, other masks go through transformers' own `sdpa`. Nothing is cached across forward passes except
what a `Held` is asked to hold.

Shapes: B rows, H query heads, G key/value heads, S positions fed, P prefix positions, D head dimension, E that of
values (narrower under multi-head latent attention).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ropewalk.errors import ModelError
from ropewalk.models.turning import Turn, passing
from ropewalk.scoring.banded import banded, mask_unless_sliding
from ropewalk.scoring.branched import branched
from ropewalk.scoring.lse import merged, widened, with_lse
from ropewalk.scoring.modes import mode

if TYPE_CHECKING:
    from ropewalk.scheme import Scheme
    from ropewalk.scoring.head import Split

NAME, MASKED = "ropewalk", "ropewalk_masked"
BACKENDS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


KNOWN = frozenset(
    {"sliding_window", "is_causal", "position_ids", "past_key_values", "use_cache", "cache_position", "layer_idx"}
    | {"output_attentions", "output_hidden_states", "output_router_logits", "return_dict", "position_embeddings"}
    | {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "num_items_in_batch", "seq_idx"}
)
"""What models pass to attention beside its inputs and does not change it here, or is heeded (`sliding_window`)."""


@contextmanager
def installed(model: Any, name: str) -> Iterator[None]:
    """Use an attention implementation in `model` inside the block."""
    before = in_use(model)
    if name == before:
        yield
        return
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def in_use(model: Any) -> str:
    """The attention implementation that a model runs with."""
    return model.config.get_text_config()._attn_implementation


def name_for(config: Any) -> str:
    """NAME if every layer attends to every earlier position: no sliding windows, chunks, or layers of other kinds."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    return NAME if kinds == {"full_attention"} and not getattr(text, "sliding_window", None) else MASKED


@contextmanager
def attention_for(model: Any, parts: Split, schemes: Sequence[Scheme]) -> Iterator[None]:
    """The attention that runs, or the exact one where that is not right for schemes like these."""
    changes = any(not scheme.only_rotates for scheme in schemes)
    with installed(model, parts.exact if changes and parts.schemes() is not None else in_use(model)):
        yield


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: query `[B, H, S, D]`, key `[B, G, S, D]`, value `[B, G, S, E]` to
    `[B, S, H, E]`.

    Raises:
        ModelError: the model asks for something else than attention to keys, such as sinks or chosen indices.
    """
    for name, given in kwargs.items():
        if name not in KNOWN and given is not None and given is not False:
            raise ModelError(f"{type(module).__name__}: its attention has {name}, which fast kernels do not compute.")
    if query.shape[2] != key.shape[2]:
        return _cached(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    layers: int = module.config.num_hidden_layers
    if attention_mask is None and kwargs.get("sliding_window") is None:
        return _causal(query, key, value, scaling, layers), None
    return _windowed(module, query, key, value, attention_mask, dropout, scaling, layers, **kwargs)


@torch.library.custom_op("ropewalk::causal", mutates_args=())
def _causal(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, layers: int) -> Tensor:
    """Full causal attention to `[B, S, H, E]`. One node of a compiled layer's graph, which is not looked into."""
    now = mode()
    turn, query = _turn(query, _reach(key))
    layer, every = _next_layer(key, value)
    last = layer == layers - 1 and 0 < now.tail < query.shape[2]
    if now.places is not None:
        out = one_each(query, *every, now.places.to(query.device), scaling, None)
    elif turn is not None and turn.branches:
        wanted = query[:, :, -now.tail :] if last else query
        out = branched(wanted, *every, scaling, turn)
        if last:
            out = pad(out, (0, 0, query.shape[2] - now.tail, 0))
    elif last:
        out = query.new_zeros((*query.shape[:3], value.shape[3]))
        out[:, :, -now.tail :] = _masked(query[:, :, -now.tail :], *every, scaling, None)
    elif now.start:
        earlier = (part[:, :, : now.start] for part in every)
        far = with_lse(query, *earlier, causal=False, scaling=scaling)
        near = with_lse(query, key, value, causal=True, scaling=scaling)
        out = merged(*far, *near)
    else:
        with sdpa_kernel(BACKENDS, set_priority=True):
            grouped = query.shape[1] != key.shape[1]
            wide = widened(key, value)
            out = scaled_dot_product_attention(query, key, wide, is_causal=True, scale=scaling, enable_gqa=grouped)
            out = out[..., : value.shape[3]]
    return out.transpose(1, 2).contiguous()


@_causal.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, layers: int) -> Tensor:
    rows, heads, positions, _ = query.shape
    return query.new_empty(rows, positions, heads, value.shape[3])


@torch.compiler.disable
def _windowed(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float,
    scaling: float | None,
    layers: int,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention under a mask, or in a layer with a sliding window: our own where prompts share, or transformers'."""
    window, now = kwargs.get("sliding_window"), mode()
    if window is None and (now.start or now.places is not None):
        raise ModelError(f"{type(module).__name__}: its mask is no sliding window, so prompts cannot share beginnings.")
    turn, query = _turn(query, _reach(key))
    if turn is not None and turn.branches:
        if window is None:
            raise ModelError(f"{type(module).__name__}: its mask is no sliding window, so it cannot branch.")
        query, key = turn.plain(query, now.start), turn.plain(key, now.start)
    layer, every = _next_layer(key, value)
    if now.places is not None:
        return one_each(query, *every, now.places.to(query.device), scaling, window).transpose(1, 2), None
    tail = now.tail if layer == layers - 1 and 0 < now.tail < query.shape[2] else 0
    if window is None or (attention_mask is not None and not (now.start or tail)):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    if not tail:
        return _masked(query, *every, scaling, window).transpose(1, 2), None
    out = query.new_zeros((*query.shape[:3], value.shape[3]))
    out[:, :, -tail:] = _masked(query[:, :, -tail:], *every, scaling, window)
    return out.transpose(1, 2), None


def _reach(key: Tensor) -> int:
    """How many positions there are, up to the last that is fed or, where rows have their own, that has a place."""
    now = mode()
    held = now.held
    return held.room if held is not None and now.places is not None else now.start + key.shape[2]


def _turn(query: Tensor, keys: int) -> tuple[Turn | None, Tensor]:
    """What schemes ask of this call beside attending to so many keys, and the query sharpened by it."""
    running = passing()
    if running is None:
        return None, query
    turn = running.next(keys, query.device)
    return turn, turn.sharpened(query)


@torch.compiler.disable
def _cached(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float,
    scaling: float | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of a few queries to a cache that transformers keeps."""
    turn, query = _turn(query, key.shape[2])
    if turn is not None and turn.branches:
        if kwargs.get("sliding_window") is not None:
            raise ModelError(f"{type(module).__name__}: branches do not go on from the cache of a sliding window.")
        return branched(query, key, value, scaling, turn).transpose(1, 2), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)


def _next_layer(key: Tensor, value: Tensor) -> tuple[int, tuple[Tensor, Tensor]]:
    """Which layer of this forward pass attends, and all keys and values that it attends to."""
    now = mode()
    layer, held = next(now.layer), now.held
    if held is None:
        return layer, (key, value)
    if now.places is not None:
        return layer, held.put_each(layer, now.places.to(key.device), key, value)
    return layer, held.put(layer, now.start, key, value)


def _masked(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """Causal attention of S queries to K keys, of which theirs are the last, as far as a window reaches."""
    groups = query.shape[1] // key.shape[1]
    if window is None:
        lower_right = causal_lower_right(query.shape[2], key.shape[2])
        return scaled_dot_product_attention(
            query, key, value, attn_mask=lower_right, scale=scaling, enable_gqa=groups > 1
        )
    return banded(query, key, value, scaling, window)


def one_each(
    query: Tensor, key: Tensor, value: Tensor, places: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    """Attention of one query per row `[B, H, 1, D]` to the keys `[B, G, K, D]` up to its own place `[B]`, as far back
    as a window reaches; `[B, H, 1, E]`. Two products and no copy of the keys, which kernels with masks would widen."""
    rows, heads, _, size = query.shape
    asked_BGQD = query.reshape(rows, key.shape[1], -1, size)
    logits_BGQK = _products(asked_BGQD, key) * (size**-0.5 if scaling is None else scaling)
    keys = torch.arange(key.shape[2], device=key.device)
    seen_BK = keys <= places[:, None]
    if window is not None:
        seen_BK &= keys > places[:, None] - window
    weights_BGQK = logits_BGQK.masked_fill(~seen_BK[:, None, None], float("-inf")).softmax(-1).to(value.dtype)
    return (weights_BGQK @ value).reshape(rows, heads, 1, -1)


def _products(query: Tensor, key: Tensor) -> Tensor:
    """Queries `[B, G, Q, D]` times keys `[B, G, K, D]`, float32 `[B, G, Q, K]`, also where they are narrower."""
    if query.is_cuda and query.dtype != torch.float32:
        flat = torch.bmm(query.flatten(0, 1), key.flatten(0, 1).mT, out_dtype=torch.float32)
        return flat.unflatten(0, query.shape[:2])
    return (query @ key.mT).float()


AttentionInterface.register(NAME, attend)
AttentionInterface.register(MASKED, attend)
AttentionMaskInterface.register(MASKED, mask_unless_sliding)
