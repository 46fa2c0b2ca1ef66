"""What near and far attention cannot do is refused in one sentence: value, place and remedy; and nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml

import ropewalk as rw
from checkpoints import prose, tokenizer

CHUNKS = {
    "layer_types": ["chunked_attention", "full_attention"],
    "no_rope_layers": [1, 0],
    "attention_chunk_size": 128,
    "use_qk_norm": False,
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
    "intermediate_size_mlp": 32,
}
SMALL = {
    "vocab_size": 384,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}


@pytest.fixture(scope="module")
def llama4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that turns in chunks alone, with a text."""
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("llama4")
    model = transformers.Llama4ForCausalLM(transformers.Llama4TextConfig(**SMALL, **CHUNKS))
    model.save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    (directory / "text.txt").write_text(prose(0, 4000))
    return directory


@pytest.mark.parametrize(
    ("method", "raw", "sentence"),
    [
        (
            "rerope",
            {"neighbor_window": 300},
            "rerope: neighbor_window=300 must be at most the trained window of 256 tokens; give e.g. 64.",
        ),
        (
            "self_extend",
            {"group_size": 2, "neighbor_window": 64},
            "self_extend: these parameters reach 448 tokens and not 512, beyond which distances grow out of the "
            "trained window; divide far distances by more, or make the near window smaller.",
        ),
        (
            "self_extend",
            {"group_size": 8, "neighbor_window": 64},
            "Llama4ForCausalLM sees no token before its chunk in layer 0, so nothing can branch; it takes rotations "
            "alone: choose a frequency method, without a temperature.",
        ),
    ],
)
def test_a_run_is_refused_before_it_begins(
    llama4: Path, ropewalk: Any, tmp_path: Path, method: str, raw: dict[str, Any], sentence: str
) -> None:
    asked = {"model": str(llama4), "lengths": [128, 512], "documents": {"files": [str(llama4 / "text.txt")]}}
    asked |= {"methods": {"linear": {"factor": 2}, method: raw}, "metrics": {"perplexity": {}}}
    file = tmp_path / "e.yaml"
    file.write_text(yaml.safe_dump(asked))
    found = ropewalk("run", file, "--out", tmp_path / "run")
    assert found.code == 2
    assert found.err.splitlines()[-1] == f"ropewalk: {sentence}"
    assert not (tmp_path / "run").exists()


def test_a_length_that_is_not_known_is_asked_for(ropewalk: Any, tmp_path: Path) -> None:
    words = ("export", "jet_long", "--model", "strand", "-p", "neighbor_window=64", "--target", "hf", "--with-code")
    found = ropewalk(*words, "--out", tmp_path / "out")
    assert (found.code, found.out) == (2, "")
    assert found.err == "ropewalk: jet_long: has no factor that says for which length; give --length, in tokens.\n"
    assert not (tmp_path / "out").exists()


def test_near_is_tuned_for_every_number_once(ropewalk: Any, tmp_path: Path) -> None:
    """As the command line says it, and as Python does."""
    said = "tune: near=[64, 64] names a number of tokens twice; give each once."
    words = ("tune", "preset:demo", "--length", 1024, "--near", 64, "--near", 64, "--out", tmp_path / "out")
    found = ropewalk(*words)
    assert (found.code, found.err) == (2, f"ropewalk: {said}\n")
    with pytest.raises(rw.RopewalkError) as caught:
        rw.tune("strand", length=1024, near=[64, 64], out=tmp_path / "out")
    assert str(caught.value) == said
    assert not (tmp_path / "out").exists()
