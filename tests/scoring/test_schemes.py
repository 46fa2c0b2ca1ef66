"""Gains, temperatures and branches: attention computes what the formulas say, fast and exact, alone and in batches."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from independent import logits_of
from rows_for_tests import FLOAT_NOISE, ids, losses, outcomes, random_model, stock_logits, stock_nll

from ropewalk.errors import ModelError
from ropewalk.methods import make_params, resolve
from ropewalk.models import geometry_of, patched
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.scheme import Branch, Gains, Positions, Scheme, Temperature
from ropewalk.scoring import AnswerRow, NllRow, attention, fast, kernels, score_shared, split
from ropewalk.scoring.attention import installed

LENGTH, WINDOW = 61, 32
F = RopeGeometry(rotary_dim=16, rope_theta=1e4, max_position_embeddings=WINDOW).unscaled_inv_freq
OWN = Rotation(inv_freq=F)
HALF = Rotation(inv_freq=F / 2, attention_factor=1.1)


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model("Llama", num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=WINDOW)


def gains(model: Any, seed: int = 0) -> Gains:
    shape = model.config.num_hidden_layers, model.config.num_attention_heads, 8
    return Gains(log=np.random.default_rng(seed).normal(0, 0.4, shape))


# What papers draw, written by hand: from i, j and numbers to the distance that is told; NaN where nothing is seen.

Map = Callable[[int, int], float]
W, G = 5, 4
METHODS: dict[str, tuple[str, dict[str, Any], Map]] = {
    "rerope": ("rerope", {"neighbor_window": W}, lambda i, j: min(i - j, W)),
    "leaky": (
        "leaky_rerope",
        {"neighbor_window": W, "k": 3},
        lambda i, j: i - j if i - j < W else W + (i - j - W) / 3,
    ),
    "self": (
        "self_extend",
        {"neighbor_window": W, "group_size": G},
        lambda i, j: i - j if i - j < W else i // G + W - W // G - j // G,
    ),
    "self, released": (
        "self_extend",
        {"neighbor_window": W, "group_size": G, "division": "true"},
        lambda i, j: i - j if i - j < W else i // G + W - W / G - j // G,
    ),
    "jet": ("jet_long", {"neighbor_window": W}, lambda i, j: i - j if i - j <= W else i // 2 - j // 2),
    "string": (
        "string",
        {"shift": 11, "neighbor_window": W},
        lambda i, j: i - j if i - j < 11 else i - j - 11 + W,
    ),
    "dca": (  # chunks of 13 - 3
        "dca",
        {"chunk_size": 13, "local_size": 3},
        lambda i, j: {0: i - j, 1: min(i % 10 + 10, 13) - j % 10}.get(i // 10 - j // 10, 13 - j % 10),
    ),
    "dca, small chunks": (
        "dca",
        {"chunk_size": 20, "local_size": 13},
        lambda i, j: {0: i - j, 1: min(i % 7 + 7, 20) - j % 7}.get(i // 7 - j // 7, 13 - j % 7),
    ),
    "streaming": (
        "streaming",
        {"neighbor_window": W},
        lambda i, j: i - j if i - j < W else (min(i, W + 3) - j if j < 4 else np.nan),
    ),
}


def scheme_of(method: str, raw: dict[str, Any], length: int = LENGTH) -> Scheme:
    geometry = RopeGeometry(rotary_dim=16, rope_theta=1e4, max_position_embeddings=WINDOW)
    return resolve(geometry, method, make_params(method, raw), length).scheme


def drawn(map_: Map, length: int = LENGTH) -> np.ndarray:
    return np.array([[map_(i, j) if j <= i else np.nan for j in range(length)] for i in range(length)])


@pytest.fixture(scope="module")
def quick(model: Any) -> Any:
    with fast(model, split(model), compiled=False) as parts:
        yield parts


def exact_nll(model: Any, text: np.ndarray, scheme: Scheme) -> np.ndarray:
    """Under eager attention, what `--exact` runs."""
    with installed(model, "eager"):
        return stock_nll(model, text, scheme)


def nll(logits: torch.Tensor, text: np.ndarray) -> np.ndarray:
    targets = torch.from_numpy(text[1:].astype(np.int64))
    return torch.nn.functional.cross_entropy(logits[:-1], targets, reduction="none").numpy()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_its_map_of_distances(model: Any, quick: Any, name: str) -> None:
    method, raw, map_ = METHODS[name]
    distance, text = drawn(map_), ids(LENGTH, 3)
    expected = nll(logits_of(model, text, [(~np.isnan(distance), distance, F, 1.0)]), text)
    scheme = scheme_of(method, raw)
    assert scheme.branches
    (found,) = losses(model, quick, [NllRow(ids=text, scheme=scheme)])
    assert np.abs(found - expected).max() < FLOAT_NOISE
    plain = nll(stock_logits(model, text, OWN), text)
    assert np.abs(found - plain).max() > 100 * FLOAT_NOISE


def test_bifocal_has_two_rotations(model: Any, quick: Any) -> None:
    scheme = scheme_of("bifocal", {"neighbor_window": W, "far": {"linear": {"factor": 2}}})
    scheme = dataclasses.replace(
        scheme, branches=(scheme.branches[0], dataclasses.replace(scheme.branches[1], rotation=HALF))
    )
    distance, text = drawn(lambda i, j: i - j), ids(LENGTH, 3)
    near = (distance < W) & ~np.isnan(distance)
    told = [(near, distance, F, 1.0), (distance >= W, distance, F / 2, 1.1)]
    (found,) = losses(model, quick, [NllRow(ids=text, scheme=scheme)])
    assert np.abs(found - nll(logits_of(model, text, told), text)).max() < FLOAT_NOISE


def far_gained(model: Any) -> Scheme:
    scheme = scheme_of("bifocal", {"neighbor_window": W, "far": {"linear": {"factor": 2}}})
    own, far = scheme.branches
    return dataclasses.replace(scheme, branches=(own, dataclasses.replace(far, rotation=HALF, gains=gains(model))))


def with_far(scheme: Scheme, gains: Gains | None) -> Scheme:
    own, far = scheme.branches
    return dataclasses.replace(scheme, branches=(own, dataclasses.replace(far, gains=gains)))


def test_gains_of_a_branch_act_on_its_distances_alone(model: Any, quick: Any) -> None:
    """Against independent dense attention; fast, exact, beside other rows, and after a beginning that is shared."""
    scheme = far_gained(model)
    distance, text = drawn(lambda i, j: i - j), ids(LENGTH, 3)
    near, log = (distance < W) & ~np.isnan(distance), scheme.branches[1].gains
    assert log is not None
    told = [(near, distance, F, 1.0), (distance >= W, distance, F / 2, 1.1, log.log.astype(float))]
    expected = nll(logits_of(model, text, told), text)
    (found,) = losses(model, quick, [NllRow(ids=text, scheme=scheme)])
    assert np.abs(found - expected).max() < FLOAT_NOISE
    assert np.abs(exact_nll(model, text, scheme) - expected).max() < FLOAT_NOISE
    (plain,) = losses(model, quick, [NllRow(ids=text, scheme=with_far(scheme, None))])
    assert np.abs(found - plain).max() > 100 * FLOAT_NOISE


def test_a_text_within_the_near_window_is_as_trained_whatever_the_gains_are(model: Any, quick: Any) -> None:
    """To the last bit of what near attention is without gains."""
    scheme, text = far_gained(model), ids(W, 3)
    without = with_far(scheme, None)
    (found,), (plain,) = (losses(model, quick, [NllRow(ids=text, scheme=each)]) for each in (scheme, without))
    assert np.array_equal(found, plain)
    long = ids(LENGTH, 3)
    (found,), (plain,) = (losses(model, quick, [NllRow(ids=long, scheme=each)]) for each in (scheme, without))
    assert np.array_equal(found[: W - 1], plain[: W - 1])


def test_far_gains_of_0_are_none_and_those_of_another_model_are_refused(model: Any, quick: Any) -> None:
    scheme, text = far_gained(model), ids(LENGTH, 3)
    still, without = (with_far(scheme, each) for each in (Gains(log=np.zeros((2, 4, 8))), None))
    (found,), (plain,) = (losses(model, quick, [NllRow(ids=text, scheme=each)]) for each in (still, without))
    assert np.array_equal(found, plain)
    assert len({each.fingerprint for each in (scheme, still, without)}) == 3
    assert "gains" not in without.branches[1].plain()
    wrong = with_far(scheme, Gains(log=np.ones((2, 3, 8))))
    with pytest.raises(ModelError, match=r"takes gains of shape \[2, 4, 8\]"), patched(model, wrong):
        pass


def test_a_branch_with_gains_comes_back_from_what_is_stored(model: Any) -> None:
    far = far_gained(model).branches[1]
    again = Branch.of(json.loads(json.dumps(far.plain())), far.rotation)
    assert again == far
    assert again.gains is not None
    assert np.array_equal(again.gains.log, gains(model).log)


@pytest.mark.parametrize("name", METHODS)
def test_the_exact_twin_is_the_fast_way(model: Any, quick: Any, name: str) -> None:
    method, raw, _ = METHODS[name]
    scheme, text = scheme_of(method, raw), ids(LENGTH, 4)
    (found,) = losses(model, quick, [NllRow(ids=text, scheme=scheme)])
    exact = exact_nll(model, text, scheme)
    assert np.abs(found - exact).max() < FLOAT_NOISE


def rows_of_all_kinds(model: Any) -> list[Scheme]:
    tuned = Scheme(rotation=HALF, gains=gains(model), temperature=Temperature(kind="logn", scale=8))
    every = [scheme_of(method, raw) for method, raw, _ in METHODS.values()]
    mixed = [dataclasses.replace(every[2], gains=gains(model, 1)), dataclasses.replace(every[2], temperature=None)]
    return [Scheme(rotation=OWN), tuned, Scheme(rotation=OWN, gains=gains(model, 2)), *every, *mixed, far_gained(model)]


def test_rows_of_all_kinds_of_schemes_beside_each_other(model: Any, quick: Any) -> None:
    rows = [NllRow(ids=ids(LENGTH, seed), scheme=scheme) for seed, scheme in enumerate(rows_of_all_kinds(model))]
    for found, row in zip(losses(model, quick, rows, batch_tokens=4 * LENGTH), rows, strict=True):
        (alone,) = losses(model, quick, [row])
        assert np.abs(found - alone).max() < FLOAT_NOISE
        assert np.abs(alone - exact_nll(model, row.ids, row.scheme)).max() < FLOAT_NOISE


def test_prompts_that_begin_alike_go_on_under_every_scheme(model: Any, quick: Any) -> None:
    assert quick.held
    beginning = ids(300, 9)
    prompts = [np.concatenate([beginning[:at], ids(40, at)]) for at in (280, 290, 299)]
    rows = [
        AnswerRow(ids=prompt, scheme=scheme, answer_tokens=4)
        for scheme in rows_of_all_kinds(model)
        for prompt in prompts
    ]
    for answer, row in zip(outcomes(model, quick, rows, 2048, score_shared), rows, strict=True):
        assert np.abs(answer.nll - exact_nll(model, row.ids, row.scheme)[-4:]).max() < FLOAT_NOISE


@pytest.mark.parametrize(
    ("method", "raw"), [(method, raw) for method, raw, _ in METHODS.values() if method != "jet_long"]
)
def test_a_longer_text_begins_with_the_losses_of_a_shorter_one(model: Any, quick: Any, method: str, raw: Any) -> None:
    scheme = scheme_of(method, raw)
    long, short = (NllRow(ids=ids(LENGTH)[:end], scheme=scheme) for end in (LENGTH, 37))
    (longer,), (shorter,) = losses(model, quick, [long]), losses(model, quick, [short])
    assert np.abs(longer[:36] - shorter).max() < FLOAT_NOISE


def test_gains_are_what_folding_them_into_weights_gives(model: Any, quick: Any) -> None:
    found_gains, text = gains(model), ids(LENGTH, 5)
    (found,) = losses(model, quick, [NllRow(ids=text, scheme=Scheme(rotation=HALF, gains=found_gains))])
    folded = random_model("Llama", num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=WINDOW)
    for layer, log in zip(folded.model.layers, found_gains.log, strict=True):
        rows = torch.from_numpy(np.exp(np.concatenate([log, log], 1))).flatten()  # pairs in halves
        layer.self_attn.q_proj.weight.mul_(rows[:, None])
    assert np.abs(found - stock_nll(folded, text, HALF)).max() < FLOAT_NOISE
    assert np.abs(found - stock_nll(model, text, HALF)).max() > 100 * FLOAT_NOISE


@pytest.mark.parametrize(
    ("stem", "changes"),
    [("Glm4", {"partial_rotary_factor": 0.5}), ("GPTNeoX", {"rotary_pct": 0.5, "num_attention_heads": 2})],
)
def test_gains_find_pairs_wherever_they_are(stem: str, changes: dict[str, Any]) -> None:
    """exp(g) on every pair of a rotated head half is the same as a query times exp(g) there."""
    model = random_model(stem, **changes)
    geometry, text = geometry_of(model.config), ids(40)
    pairs = geometry.rotary_dim // 2
    log = np.zeros((2, 2, pairs))
    log[:, :, 1] = 0.7
    own = Rotation(inv_freq=geometry.unscaled_inv_freq)
    with torch.no_grad():
        found = stock_nll(model, text, Scheme(rotation=own, gains=Gains(log=log)))
        dims = (2, 3) if stem == "Glm4" else (1, 1 + pairs)
        for layer in getattr(model, "gpt_neox", getattr(model, "model", None)).layers:
            if stem == "Glm4":
                weight = layer.self_attn.q_proj.weight.view(2, -1, 32)
                bias = layer.self_attn.q_proj.bias
            else:
                weight = layer.attention.query_key_value.weight.view(2, 3, -1, 32)[:, 0]
                bias = layer.attention.query_key_value.bias.view(2, 3, -1)[:, 0]
            weight[:, dims, :] *= np.exp(0.7)
            if bias is not None:
                bias.view(2, -1)[:, dims] *= np.exp(0.7)
    assert np.abs(found - stock_nll(model, text, own)).max() < FLOAT_NOISE


@pytest.mark.parametrize(
    ("temperature", "tau"),
    [
        (Temperature(kind="logn", scale=8), lambda i: max(1, np.log(i + 1) / np.log(8))),
        (Temperature(kind="ministral", scale=8, beta=0.3), lambda i: 1 + 0.3 * np.log(1 + i // 8)),
        (Temperature(kind="constant", beta=1.3), lambda i: 1.3),
    ],
)
def test_a_temperature_multiplies_logits_by_its_formula(model: Any, quick: Any, temperature: Any, tau: Any) -> None:
    text, distance = ids(LENGTH, 6), drawn(lambda i, j: i - j)
    told = [(~np.isnan(distance), distance, F, 1.0)]
    expected = nll(logits_of(model, text, told, tau=np.array([tau(i) for i in range(LENGTH)], float)), text)
    (found,) = losses(model, quick, [NllRow(ids=text, scheme=Scheme(rotation=OWN, temperature=temperature))])
    assert np.abs(found - expected).max() < FLOAT_NOISE


def test_ministrals_temperature_is_what_transformers_ships() -> None:
    rope = {"rope_type": "default", "rope_theta": 1e4, "original_max_position_embeddings": 16}
    shipped = random_model("Ministral3", rope_parameters={**rope, "llama_4_scaling_beta": 0.4}, head_dim=16)
    plain = random_model("Ministral3", rope_parameters={**rope, "llama_4_scaling_beta": 0.0}, head_dim=16)
    text, temperature = ids(64), Temperature(kind="ministral", scale=16, beta=0.4)
    expected = stock_nll(shipped, text)
    assert np.abs(stock_nll(plain, text) - expected).max() > 100 * FLOAT_NOISE
    found = stock_nll(plain, text, Scheme(rotation=OWN, temperature=temperature))
    assert np.abs(found - expected).max() < FLOAT_NOISE
    with fast(shipped, split(shipped), compiled=False) as parts:  # what ships is there, once
        (measured,) = losses(shipped, parts, [NllRow(ids=text, scheme=Scheme(rotation=OWN))])
        (branched,) = losses(shipped, parts, [NllRow(ids=text, scheme=scheme_of(*METHODS["self"][:2], 64))])
        assert parts.schemes() is None
    assert np.abs(measured - expected).max() < FLOAT_NOISE
    assert np.abs(branched - exact_nll(shipped, text, scheme_of(*METHODS["self"][:2], 64))).max() < FLOAT_NOISE
    with (
        pytest.raises(ModelError, match=r"ships a temperature of its own \(llama_4_scaling_beta\)"),
        patched(shipped, Scheme(rotation=OWN, temperature=temperature)),
    ):
        pass


def test_layers_with_a_sliding_window_are_left_plain() -> None:
    """Mistral's, which turn with the others: only what they see counts."""
    model = random_model("Mistral", sliding_window=8, num_key_value_heads=2)
    text, scheme = ids(48), scheme_of(*METHODS["self"][:2])
    expected = stock_nll(model, text, OWN)
    assert np.abs(stock_nll(model, text, scheme) - expected).max() < FLOAT_NOISE
    with fast(model, split(model), compiled=False) as parts:
        (found,) = losses(model, parts, [NllRow(ids=text, scheme=scheme)])
    assert np.abs(found - expected).max() < FLOAT_NOISE


def test_bfloat16_branches_are_as_near_as_plain_attention_in_bfloat16(model: Any) -> None:
    text, narrow = ids(LENGTH, 7), random_model("Llama", num_attention_heads=4, num_key_value_heads=2).bfloat16()
    narrow.model.rotary_emb.inv_freq = model.model.rotary_emb.inv_freq.clone()
    narrow.model.rotary_emb.original_inv_freq = narrow.model.rotary_emb.inv_freq.clone()
    wide = random_model("Llama", num_attention_heads=4, num_key_value_heads=2)
    off = []
    for scheme in (Scheme(rotation=OWN), scheme_of(*METHODS["self"][:2]), scheme_of(*METHODS["dca"][:2])):
        with fast(narrow, split(narrow), compiled=False) as parts:
            (found,) = losses(narrow, parts, [NllRow(ids=text, scheme=scheme)])
        off.append(np.abs(found - stock_nll(wide, text, scheme)).mean())
    assert max(off[1:]) < 2 * off[0]


def test_a_scheme_that_attention_cannot_take_is_refused(model: Any) -> None:
    wrong = Gains(log=np.zeros((2, 4, 7)))
    cases: list[tuple[Any, str]] = [
        (Scheme(rotation=OWN, gains=wrong), r"takes gains of shape \[2, 4, 8\] .* not \[2, 4, 7\]"),
        (Scheme(rotation=OWN, temperature=Temperature(kind="llama4")), "turns in all of its layers"),
        ([Scheme(rotation=OWN), scheme_of(*METHODS["self"][:2])], "rows with different branches cannot share a batch"),
    ]
    before = model.config._attn_implementation
    for scheme, sentence in cases:
        with pytest.raises(ModelError, match=sentence), patched(model, scheme):
            pass
    assert model.config._attn_implementation == before


def test_the_model_is_itself_again(model: Any) -> None:
    text = ids(LENGTH)
    before = stock_nll(model, text)
    with pytest.raises(RuntimeError, match="stop"), patched(model, rows_of_all_kinds(model)[3]):
        raise RuntimeError("stop")
    assert (stock_nll(model, text) == before).all()
    assert "forward" not in model.model.rotary_emb.__dict__


def test_fingerprints_tell_schemes_apart() -> None:
    log = np.zeros((1, 1, 8))
    far = Branch(rotation=OWN, start=3, query=Positions(offset=1))
    near = Branch(rotation=OWN, stop=3)
    schemes = [
        Scheme(rotation=OWN),
        Scheme(rotation=OWN, gains=Gains(log=log)),
        Scheme(rotation=OWN, gains=Gains(log=log + 1e-6)),
        Scheme(rotation=OWN, temperature=Temperature(kind="logn", scale=8)),
        Scheme(rotation=OWN, temperature=Temperature(kind="logn", scale=9)),
        Scheme(rotation=OWN, branches=(near, far)),
        Scheme(rotation=OWN, branches=(near, dataclasses.replace(far, rotation=HALF))),
        Scheme(rotation=OWN, branches=(near, dataclasses.replace(far, key=Positions(group=2)))),
    ]
    assert schemes[0].fingerprint == OWN.fingerprint
    assert len({scheme.fingerprint for scheme in schemes}) == len(schemes) == len(set(schemes))


def test_attention_that_is_wrong_for_schemes_is_left_for_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("Llama", num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=WINDOW)
    right = attention.branched
    monkeypatch.setattr(attention, "branched", lambda query, *rest: 1.01 * right(query, *rest))
    plain, scheme = Scheme(rotation=OWN), scheme_of(*METHODS["self"][:2])
    prompts = [np.concatenate([ids(60, 9), ids(12, seed)]) for seed in range(2)]
    with fast(model, split(model), compiled=False) as parts:
        (found,) = losses(model, parts, [NllRow(ids=ids(LENGTH), scheme=scheme)])
        assert model.config._attn_implementation == "ropewalk"
        (same,) = losses(model, parts, [NllRow(ids=ids(LENGTH), scheme=plain)])
        rows = [AnswerRow(ids=prompt, scheme=scheme, answer_tokens=4) for prompt in prompts]
        answers = outcomes(model, parts, rows, 256, score_shared)
        assert "schemes that change attention run under 'eager': hidden states differ" in str(parts.schemes())
    assert np.abs(found - stock_nll(model, ids(LENGTH), scheme)).max() < FLOAT_NOISE
    assert np.abs(same - stock_nll(model, ids(LENGTH), OWN)).max() < FLOAT_NOISE
    for answer, row in zip(answers, rows, strict=True):
        assert np.abs(answer.nll - stock_nll(model, row.ids, scheme)[-4:]).max() < FLOAT_NOISE


def test_right_attention_is_proven_right(quick: Any) -> None:
    assert quick.schemes() is None


@pytest.mark.parametrize(
    ("stem", "changes"),
    [
        ("Glm4", {"partial_rotary_factor": 0.5}),
        ("GPTNeoX", {"rotary_pct": 0.5}),
        ("Gemma3", {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}),
        ("SmolLM3", {"no_rope_layers": [0, 1]}),
    ],
)
def test_branches_in_other_architectures(stem: str, changes: dict[str, Any]) -> None:
    """In parts of heads, neighbours, layers of one type, and beside layers that do not turn."""
    model, text = random_model(stem, **changes), ids(40)
    geometry = geometry_of(model.config)
    own = Rotation(inv_freq=geometry.unscaled_inv_freq)
    one = Scheme(rotation=own, branches=(Branch(rotation=own, stop=6), Branch(rotation=own, start=6)))
    far = Branch(rotation=own, start=6, query=Positions(group=3, offset=4), key=Positions(group=3))
    with fast(model, split(model), compiled=False) as parts:
        for scheme in (one, dataclasses.replace(one, branches=(one.branches[0], far))):
            (found,) = losses(model, parts, [NllRow(ids=text, scheme=scheme)])
            assert np.abs(found - exact_nll(model, text, scheme)).max() < FLOAT_NOISE
            off = np.abs(found - exact_nll(model, text, Scheme(rotation=own))).max()
            assert off < FLOAT_NOISE if scheme is one else off > 10 * FLOAT_NOISE


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
def test_the_exact_twin_runs_between_compiled_layers(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is where it runs on a GPU when fast branches are left out; a compiler that looked into it failed."""
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **kwargs: compiler(function, backend="eager", **kwargs))
    monkeypatch.setattr(kernels, "COMPILED_TOKENS", 48)
    text, scheme = ids(LENGTH), dataclasses.replace(scheme_of(*METHODS["self"][:2]), gains=gains(model))
    with fast(model, split(model), compiled=True) as parts, installed(model, "eager"):
        (found,) = losses(model, dataclasses.replace(parts, schemes=lambda: None), [NllRow(ids=text, scheme=scheme)])
    assert np.abs(found - exact_nll(model, text, scheme)).max() < FLOAT_NOISE
