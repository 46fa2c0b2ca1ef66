"""Temperatures that checkpoints ship: `none` has them, and a method's own formula gives the same where none ships."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ropewalk.errors import ModelError
from ropewalk.methods.none import shipped
from ropewalk.models import patched
from ropewalk.models.geometry import geometry_of
from ropewalk.scheme import Branch, Positions, Scheme, Temperature
from ropewalk.scoring import fast, split
from ropewalk.scoring.loop import NllRow, score

TOKENS, FLOOR, STRENGTH = 64, 16, 0.5
NOISE = 2e-5  # float32 through two layers, nats
COMMON = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
ROPE = {"rope_type": "default", "rope_theta": 1e4, "original_max_position_embeddings": FLOOR}
YARN = ROPE | {"rope_type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.8}
LATENT = {
    "num_key_value_heads": 4,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
}
ROUTED = {"n_routed_experts": 2, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 1, "moe_intermediate_size": 32}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1, "intermediate_size_mlp": 64}


def llama4(strength: float, **more: Any) -> Any:
    """A layer that turns, and one that does not and is sharpened."""
    changes = {"head_dim": 16, "attn_scale": strength, "floor_scale": FLOOR, "attn_temperature_tuning": True}
    kinds = {"no_rope_layers": [1, 0], "layer_types": ["chunked_attention", "full_attention"]}
    window = {"attention_chunk_size": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return model_of("Llama4Text", "Llama4", EXPERTS | changes | kinds | window | more)


def mistral4(strength: float) -> Any:
    return model_of(
        "Mistral4", "Mistral4", LATENT | ROUTED | {"rope_parameters": YARN | {"llama_4_scaling_beta": strength}}
    )


def model_of(config: str, stem: str, changes: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    values = getattr(transformers, f"{config}Config")(**(COMMON | changes))
    model = getattr(transformers, f"{stem}ForCausalLM")(values).float().eval()
    with torch.no_grad():  # sharp enough that a temperature shows
        for name, weight in model.named_parameters():
            if name.endswith(("q_proj.weight", "q_b_proj.weight", "k_proj.weight", "kv_b_proj.weight")):
                weight.mul_(12)
    return model


def ids() -> torch.Tensor:
    return torch.arange(TOKENS) * 31 % 97


@torch.no_grad()
def stock(model: Any) -> np.ndarray:
    logits = model(input_ids=ids()[None], use_cache=False).logits[0].float()
    return torch.nn.functional.cross_entropy(logits[:-1], ids()[1:], reduction="none").numpy()


def measured(model: Any, scheme: Scheme) -> np.ndarray:
    with fast(model, split(model), compiled=False) as parts:
        row = NllRow(ids=ids().numpy().astype(np.int32), scheme=scheme)
        ((_, found),) = next(iter(score(model, parts, [row], TOKENS)))
    assert isinstance(found, np.ndarray), found
    return found


@pytest.mark.parametrize("made", [llama4, mistral4])
def test_none_has_the_temperature_that_ships(made: Any) -> None:
    model = made(STRENGTH)
    expected = stock(model)
    assert np.abs(stock(made(0.0)) - expected)[FLOOR:].max() > 100 * NOISE
    none = Scheme(rotation=shipped(geometry_of(model.config), TOKENS))
    assert np.abs(measured(model, none) - expected).max() < NOISE


def test_llama4s_temperature_is_what_transformers_ships() -> None:
    """Without norms after the turn, under which rotations alone are taken."""
    expected, plain = stock(llama4(STRENGTH, use_qk_norm=False)), llama4(0.0, use_qk_norm=False)
    plain.config.attn_temperature_tuning = False
    for layer in plain.model.layers:
        layer.self_attn.attn_temperature_tuning = False
    own = shipped(geometry_of(plain.config), TOKENS)
    scheme = Scheme(rotation=own, temperature=Temperature(kind="llama4", scale=FLOOR, beta=STRENGTH))
    assert np.abs(measured(plain, scheme) - expected).max() < NOISE
    weaker = Scheme(rotation=own, temperature=Temperature(kind="llama4", scale=FLOOR, beta=0.9 * STRENGTH))
    with patched(plain, weaker):
        assert np.abs(stock(plain) - expected).max() > 10 * NOISE


def test_layers_that_cannot_branch_are_refused() -> None:
    """Llama 4 normalises queries and keys after they were turned."""
    model = llama4(STRENGTH)
    own = shipped(geometry_of(model.config), TOKENS)
    branches = (Branch(rotation=own, stop=16), Branch(rotation=own, start=16, query=Positions(scale=0.5)))
    sentence = "something to queries or keys after they were turned, .* it takes rotations alone"
    with pytest.raises(ModelError, match=sentence), patched(model, Scheme(rotation=own, branches=branches)):
        pass
