"""A tuned scheme as a file that engines load: gains in the weights, everything else linked, proven or refused."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import gguf_models
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import checkpoints
from ropewalk.errors import ExportError
from ropewalk.export import directory, folding_gguf
from ropewalk.export.command import Options, run
from ropewalk.export.folding_hf import ONLY, SHARD
from ropewalk.export.gguf_file import open_gguf, value_of
from ropewalk.methods.tuned_file import read
from ropewalk.models.geometry import geometry_of
from ropewalk.rope import Rotation
from ropewalk.scheme import Gains, Scheme
from ropewalk.tuning import winner
from ropewalk.tuning.pairs import turning

WINDOW, LENGTH = 128, 384


@pytest.fixture(scope="module")
def model() -> Any:
    return checkpoints.llama(max_position_embeddings=WINDOW)


@pytest.fixture(scope="module")
def source(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save(tmp_path_factory.mktemp("export-tuned") / "model", model, checkpoints.tokenizer())


@pytest.fixture(scope="module")
def file(model: Any, source: Path) -> Path:
    geometry, turns = geometry_of(model.config), turning(model)
    draw = np.random.default_rng(2)
    pairs = geometry.rotary_dim // 2
    stretch = np.linspace(1.0, 3.0, pairs)
    scheme = Scheme(
        rotation=Rotation(inv_freq=geometry.unscaled_inv_freq / stretch, attention_factor=1.05),
        gains=Gains(log=draw.normal(0, 0.5, (turns.depth, turns.heads, pairs)).astype(np.float32)),
    )
    path = source.parent / winner.FILE
    path.write_bytes(winner.content(scheme, geometry, turns, {"length": LENGTH}))
    return path


def exported(target: str, source: Path, file: Path, **options: Any) -> tuple[str, str]:
    text, notes = run("tuned", target, model=str(source), params={"file": str(file)}, options=Options(**options))
    return text, "\n".join(notes)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_directory_holds_the_gains_beside_linked_weights(
    source: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stock transformers gives the losses of gains at run time; without the shard it does not."""
    before, out = digests(source), tmp_path / "out"
    text, notes = exported("hf", source, file, out=out, check=True)
    assert json.loads(text)["max_position_embeddings"] == LENGTH  # what it was tuned for
    assert f"2 tensors hold the gains, in {SHARD}; rounding them to float32 moved no number by more than" in notes
    (moved,) = re.findall(r"by more than (\S+) %", notes)
    assert float(moved) <= 100 * 2**-24 * 1.01  # half a unit in the last place
    assert "difference at most 0.000% (allowed 0.1%)" in notes
    assert digests(source) == before
    assert (out / ONLY).samefile(source / "model.safetensors")
    index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    changed = load_file(out / SHARD)
    assert {name for name, where in index.items() if where == SHARD} == set(changed)
    for name, tensor in load_file(source / "model.safetensors").items():
        assert (index[name] == SHARD) == (name in changed) == (".q_proj." in name)
        assert name not in changed or not torch.equal(changed[name], tensor)
    assert (out / SHARD).stat().st_mode & 0o777 == (out / "config.json").stat().st_mode & 0o777

    monkeypatch.setattr(directory, "fold_into", lambda *args: "nothing was folded")
    monkeypatch.setattr("ropewalk.export.proof.dtype_of", lambda path: "float32")
    with pytest.raises(ExportError, match="the engine does not run what was measured"):
        exported("hf", source, file, out=tmp_path / "wrong", check=True)
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("vllm", "vllm serve {out} --max-model-len 384"),
        ("sglang", "python -m sglang.launch_server --model-path {out} --context-length 384"),
    ],
)
def test_engines_serve_that_directory(target: str, line: str, source: Path, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text, notes = exported(target, source, file, out=out)
    assert text == line.format(out=out)
    assert "tensors hold the gains" in notes
    assert load_file(out / SHARD)
    endpoint = {"check": True, "endpoint": "http://localhost:1"}
    with pytest.raises(ExportError, match=r"cannot serve .*/other before it is written; export it with --target hf"):
        exported(target, source, file, out=tmp_path / "other", **endpoint)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("target", ["hf", "vllm", "sglang", "llama.cpp"])
def test_a_line_alone_is_refused(target: str, source: Path, file: Path) -> None:
    into = "--gguf IN --out OUT.gguf" if target == "llama.cpp" else "--out DIR"
    with pytest.raises(
        ExportError, match=rf"^{target}: tuned has gains of the query.* flag does; write them with {into}, or"
    ):
        exported(target, source, file)


def test_a_gguf_file_holds_rotation_temperature_and_gains(model: Any, source: Path, file: Path, tmp_path: Path) -> None:
    tokenizer = source / "tokenizer.json"
    before, out = gguf_models.write(tmp_path / "in.gguf", model, tokenizer_json=tokenizer), tmp_path / "out.gguf"
    raw = before.read_bytes()
    text, notes = exported("llama.cpp", source, file, gguf=before, out=out)
    assert text == f"llama-server -m {out} --ctx-size {LENGTH}"
    assert "2 tensors hold the gains, none quantised anew" in notes
    assert before.read_bytes() == raw
    old, new = open_gguf(before), open_gguf(out)
    tuned = read(file)
    assert value_of(new, "llama.rope.scaling.attn_factor") == pytest.approx(1.05)
    tensors = {each.name: np.array(each.data) for each in new.tensors}
    assert tensors.pop("rope_freqs.weight") == pytest.approx(
        tuned.rotation.divisors(geometry_of(model.config)), rel=1e-6
    )
    folding = folding_gguf.Folding(gains=tuned.gains.log, pairs=np.array(tuned.pairs))  # type: ignore[union-attr]
    held = folding_gguf.folded(old, folding).tensors
    assert set(held) == {f"blk.{layer}.attn_q.weight" for layer in (0, 1)}
    for each in old.tensors:
        assert np.array_equal(tensors[each.name], held.get(each.name, np.array(each.data)))
        assert (each.name in held) != np.array_equal(tensors[each.name], np.array(each.data))
    with pytest.raises(ExportError, match="which weights have to hold"):
        exported("llama.cpp", source, file, gguf=before)


def test_gains_of_another_model_are_refused(file: Path, tmp_path: Path) -> None:
    other = checkpoints.llama(max_position_embeddings=WINDOW, num_hidden_layers=3)
    place = checkpoints.save(tmp_path / "deep", other, checkpoints.tokenizer())
    with pytest.raises(
        ExportError, match=r"gains are for 2 layers of 2 heads .* has 3 of 2 x 16; give the tuned model"
    ):
        exported("hf", place, file, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
