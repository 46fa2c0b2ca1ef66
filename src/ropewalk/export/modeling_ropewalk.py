"""Near and far attention in a model of transformers, as `ropewalk export --with-code` writes it beside the weights.

config.json says under `ropewalk` what is to be done: branches, each a range of distances with positions, a rotation and
gains of its own, and a temperature. The model's rotary module turns nothing, so its cache holds unturned keys, and
attention turns queries and keys anew for every branch. It is plain torch, in slices of queries: exact, and slower than
attention without branches.

Shapes: B rows, H query heads, S queries, K keys of which theirs are the last, D head dimension.
"""

from __future__ import annotations

import base64
import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers import LlamaConfig as Config
from transformers import LlamaForCausalLM as Model
from transformers.masking_utils import sdpa_mask
from typing_extensions import override

NAME = "ropewalk_branches"
SLICE = 256
"""Queries whose logits are held at a time."""


class RopewalkConfig(Config):
    model_type = "ropewalk"


class Unturned(nn.Module):
    """Stands in for the rotary module: cos 1 and sin 0, `[B, S, rotary_dim]`."""

    def __init__(self, pairs: int) -> None:
        super().__init__()
        self.pairs = pairs

    @override
    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        cos = x.new_ones((*position_ids.shape, 2 * self.pairs))
        return cos, torch.zeros_like(cos)


def stands(where: dict[str, Any], places: Tensor) -> Tensor:
    """min(scale * floor((i mod period) / group) + offset, limit), float32."""
    counted = places if where["period"] is None else places % where["period"]
    found = where["scale"] * (counted // where["group"]) + where["offset"]
    return found.float() if where["limit"] is None else found.float().clamp(max=where["limit"])


def turned(states: Tensor, branch: dict[str, Any], positions: Tensor) -> Tensor:
    """Queries or keys `[B, H, T, D]` at positions `[B, T]`, turned in halves."""
    inv_freq = torch.tensor(branch["inv_freq"], dtype=torch.float32, device=states.device)
    angle = positions[:, None, :, None] * torch.cat((inv_freq, inv_freq))
    cos, sin = ((each * branch["attention_factor"]).to(states.dtype) for each in (angle.cos(), angle.sin()))
    pairs = len(inv_freq)
    turns, still = states[..., : 2 * pairs], states[..., 2 * pairs :]
    across = torch.cat((-turns[..., pairs:], turns[..., :pairs]), dim=-1)
    return torch.cat((turns * cos + across * sin, still), dim=-1)


def seen(branch: dict[str, Any], asks: Tensor, keys: Tensor) -> Tensor:
    """Whether queries at `[B, S]` attend to keys at `[B, K]` in a branch, `[B, 1, S, K]`."""
    i, j = asks[:, None, :, None], keys[:, None, None, :]
    distance = i // branch["block"] - j // branch["block"]
    found = (j <= i) & (distance >= branch["start"])
    if branch["stop"] is not None:
        found &= distance < branch["stop"]
    return found if branch["keys"] is None else found & (j < branch["keys"])


@cache
def factors(layers: int, heads: int, pairs: int, coded: str) -> Tensor:
    """exp(g) of every pair, float32 `[layers, heads, pairs]`."""
    raw = torch.frombuffer(bytearray(base64.b64decode(coded)), dtype=torch.float32)
    return raw.reshape(layers, heads, pairs).double().exp().float()


def gained(query: Tensor, gains: dict[str, Any] | None, layer: int) -> Tensor:
    """Queries `[B, H, S, D]` of a layer times exp(g) of their pairs."""
    if gains is None:
        return query
    own = factors(*gains["shape"], gains["float32"])[layer].to(query.device)[:, None]
    still = own.new_ones((*own.shape[:2], query.shape[-1] - 2 * own.shape[-1]))
    return (query * torch.cat((own, own, still), dim=-1)).to(query.dtype)


def sharpened(query: Tensor, how: dict[str, Any] | None, places: Tensor) -> Tensor:
    """Queries `[B, H, S, D]` times tau of their places `[B, S]`."""
    if how is None:
        return query
    i, kind = places[:, None, :, None].float(), how["kind"]
    if kind == "logn":
        tau = ((i + 1).log() / math.log(how["scale"])).clamp(min=1.0)
    elif kind == "ministral":
        tau = 1 + how["beta"] * (i / how["scale"]).floor().log1p()
    else:
        tau = torch.full_like(i, how["beta"])
    return (query * tau).to(query.dtype)


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention over the branches of `module.config.ropewalk`; `[B, S, H, D]`."""
    asked, asks = module.config.ropewalk, kwargs["position_ids"]
    last, count = asks[:, -1:], key.shape[2]
    keys = (last - count + 1 + torch.arange(count, device=key.device)).clamp(min=0)  # padding before a text is masked
    groups = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(groups, dim=1) for each in (key, value))
    query, branches = sharpened(query, asked["temperature"], asks), asked["branches"]
    told = [turned(key, each, stands(each["key"], keys)).transpose(2, 3) for each in branches]
    parts = []
    for span in torch.arange(query.shape[2]).split(SLICE):
        low, high = int(span[0]), int(span[-1]) + 1
        own, places = query[:, :, low:high], asks[:, low:high]
        logits = own.new_full((*own.shape[:3], count), torch.finfo(torch.float32).min, dtype=torch.float32)
        for branch, there in zip(branches, told, strict=True):
            far = gained(own, branch.get("gains"), module.layer_idx)
            here = turned(far, branch, stands(branch["query"], places)) @ there
            logits = torch.where(seen(branch, places, keys), here.float() * kwargs["scaling"], logits)
        if attention_mask is not None:
            logits = logits.masked_fill(~attention_mask[:, :, low:high], torch.finfo(torch.float32).min)
        parts.append(logits.softmax(-1).to(value.dtype) @ value)
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


class RopewalkForCausalLM(Model):
    config_class = RopewalkConfig
    _can_compile_fullgraph = False  # a cache of fixed size would hide where the text ends

    def __init__(self, config: Any) -> None:
        config._attn_implementation = NAME
        super().__init__(config)
        self.model.rotary_emb = Unturned(len(config.ropewalk["branches"][0]["inv_freq"]))

    @override
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.config._attn_implementation != NAME:
            raise ValueError(
                f"attn_implementation={self.config._attn_implementation!r} would leave queries and keys unturned: this "
                "model brings its own attention; leave attn_implementation alone."
            )
        return super().forward(*args, **kwargs)
