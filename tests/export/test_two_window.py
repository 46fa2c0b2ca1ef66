"""Two windows: the model's own rotation up to the window and a searched one beyond it, run by stock transformers.

Budget 2e-3 of a logit: transformers computes inv_freq in float32, 1e-7 off, so 5e-5 rad at position 512, which a steep
random model multiplies; a wrong rotation moves some logit by more than 0.1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from export_requests import GEOMETRY, ask
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

import checkpoints
import ropewalk as rw
from ropewalk import methods
from ropewalk.errors import ExportError, MethodError
from ropewalk.export import ENGINES, hf, request
from ropewalk.export.checkpoint import checkpoint_of, patched_config
from ropewalk.export.command import Options, run
from ropewalk.export.native import change
from ropewalk.models import geometry_of
from ropewalk.models.layout import rotary_module
from ropewalk.rope import Rotation

ATOL = 2e-3
WINDOW, LENGTH = checkpoints.WINDOW, 4 * checkpoints.WINDOW
Logits = NDArray[np.float32]


def content(pairs: int, rope_theta: float, factor: float) -> dict[str, Any]:
    """A rotation file that no named method gives."""
    divisors = [1.0, *np.geomspace(1.1, 6.0, pairs - 1).round(3).tolist()]
    return {"schema": 1, "rope_theta": rope_theta, "lambda": divisors, "attention_factor": factor}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save(
        tmp_path_factory.mktemp("two") / "model", checkpoints.llama(), checkpoints.tokenizer(bos=True)
    )


@pytest.fixture(scope="module")
def loaded(model: Path) -> rw.models.LoadedModel:
    return rw.load(str(model), dtype="float32")


def exported(model: Path, out: Path, factor: float, **params: Any) -> tuple[Any, str]:
    """The directory that `ropewalk export searched` writes, in stock transformers, and the notes."""
    file = out.with_suffix(".json")
    file.write_text(json.dumps(content(8, 10000.0, factor)), encoding="utf-8")
    _, notes = run(
        "searched",
        "hf",
        model=str(model),
        params={"file": str(file), **params},
        length=LENGTH,
        options=Options(out=out, check=True),
    )
    return AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32), " ".join(notes)


@torch.inference_mode()
def logits(model: Any, tokens: int) -> Logits:
    ids_BT = torch.randint(2, 384, (1, tokens), generator=torch.Generator().manual_seed(tokens))
    return model(ids_BT).logits[0].numpy()


def searched(loaded: Any, factor: float) -> Rotation:
    file = content(8, 10000.0, factor)
    inv_freq = loaded.geometry.unscaled_inv_freq / np.array(file["lambda"])
    return Rotation(inv_freq=inv_freq, attention_factor=factor)


def under(loaded: Any, rotation: Rotation, tokens: int) -> Logits:
    with rw.patched(loaded.model, rotation):
        return logits(loaded.model, tokens)


def test_short_inputs_run_as_shipped_and_long_ones_as_searched(model: Path, loaded: Any, tmp_path: Path) -> None:
    stock, notes = exported(model, tmp_path / "out", 1.0, windows="two")
    long = searched(loaded, 1.0)
    for tokens in (20, WINDOW, WINDOW + 1, LENGTH, WINDOW - 1):  # and back again
        expected = logits(loaded.model, tokens) if tokens <= WINDOW else under(loaded, long, tokens)
        other = under(loaded, long, tokens) if tokens <= WINDOW else logits(loaded.model, tokens)
        found = logits(stock, tokens)
        np.testing.assert_allclose(found, expected, atol=ATOL)
        assert np.abs(found - other).max() > 50 * ATOL, tokens
    assert "two lists: short_factor up to 128 tokens, long_factor beyond" in notes
    assert "keeps keys of the short list in its cache" in notes
    assert "attention_factor for both lists" not in notes
    assert "used at all lengths" not in notes


def test_one_attention_factor_serves_both_and_that_is_said(model: Path, loaded: Any, tmp_path: Path) -> None:
    stock, notes = exported(model, tmp_path / "out", 1.25, windows="two")
    long = searched(loaded, 1.25)
    short = Rotation(inv_freq=loaded.geometry.unscaled_inv_freq, attention_factor=long.attention_factor)
    np.testing.assert_allclose(logits(stock, WINDOW), under(loaded, short, WINDOW), atol=ATOL)
    np.testing.assert_allclose(logits(stock, LENGTH), under(loaded, long, LENGTH), atol=ATOL)
    assert np.abs(logits(stock, WINDOW) - logits(loaded.model, WINDOW)).max() > 50 * ATOL
    assert "one attention_factor for both lists: up to 128 tokens the model runs under A = 1.25 too" in notes


def test_without_it_one_list_serves_all_lengths(model: Path, loaded: Any, tmp_path: Path) -> None:
    stock, notes = exported(model, tmp_path / "out", 1.0)
    long = searched(loaded, 1.0)
    for tokens in (WINDOW, LENGTH):
        np.testing.assert_allclose(logits(stock, tokens), under(loaded, long, tokens), atol=ATOL)
    assert "the same list inside and beyond the window" in notes


def test_what_is_measured_is_what_is_exported() -> None:
    """The method itself switches at the window, and a sweep measures it length by length."""
    params = methods.make_params("searched", {"file": content(32, 5e5, 1.1), "windows": "two"})
    window = GEOMETRY.max_position_embeddings
    assert methods.depends_on_length(GEOMETRY, "searched", params)
    inside, beyond = (methods.resolve(GEOMETRY, "searched", params, n).rotation for n in (window, window + 1))
    assert inside == Rotation(inv_freq=GEOMETRY.unscaled_inv_freq, attention_factor=1.1)
    one = methods.make_params("searched", {"file": content(32, 5e5, 1.1)})
    assert beyond == methods.resolve(GEOMETRY, "searched", one, 1).rotation
    assert not methods.depends_on_length(GEOMETRY, "searched", one)
    earlier = methods.make_params(
        "searched", {"file": content(32, 5e5, 1.1), "windows": "two", "original_max_position_embeddings": 1024}
    )
    assert methods.resolve(GEOMETRY, "searched", earlier, 1025).rotation == beyond
    with pytest.raises(MethodError, match="searched: windows='three' must be 'one' or 'two'"):
        methods.make_params("searched", {"file": content(32, 5e5, 1.1), "windows": "three"})


def test_lists_of_longrope_say_the_same() -> None:
    """The two windows of a search, as parameters of longrope."""
    file = content(32, 5e5, 1.1)
    named = ask("searched", 16384, file=file, windows="two")
    lists = {"short_factor": [1.0] * 32, "long_factor": file["lambda"], "attention_factor": 1.1}
    listed = ask("longrope", 16384, factor=16384 / GEOMETRY.window().length, **lists)
    ours, theirs = (hf.configure(each).config["rope_parameters"] for each in (named, listed))
    assert ours["short_factor"] == [1.0] * 32
    for name in ("short_factor", "long_factor"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-15)
    assert {**ours, "long_factor": 0} == {**theirs, "long_factor": 0}
    default = hf.configure(ask("longrope", 16384, factor=4)).config["rope_parameters"]
    assert default["short_factor"] == default["long_factor"]  # no short list was named


@pytest.mark.parametrize("architecture", ["llama", "phi3", "gpt_neox", "gemma3"])
def test_every_layout_switches_at_its_window(architecture: str) -> None:
    """Partial rotations, Phi-3's window beside rope_parameters, kinds of layers."""
    plain = tiny_models.config_of(architecture)
    geometry = geometry_of(plain)
    file = content(geometry.rotary_dim // 2, geometry.rope_theta, 1.5)
    wanted = request(geometry, "searched", {"file": file, "windows": "two"}, 1024, checkpoint_of(plain))
    raw = json.loads(json.dumps(patched_config(plain.to_dict(), hf.configure(wanted).config)))
    module = rotary_module(tiny_models._class_of(architecture)(type(plain).from_dict(raw)))
    layer = geometry.layer_type
    kwargs, prefix = ({"layer_type": layer}, f"{layer}_") if layer else ({}, "")
    for last, expected in (
        (tiny_models.WINDOW - 1, geometry.unscaled_inv_freq),
        (tiny_models.WINDOW, wanted.rotation.inv_freq),
    ):
        module(torch.zeros(1, 1), torch.tensor([[0, last]]), **kwargs)
        np.testing.assert_allclose(getattr(module, f"{prefix}inv_freq").double().numpy(), expected, rtol=5e-6)
        assert getattr(module, f"{prefix}attention_scaling") == 1.5


REFUSED = {
    "vllm": "with a longer --max-model-len it uses the long list for every prompt",
    "sglang": "it chooses the list for each batch of tokens, so one cache would hold both",
}


@pytest.mark.parametrize("engine", REFUSED)
def test_engines_that_cannot_are_refused(engine: str) -> None:
    asked = ask("searched", 16384, file=content(32, 5e5, 1.1), windows="two")
    with pytest.raises(ExportError) as refusal:
        ENGINES[engine].configure(asked)
    assert str(refusal.value) == (
        f"{engine}: searched with one rotation up to 4096 tokens and another beyond: {REFUSED[engine]}; the nearest "
        "that can is --target hf, or the long rotation at all lengths (windows=one)."
    )
    lists = {"factor": 4, "short_factor": [1.0] * 32, "long_factor": [2.0] * 32}
    with pytest.raises(ExportError, match="equal lists, or without short_factor"):
        ENGINES[engine].configure(ask("longrope", 16384, **lists))
    ENGINES[engine].configure(ask("longrope", 16384, **lists | {"short_factor": [2.0] * 32}))
    ENGINES[engine].configure(
        ask("searched", 4096, file=content(32, 5e5, 1.1), windows="two")
    )  # the second is never reached


def test_llama_cpp_has_no_flags_for_it() -> None:
    asked = ask("searched", 16384, file=content(32, 5e5, 1.1), windows="two")
    with pytest.raises(ExportError, match=r"llama\.cpp: has no flags for searched"):
        ENGINES["llama.cpp"].configure(asked)


def test_a_gguf_file_takes_one_rotation_alone() -> None:
    with pytest.raises(ExportError, match="chooses the list by the context that it is started with; the nearest"):
        change(ask("searched", 16384, file=content(32, 5e5, 1.1), windows="two"), "llama")
    assert change(ask("searched", 16384, file=content(32, 5e5, 1.1)), "llama").tensors
