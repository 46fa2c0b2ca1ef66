"""A directory that brings the code of its attention along: transformers runs in it what was measured."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, dynamic_module_utils

from checkpoints import config, tokenizer
from ropewalk.errors import ExportError, ModelError, RopewalkError
from ropewalk.export import command
from ropewalk.export.command import Options
from ropewalk.export.request import Checkpoint, request
from ropewalk.export.with_code import configure
from ropewalk.methods.tuned_file import Tuning
from ropewalk.models import ModelSpec, patched, read_geometry
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.scheme import Gains, Scheme

LENGTH = 300
NOISE = 5e-5  # float32 through two layers, logits of up to 8: 50 roundings of 1e-6
LEAKY: dict[str, Any] = {"neighbor_window": 32, "k": 8, "temperature": "logn"}
INV_FREQ = 1e4 ** (-np.arange(4) / 4)  # of the heads of `source`
FAR = Tuning(
    rope_theta=1e4,
    length=LENGTH,
    rotation=Rotation(inv_freq=INV_FREQ / [1, 2, 3, 4], attention_factor=1.1),
    gains=Gains(log=np.random.default_rng(2).normal(0, 0.4, (2, 4, 4))),
    pairs=(0, 1, 2, 3, 0, 1, 2, 3),
    near=32,
)
"""Tuned beyond 32 tokens."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with grouped queries."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(config(num_attention_heads=4, num_key_value_heads=2)).eval()
    directory = tmp_path_factory.mktemp("source")
    model.save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """trust_remote_code copies what it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


def export(source: Path | str, method: str, out: Path | None, raw: dict[str, Any], **more: Any) -> tuple[str, ...]:
    options = Options(**{"out": out, "with_code": True, **more})
    return command.run(method, "hf", model=str(source), params=raw, length=LENGTH, options=options)[1]


@pytest.fixture(scope="module")
def leaky(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "leaky"
    export(source, "leaky_rerope", out, LEAKY)
    return out


def loaded(directory: Path, **more: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(str(directory), trust_remote_code=True, **more).eval()


def scheme(source: Path, method: str, raw: dict[str, Any]) -> Scheme:
    found = request(read_geometry(ModelSpec(id=str(source))), method, raw, LENGTH, Checkpoint(), code=True)
    return found.scheme


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("leaky_rerope", LEAKY),
        ("self_extend", {"neighbor_window": 32, "group_size": 4}),
        ("dca", {}),
        ("bifocal", {"neighbor_window": 32, "far": {"yarn": {"factor": 4}}}),
        ("streaming", {"sinks": 3}),
        ("yarn", {"factor": 4, "temperature": 1.2}),
        ("linear", {"factor": 3, "temperature": "ministral"}),
        ("tuned", {"file": FAR.plain()}),
    ],
)
@torch.no_grad()
def test_transformers_runs_what_was_measured(source: Path, tmp_path: Path, method: str, raw: dict[str, Any]) -> None:
    export(source, method, tmp_path / "out", raw)
    ids = torch.from_numpy(np.random.default_rng(0).integers(2, 300, (2, LENGTH)))
    there, stock = loaded(tmp_path / "out"), AutoModelForCausalLM.from_pretrained(source).eval()
    plain = stock(input_ids=ids).logits
    with patched(stock, scheme(source, method, raw)):
        here = stock(input_ids=ids, use_cache=False).logits
    assert (there(input_ids=ids, use_cache=False).logits - here).abs().max() < NOISE
    assert (plain - here).abs().max() > 100 * NOISE


def test_check_proves_it_on_strand_as_everything_else(tmp_path: Path) -> None:
    notes = export("strand", "self_extend", tmp_path / "out", {"neighbor_window": 64}, check=True)
    (said,) = [note for note in notes if note.startswith("transformers")]
    assert "(root mean square; allowed 7.3e-05)" in said
    assert "too close to be told apart" not in said


@torch.no_grad()
def test_a_cache_and_padding_change_nothing(leaky: Path) -> None:
    model = loaded(leaky)
    ids = torch.from_numpy(np.random.default_rng(1).integers(2, 300, (1, 150)))
    whole = model(input_ids=ids, use_cache=False).logits
    first = model(input_ids=ids[:, :100], use_cache=True)
    rest = model(input_ids=ids[:, 100:], past_key_values=first.past_key_values, use_cache=True).logits
    assert (torch.cat([first.logits, rest], 1) - whole).abs().max() < NOISE
    padded = torch.cat([torch.zeros(1, 7, dtype=torch.long), ids], 1)
    mask = torch.ones_like(padded)
    mask[:, :7] = 0
    greedy = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    alone = model.generate(ids, attention_mask=torch.ones_like(ids), **greedy)[:, 150:]
    beside = model.generate(padded, attention_mask=mask, **greedy)[:, 157:]
    assert alone.tolist() == beside.tolist()


def test_it_never_runs_as_the_plain_model(leaky: Path) -> None:
    with pytest.raises(ValueError, match="trust_remote_code"):
        AutoModelForCausalLM.from_pretrained(str(leaky), trust_remote_code=False)
    model = loaded(leaky, attn_implementation="eager")
    assert model.config._attn_implementation == "ropewalk_branches"
    model.set_attn_implementation("eager")
    with pytest.raises(ValueError, match="attn_implementation='eager' would leave queries and keys unturned"):
        model(input_ids=torch.ones(1, 4, dtype=torch.long))
    with pytest.raises(ModelError, match=r"exported with code .* measure the model that it was made of"):
        read_geometry(ModelSpec(id=str(leaky), trust_remote_code=True))


def test_the_warning_is_said(source: Path, tmp_path: Path) -> None:
    notes = export(source, "leaky_rerope", tmp_path / "out", LEAKY)
    assert any(
        n.startswith("Warning: the directory holds modeling_ropewalk.py") and "trust that file" in n for n in notes
    )


@pytest.mark.parametrize(
    ("target", "method", "raw", "options", "sentence"),
    [
        ("hf", "rerope", {"neighbor_window": 32}, {}, "^rerope: tells far tokens .* --target hf --out DIR --with-code"),
        ("hf", "tuned", {"file": FAR.plain()}, {"out": "x"}, "^tuned: .* near=32, .* hold them for all .* --with-code"),
        ("sglang", "tuned", {"file": FAR.plain()}, {}, "^sglang: tuned .* is not the dual chunk attention"),
        (
            "hf",
            "yarn",
            {"factor": 4},
            {"with_code": True, "out": "x"},
            "^--with-code: yarn only rotates.* leave --with-",
        ),
        ("hf", "rerope", {}, {"with_code": True}, "^--with-code: .* give --target hf and --out DIR"),
        ("vllm", "rerope", {}, {"with_code": True, "out": "x"}, "^--with-code: .* give --target hf and --out DIR"),
    ],
)
def test_refusals(
    source: Path, tmp_path: Path, target: str, method: str, raw: Any, options: Any, sentence: str
) -> None:
    given = options | ({"out": tmp_path / options["out"]} if "out" in options else {})
    with pytest.raises(RopewalkError, match=sentence):
        command.run(method, target, model=str(source), params=raw, length=LENGTH, options=Options(**given))
    assert not list(tmp_path.iterdir())


def test_other_peoples_code_does_not_go_along(source: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(source, tmp_path / "copy")
    (copy / "tokenization.py").write_text("raise SystemExit")
    with pytest.raises(ExportError, match=r"copy brings code of its own \(tokenization.py\), which would run where"):
        export(copy, "dca", tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_other_models_are_refused() -> None:
    geometry = RopeGeometry(rotary_dim=16, rope_theta=1e4, max_position_embeddings=256)
    asked = request(geometry, "dca", {}, 1024, Checkpoint(model_type="gemma3_text"), code=True)
    with pytest.raises(
        ExportError, match="the code knows llama, mistral, qwen2, qwen3 and not gemma3_text; what comes"
    ):
        configure(asked)
