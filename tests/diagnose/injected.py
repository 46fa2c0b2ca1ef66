"""Models, what is asked of their servers, and every fault of the library put into a server by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import faulty_servers
import torch
import transformers
from faulty_servers import Ids, buffers, rebuilt

THETA = 500000.0
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "vocab_size": 384,
    "initializer_range": 0.25,  # attention then looks at more than the last token, and rotations show
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "tie_word_embeddings": False,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": THETA,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LAYERED = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    "full_attention": {"rope_type": "default", "rope_theta": THETA},
}
LISTS = {
    "rope_type": "longrope",
    "rope_theta": THETA,
    "short_factor": [1.0 + 0.05 * i for i in range(16)],
    "long_factor": [1.0 + 0.25 * i for i in range(16)],
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "attention_factor": 1.2,
    "partial_rotary_factor": 1.0,
}


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model and what is asked of its server.

    Attributes:
        rope: `rope_parameters` that mean the same to stock transformers.
        bare: those without scaling.
        length: tokens.
    """

    name: str
    make: Callable[[], Any]
    method: str
    params: dict[str, Any]
    rope: dict[str, Any]
    bare: dict[str, Any]
    length: int
    layered: bool = False
    context: int = 128
    more: dict[str, Any] = field(default_factory=dict)

    def placed(self, rope: dict[str, Any], sliding: dict[str, Any] | None = None) -> dict[str, Any]:
        """Where the model keeps it."""
        if not self.layered:
            return rope
        return {"sliding_attention": sliding or LAYERED["sliding_attention"], "full_attention": rope}


def random(kind: str, **changes: Any) -> Any:
    """A random model of a class of transformers."""
    torch.manual_seed(0)
    stem = kind.replace("ForCausalLM", "").replace("Gemma3", "Gemma3Text")
    config = getattr(transformers, f"{stem}Config")(**{**SMALL, **changes})
    return getattr(transformers, kind)(config).eval().requires_grad_(False)


def yarn(theta: float, window: int, **more: Any) -> dict[str, Any]:
    plain = {"rope_type": "yarn", "rope_theta": theta, "factor": 4.0, "original_max_position_embeddings": window}
    return plain | more


OWN = {"beta_slow": 0.4, "attention_factor": 1.35}

LLAMA = Served(
    name="llama shipping llama3",
    make=lambda: random("LlamaForCausalLM", max_position_embeddings=256, rope_parameters=LLAMA3),
    method="yarn",
    params={"factor": 4, **OWN},
    rope=yarn(THETA, 64, **OWN),
    bare={"rope_type": "default", "rope_theta": THETA},
    length=512,
)
GEMMA = Served(
    name="gemma3",
    make=lambda: random(
        "Gemma3ForCausalLM",
        max_position_embeddings=128,
        layer_types=["sliding_attention", "full_attention"],
        sliding_window=32,
        query_pre_attn_scalar=32,
        rope_parameters=LAYERED,
    ),
    method="yarn",
    params={"factor": 4},
    rope=yarn(THETA, 128),
    bare={"rope_type": "default", "rope_theta": THETA},
    length=512,
    layered=True,
)
PHI = Served(
    name="phi3 shipping longrope",
    make=lambda: random(
        "Phi3ForCausalLM",
        max_position_embeddings=256,
        original_max_position_embeddings=64,
        rope_parameters=LISTS,
        sliding_window=None,
    ),
    method="none",
    params={},
    rope=LISTS,
    bare={"rope_type": "default", "rope_theta": THETA, "partial_rotary_factor": 1.0},
    length=512,
    more={"longrope": True},
)


TEMPERED = {"llama_4_scaling_beta": 0.5, "original_max_position_embeddings": 64}
MINISTRAL = Served(
    name="ministral3",
    make=lambda: random("Ministral3ForCausalLM", max_position_embeddings=256, rope_parameters=MINISTRAL.rope),
    method="none",
    params={},
    rope=yarn(THETA, 64, **TEMPERED),
    bare={"rope_type": "default", "rope_theta": THETA, **TEMPERED},
    length=512,
)


def strand() -> Served:
    """The trained one."""
    from ropewalk.models import ModelSpec, load

    return Served(
        name="strand",
        make=lambda: load(ModelSpec(id="strand"), dtype="float32").model,
        method="yarn",
        params={"factor": 4},
        rope=yarn(10000.0, 256),
        bare={"rope_type": "default", "rope_theta": 10000.0},
        length=1024,
        context=512,
    )


Fault = tuple[str, Any, Callable[[Ids], Ids]]
"""The name that it must be given, the model, and what becomes of the tokens."""


def faults(served: Served, model: Any, *, bos: bool) -> Iterator[Fault]:
    """As asked, and then every fault that this model can have."""
    for part in (_ropes, _layers if served.layered else _nothing, _buffers, _contexts):
        for name, other in part(served, model):
            yield name, other, _same
    if bos:
        asked = _with(served, model, served.rope)
        yield "BOS doubled", asked, lambda ids: [0, *ids]
        yield "BOS missing", asked, lambda ids: ids[1:]
    yield "context cut", _with(served, model, served.rope), lambda ids: ids[-served.context - 64 :]


def _same(ids: Ids) -> Ids:
    return ids


def _nothing(served: Served, model: Any) -> Iterator[tuple[str, Any]]:
    yield from ()


def _with(served: Served, model: Any, rope: dict[str, Any], sliding: dict[str, Any] | None = None) -> Any:
    return rebuilt(model, served.placed(rope, sliding))


def _ropes(served: Served, model: Any) -> Iterator[tuple[str, Any]]:
    rope, bare = served.rope, served.bare
    s = rope["factor"]
    yield "as asked", _with(served, model, rope)
    yield "unscaled", _with(served, model, bare)
    if served is MINISTRAL:
        yield "temperature missing", _with(served, model, rope | {"llama_4_scaling_beta": 0.0})
    if served is LLAMA:
        yield "as shipped", _with(served, model, LLAMA3)
        yield "betas by default", _with(served, model, {k: v for k, v in rope.items() if k != "beta_slow"})
        yield (
            "attention factor by formula",
            _with(served, model, {k: v for k, v in rope.items() if k != "attention_factor"}),
        )
    if rope["rope_theta"] != 10000.0:
        yield "theta fallen back", _with(served, model, rope | {"rope_theta": 10000.0})
        yield "theta fallen back, unscaled", _with(served, model, bare | {"rope_theta": 10000.0})
    yield "attention factor missing", _with(served, model, rope | {"attention_factor": 1.0})
    yield "linear", _with(served, model, bare | {"rope_type": "linear", "factor": s})
    if rope["rope_type"] == "longrope":
        yield "short instead of long", _with(served, model, rope | {"long_factor": rope["short_factor"]})
        return
    yield "factor squared", _with(served, model, rope | {"factor": s * s})
    own = rope["original_max_position_embeddings"]
    if served is not MINISTRAL:  # whose temperature counts from the same key
        yield (
            f"window {round(own * s)}",
            _with(served, model, rope | {"original_max_position_embeddings": round(own * s)}),
        )
    if not served.layered:
        yield "truncate", _with(served, model, rope | {"truncate": False})


def _layers(served: Served, model: Any) -> Iterator[tuple[str, Any]]:
    rope, bare, sliding = served.rope, served.bare, LAYERED["sliding_attention"]
    scaled = rope | {"rope_theta": sliding["rope_theta"]}
    yield "sliding layers scaled", _with(served, model, rope, scaled)
    yield "only sliding layers scaled", _with(served, model, bare, scaled)
    yield "sliding layers as full ones", _with(served, model, rope, rope)


def _buffers(served: Served, model: Any) -> Iterator[tuple[str, Any]]:
    """Numbers that no configuration gives."""
    kind = "full_attention" if served.layered else ""
    before = f"{kind}_" if kind else ""
    found = _with(served, model, served.rope).model.rotary_emb
    plain = getattr(_with(served, model, served.bare).model.rotary_emb, f"{before}inv_freq")
    asked, factor = getattr(found, f"{before}inv_freq"), getattr(found, f"{before}attention_scaling")
    if served.rope["rope_type"] == "longrope":  # its module switches lists by itself, and would undo any of this
        asked = plain / torch.tensor(served.rope["long_factor"])

    def other(inv_freq: torch.Tensor, factor: float) -> Any:
        return buffers(_with(served, model, served.bare), kind=kind, inv_freq=inv_freq, factor=factor)

    yield "factor missing", other(plain, factor)
    yield "applied twice", other(asked * asked / plain, factor**2)
    yield "attention factor squared", other(asked, factor**2)
    if served is LLAMA:
        own = _with(served, model, LLAMA3).model.rotary_emb.inv_freq
        yield "stacked on shipped", other(asked * own / plain, factor)


def _contexts(served: Served, model: Any) -> Iterator[tuple[str, Any]]:
    """Attention that forgets, in models without kinds of layers."""
    if served.layered:
        return
    asked = _with(served, model, served.rope)
    tokens = served.length // 2
    if isinstance(model, transformers.LlamaForCausalLM):
        shared = {
            key: value for key, value in asked.config.to_dict().items() if key not in ("model_type", "architectures")
        }
        config = transformers.MistralConfig(**copy.deepcopy(shared) | {"sliding_window": tokens})
        sliding = transformers.MistralForCausalLM(config).eval().requires_grad_(False)
        sliding.load_state_dict(asked.state_dict())
    else:
        sliding = rebuilt(model, served.rope, sliding_window=tokens)
    yield f"sliding window {tokens}", sliding
    yield f"shifted at {tokens}", Shifting(asked, tokens)


class Shifting:
    """A model whose cache drops its older half whenever it is full, as llama.cpp's context shift does."""

    def __init__(self, model: Any, tokens: int) -> None:
        self.model, self.tokens, self.config = model, tokens, model.config

    def __call__(self, *, input_ids: torch.Tensor, use_cache: bool) -> Any:
        """Pieces through a cache: each key keeps its rotation, which only its distances from queries matter for."""
        total, half = input_ids.shape[1], self.tokens // 2
        cache, parts, start = transformers.DynamicCache(config=self.config), [], 0
        while start < total:
            stop = self.tokens if start == 0 else start + half
            piece = input_ids[:, start:stop]
            where = torch.arange(start, start + piece.shape[1])[None]
            parts.append(self.model(input_ids=piece, past_key_values=cache, position_ids=where, use_cache=True).logits)
            for layer in cache.layers:
                layer.keys, layer.values = layer.keys[:, :, half:], layer.values[:, :, half:]
            start = stop
        return type("Out", (), {"logits": torch.cat(parts, 1)})


def answers(model: Any, change: Callable[[Ids], Ids]) -> Callable[[str, Any], Any]:
    return faulty_servers.answers(model, change)
