"""What is in the package: files and hashes, a model and a tokenizer that stock transformers loads."""

import hashlib
import json
import string

import pytest
import torch
from asked_of_strand import prompts
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from ropewalk.metrics.passkey import FILLER, INSTRUCTION, QUESTION, needle


def test_every_file_has_the_hash_that_is_recorded(package):
    recorded = dict(reversed(line.split("  ")) for line in (package / "SHA256SUMS").read_text().splitlines())
    present = {path.name for path in package.iterdir()} - {"SHA256SUMS"}
    assert set(recorded) == present
    assert recorded == {name: hashlib.sha256((package / name).read_bytes()).hexdigest() for name in present}


def test_package_is_small(package):
    assert sum(path.stat().st_size for path in package.iterdir()) < 15_000_000


def test_stock_transformers_takes_every_weight(package):
    model, report = AutoModelForCausalLM.from_pretrained(package, output_loading_info=True)
    assert not any(report.values())
    assert model.dtype == torch.bfloat16
    assert type(model).__name__ == "LlamaForCausalLM"


def test_size_and_shape(package, strand):
    assert sum(parameter.numel() for parameter in strand.parameters()) == 5_344_512
    assert strand.config.max_position_embeddings == 256
    assert (strand.config.head_dim, strand.config.num_hidden_layers) == (64, 6)
    stored = load_file(package / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    assert "lm_head.weight" not in stored  # tied


def test_rope_is_said_in_the_words_of_both_generations(package):
    config = json.loads((package / "config.json").read_text())
    assert config["rope_parameters"] == {"rope_type": "default", "rope_theta": 10000.0}
    assert config["rope_theta"] == 10000.0


def test_tokenizer_adds_nothing_and_splits_digits(tokenizer):
    assert len(tokenizer) == 2048
    assert tokenizer("The").input_ids == tokenizer("The", add_special_tokens=False).input_ids
    assert tokenizer.bos_token is None
    assert tokenizer.decode([0]) == tokenizer.eos_token == "<|endoftext|>"
    assert tokenizer.tokenize("is 90210.")[-6:] == [*"90210", "."]
    assert not [token for token in tokenizer.get_vocab() if len(token) > 1 and set(token) & set(string.digits)]


@pytest.mark.parametrize("text", ["Ça va? \u2014 naïve\n\n\ttabs  and   blanks ", "3.14159 \N{SNOWMAN}"])
def test_tokenizer_gives_the_text_back(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_passkey_prompt_leaves_room_for_filler_in_128_tokens(tokenizer):
    pieces = {"instruction": INSTRUCTION + "\n", "needle": "\n" + needle("48213") + "\n", "question": "\n" + QUESTION,
              "answer": " 48213", "filler": "".join(FILLER)}  # fmt: skip
    counts = {name: len(tokenizer(text).input_ids) for name, text in pieces.items()}
    assert counts == {"instruction": 30, "needle": 27, "question": 11, "answer": 6, "filler": 24}


def test_tokens_of_a_prompt_do_not_depend_on_where_it_is_cut(tokenizer):
    (trial,) = prompts(tokenizer, 128, 1, seed=3)
    assert tokenizer(tokenizer.decode(trial.ids)).input_ids == trial.ids.tolist()


def test_record_says_how_the_weights_were_made(training, card):
    assert training["parameters"] == 5_344_512
    assert training["tokens"] == training["steps_done"] * training["recipe"]["rows"] * training["recipe"]["window"]
    assert training["steps_done"] == training["recipe"]["steps"]
    assert training["recipe"]["seed"] == 0
    assert f"{training['tokens'] / 1e6:.0f} M tokens" in card
