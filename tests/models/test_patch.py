"""A patched model computes what the stock model computes, row by row, and is itself again afterwards."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import ARCHITECTURES, WINDOW, config_of, logits, model_of, tokens

from ropewalk.errors import ModelError
from ropewalk.methods import make_params, resolve
from ropewalk.models import geometry_of, layout, patched
from ropewalk.models.layout import rotary_module
from ropewalk.models.patch import check_patchable
from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme

TOLERANCE = 2e-5  # largest logit is about 10, float32 ulp there 1e-6; twin tests show that 0.1 % of a factor is more


def rotations(model: Any) -> list[Rotation]:
    f = geometry_of(model.config).unscaled_inv_freq
    return [Rotation(inv_freq=f), Rotation(inv_freq=f / 2), Rotation(inv_freq=f / 8, attention_factor=1.3)]


def method_rotation(config: Any, method: str, length: int, **raw: Any) -> Rotation:
    return resolve(geometry_of(config), method, make_params(method, raw), length).rotation


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_with_different_rotations_equal_separate_runs(architecture: str) -> None:
    model, ids = model_of(architecture), tokens(rows=3)
    each = rotations(model)
    with patched(model, each):
        together = logits(model, ids)
    for row, rotation in enumerate(each):
        with patched(model, rotation):
            alone = logits(model, ids[row : row + 1])
        assert (together[row] - alone[0]).abs().max() < TOLERANCE
    assert (together - logits(model, ids)).abs().amax(dim=(1, 2))[1:].min() > 50 * TOLERANCE  # it did something


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_own_rotation_changes_no_bit(architecture: str) -> None:
    model, ids = model_of(architecture), tokens(rows=2)
    module, kind = rotary_module(model), geometry_of(model.config).layer_type
    inv_freq = getattr(module, f"{kind}_inv_freq" if kind else "inv_freq")
    before = logits(model, ids)
    with patched(model, Rotation(inv_freq=inv_freq.double().numpy())):
        assert torch.equal(logits(model, ids), before)
    assert torch.equal(logits(model, ids), before)


HALF = WINDOW // 4
SCALINGS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "linear": ({"factor": 4.0}, "linear", {"factor": 4}),
    "yarn": (
        {"factor": 4.0, "original_max_position_embeddings": HALF, "beta_fast": 8.0, "beta_slow": 1.0},
        "yarn",
        {"factor": 4, "beta_fast": 8, "beta_slow": 1, "original_max_position_embeddings": HALF},
    ),
    "llama3": (
        {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": HALF},
        "llama3",
        {"factor": 8, "original_max_position_embeddings": HALF},
    ),
    "longrope": (
        {"factor": 4.0, "original_max_position_embeddings": HALF},
        "longrope",
        {"factor": 4, "original_max_position_embeddings": HALF},
    ),
}


def scaled_config(architecture: str, scaling: dict[str, Any], rope_type: str) -> dict[str, Any]:
    plain = config_of(architecture)
    geometry, extra = geometry_of(plain), {}
    if rope_type == "longrope":  # both lists alike: static
        lambdas = np.linspace(1.0, 4.0, geometry.rotary_dim // 2).tolist()
        extra = {"short_factor": lambdas, "long_factor": lambdas}
    rope = {**dict(geometry.rope_parameters), "rope_type": rope_type, **scaling, **extra}
    if geometry.layer_type is None:
        return {"rope_parameters": rope}
    return {"rope_parameters": {**plain.rope_parameters, geometry.layer_type: rope}}


def difference(architecture: str, rope_type: str, stray: float = 1.0) -> float:
    """Largest logit difference between a stock model with the scaling in its configuration and a patched plain one."""
    scaling, method, raw = SCALINGS[rope_type]
    changes = scaled_config(architecture, scaling, rope_type)
    if architecture == "phi3":
        changes["original_max_position_embeddings"] = HALF
    stock, plain = model_of(architecture, **changes), model_of(architecture)
    raw = {**raw, "factor": raw["factor"] * stray}
    if rope_type == "longrope":
        lambdas = (np.linspace(1.0, 4.0, geometry_of(plain.config).rotary_dim // 2) * stray).tolist()
        raw |= {"short_factor": lambdas, "long_factor": lambdas}
    ids = tokens(length=2 * HALF)
    with patched(plain, method_rotation(plain.config, method, 2 * HALF, **raw)):
        return (logits(plain, ids) - logits(stock, ids)).abs().max().item()


CASES = [
    (architecture, rope_type)
    for architecture in ("llama", "qwen3", "phi3", "gemma3", "gpt_neox", "olmo3")
    for rope_type in SCALINGS
    if architecture != "phi3" or rope_type == "longrope"  # Phi-3's configuration takes no other
]


@pytest.mark.parametrize(("architecture", "rope_type"), CASES)
def test_patched_equals_stock_with_the_scaling_in_its_configuration(architecture: str, rope_type: str) -> None:
    assert (
        difference(architecture, rope_type) < 5 * TOLERANCE
    )  # float64 against float32 frequencies, times 128 positions


@pytest.mark.parametrize("rope_type", SCALINGS)
def test_parity_notices_a_factor_wrong_by_a_thousandth(rope_type: str) -> None:
    assert difference("qwen3", rope_type, stray=1.001) > 10 * TOLERANCE


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_none_of_a_scaled_checkpoint_equals_the_stock_model(architecture: str) -> None:
    model = model_of(architecture, **scaled_config(architecture, SCALINGS["yarn"][0], "yarn"))
    ids = tokens(length=96)
    with patched(model, method_rotation(model.config, "none", 96)):
        ours = logits(model, ids)
    assert (ours - logits(model, ids)).abs().max() < 5 * TOLERANCE


def test_sliding_layers_keep_their_shipped_rotation() -> None:
    """With a window of 16, a sliding layer's output must not depend on the patched rotation."""
    model, ids = model_of("gemma3"), tokens()
    seen: list[torch.Tensor] = []
    model.model.layers[0].register_forward_hook(lambda _, __, output: seen.append(output))
    logits(model, ids)
    with patched(model, rotations(model)[2]):
        logits(model, ids)
    assert model.config.layer_types[0] == "sliding_attention"
    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("architecture", ["llama", "olmo3"])
def test_cos_and_sin_have_the_dtype_of_the_stock_module(architecture: str) -> None:
    """OLMo rotates in float32 whatever the model's dtype; bfloat16 logits must be the stock ones bit for bit."""
    model = model_of(architecture)
    module = rotary_module(model)
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    model.to(torch.bfloat16)
    for name, buffer in buffers.items():  # as from_pretrained(dtype=bfloat16) has them
        setattr(module, name, buffer)
    kind = geometry_of(model.config).layer_type
    own = Rotation(inv_freq=buffers[f"{kind}_inv_freq" if kind else "inv_freq"].double().numpy())
    before = logits(model, tokens())
    with patched(model, own):
        assert torch.equal(logits(model, tokens()), before)


def test_autocast_changes_no_angle() -> None:
    model = model_of("llama")
    x, positions = torch.zeros(1, 4), torch.tensor([[0, 1, 4095, 131071]])
    with patched(model, rotations(model)[1]):
        module = rotary_module(model)
        plain = module(x, positions)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = module(x, positions)
    assert all(torch.equal(a, b) for a, b in zip(plain, inside, strict=True))
    assert plain[0].dtype == torch.float32


def state(model: Any) -> dict[str, bytes]:
    everything = {**model.state_dict(), **dict(model.named_buffers())}
    return {name: tensor.numpy().tobytes() for name, tensor in everything.items()}


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "phi3"])
@pytest.mark.parametrize("fails", [False, True])
def test_model_is_restored_bit_for_bit(architecture: str, fails: bool) -> None:
    changes = scaled_config(architecture, SCALINGS["longrope"][0], "longrope") if architecture == "phi3" else {}
    model, ids = model_of(architecture, **changes), tokens(length=2 * HALF)
    before, module = logits(model, ids), rotary_module(model)
    bytes_before, attributes, forward = state(model), set(vars(module)), module.forward
    try:
        with patched(model, rotations(model)):
            assert module.forward is not forward
            logits(model, tokens(rows=3, length=2 * HALF))
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert state(model) == bytes_before
    assert module.forward == forward  # bound methods are equal if object and function are the same
    assert set(vars(module)) == attributes
    assert torch.equal(logits(model, ids), before)


def test_a_forward_put_there_by_others_comes_back() -> None:
    model = model_of("llama")
    module = rotary_module(model)
    hooked = copy.copy(module.forward)
    module.forward = hooked
    with patched(model, rotations(model)[0]):
        assert module.forward is not hooked
    assert module.__dict__["forward"] is hooked


def test_nesting_is_refused_and_leaves_the_outer_one_in_force() -> None:
    model, ids = model_of("llama"), tokens()
    first, second = rotations(model)[1:]
    with patched(model, first):
        before = logits(model, ids)
        with (
            pytest.raises(ModelError, match=r"^The model is patched already; leave the first `with patched\(\.\.\.\)`"),
            patched(model, second),
        ):
            pass
        assert torch.equal(logits(model, ids), before)


def test_wrong_number_of_rows_is_refused() -> None:
    model = model_of("llama")
    with (
        patched(model, rotations(model)),
        pytest.raises(ModelError, match=r"^3 rotations were given for a batch of 2 r"),
    ):
        logits(model, tokens(rows=2))


def test_no_rotation_is_refused() -> None:
    with (
        pytest.raises(ModelError, match=r"^patched\(\) was given no rotation; give one for all rows"),
        patched(model_of("llama"), []),
    ):
        pass


def test_rotation_of_another_size_is_refused() -> None:
    wrong = Rotation(inv_freq=np.ones(16))
    with (
        pytest.raises(ModelError, match=r"^The rotation has 16 frequencies, but rotary_dim=12 needs 6; resolve"),
        patched(model_of("phi3"), wrong),
    ):
        pass


def test_frequencies_rounded_by_a_cast_are_refused() -> None:
    model = model_of("gemma3").to(torch.bfloat16)
    message = (
        r"^rotary_emb\.full_attention_inv_freq is bfloat16, which rounds every position; "
        r"load the model with from_pretrained\(dtype=\.\.\.\) instead of casting it with model\.to\(\.\.\.\)\.$"
    )
    with pytest.raises(ModelError, match=message), patched(model, rotations(model)[0]):
        pass


def test_a_layout_that_is_unknown_is_refused_not_patched_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    kind = type(rotary_module(model))

    def turned(self: Any, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        freqs = (position_ids[..., None].float() + 1) * self.inv_freq
        return torch.cat((freqs, freqs), dim=-1).cos(), torch.cat((freqs, freqs), dim=-1).sin()

    monkeypatch.setattr(kind, "forward", turned)
    with pytest.raises(ModelError, match=r"^LlamaRotaryEmbedding lays out cos and sin in none of the ways that"):
        check_patchable(model)


def test_model_without_rotary_module_is_refused() -> None:
    model = model_of("llama")
    del model.model.rotary_emb
    with pytest.raises(ModelError, match=r"^LlamaForCausalLM has no module with a buffer inv_freq, where the"):
        check_patchable(model)


def test_modules_with_frequencies_of_their_own_are_refused() -> None:
    """As Granite SWA has them where its `layer_rope_theta` differ."""
    model = model_of("llama")
    model.model.other = copy.deepcopy(model.model.rotary_emb)
    check_patchable(model)
    model.model.other.inv_freq *= 0.5
    with pytest.raises(ModelError, match=r"^LlamaForCausalLM rotates its layers by different frequencies \(rope_th"):
        check_patchable(model)


def test_positions_of_images_are_refused() -> None:
    model, positions = model_of("llama"), torch.arange(4).expand(3, 1, 4).clone()
    positions[1, 0, 3] = 9
    with (
        patched(model, rotations(model)[0]),
        pytest.raises(ModelError, match=r"^position_ids of shape \[3, 1, 4\] are not"),
    ):
        rotary_module(model)(torch.zeros(1, 4), positions)


def test_compiles_without_graph_break() -> None:
    model = model_of("llama")
    with patched(model, rotations(model)[1]):
        forward = rotary_module(model).forward
        compiled = torch.compile(forward, backend="eager", fullgraph=True)
        x, positions = torch.zeros(1, 4), torch.arange(4)[None]
        assert all(torch.equal(a, b) for a, b in zip(compiled(x, positions), forward(x, positions), strict=True))


def test_a_scheme_of_a_rotation_alone_is_that_rotation() -> None:
    model, ids = model_of("llama"), tokens(rows=3)
    plain, other, last = rotations(model)
    with patched(model, [plain, other, last]):
        expected = logits(model, ids)
    with patched(model, [Scheme(rotation=plain), other, Scheme(rotation=last)]):
        assert torch.equal(logits(model, ids), expected)
    assert Scheme(rotation=last).fingerprint == last.fingerprint


def test_a_cut_context_is_no_business_of_the_patch() -> None:
    model = model_of("llama")
    scheme = Scheme(rotation=rotations(model)[0], context=32)
    with (
        pytest.raises(ModelError, match=r"context=32, which says how many tokens to feed.*under `scheme\.fed`"),
        patched(model, scheme),
    ):
        pass
    with patched(model, scheme.fed):
        pass


def test_a_layout_is_proven_once_until_what_was_read_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    proofs = []
    proof = layout._proof
    monkeypatch.setattr(layout, "_proof", lambda *read: proofs.append(1) or proof(*read))
    model, other = copy.deepcopy(model_of("llama")), copy.deepcopy(model_of("llama"))
    for each, count in ((model, 1), (model, 1), (other, 2), (model, 2)):
        with patched(each, rotations(each)[1]):
            pass
        assert len(proofs) == count
    rotary_module(model).inv_freq.mul_(0.5)
    rotary_module(other).inv_freq = rotary_module(other).inv_freq.clone()
    for each, count in ((model, 3), (other, 4), (model, 4)):
        with patched(each, rotations(each)[1]):
            pass
        assert len(proofs) == count
