"""The training script's parts on a small scale: rows, model, optimizer, schedule."""

import json
import lzma

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

TEXT, PASSKEY, FACTS, COPIES = slice(0, 16), slice(16, 48), slice(48, 64), slice(64, 80)


@pytest.fixture(scope="module")
def recipe(train_tool):
    return train_tool.Recipe(rows=80, passkey_rows=0.4, fact_rows=0.2, copy_rows=0.2)


@pytest.fixture(scope="module")
def work(tmp_path_factory, text_tool, package):
    """What strand_text writes, with random tokens for text."""
    folder = tmp_path_factory.mktemp("work")
    stream = np.random.default_rng(0).integers(300, 2048, 5000, dtype=np.uint16)
    pieces = text_tool.Pieces(Tokenizer.from_file(str(package / "tokenizer.json")), len(stream))
    spans = text_tool.prompt_pieces(pieces, 257)
    with lzma.open(folder / "stream.xz", "wb") as file:
        file.write(np.concatenate([stream, *pieces.ids]).astype("<u2").tobytes())
    facts = {"groups": {"all": [0, len(stream)]}, "shares": {"all": 1.0}, "pieces": spans}
    (folder / "pieces.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def batch(train_tool, work, recipe):
    return train_tool.Rows(work, recipe, torch.device("cpu")).batch()


def test_a_batch_follows_from_the_seed(train_tool, work, recipe, batch):
    again = train_tool.Rows(work, recipe, torch.device("cpu")).batch()
    other = train_tool.Rows(work, train_tool.Recipe(rows=80, seed=1), torch.device("cpu")).batch()
    assert torch.equal(batch[0], again[0])
    assert not torch.equal(batch[0], other[0])


def test_rows_fill_the_window_and_one_target(batch):
    rows, weights = batch
    assert rows.shape == weights.shape == (80, 257)
    assert set(weights.unique().tolist()) == {0.0, 1.0, 4.0}


def test_text_rows_are_runs_of_the_stream(batch, work):
    with lzma.open(work / "stream.xz") as file:
        stream = file.read()
    rows, weights = (part[TEXT].numpy() for part in batch)
    assert all(row.astype("<u2").tobytes() in stream for row in rows)
    assert (weights == 1).all()


def test_a_passkey_row_has_its_key_three_times_and_scores_two(batch, tokenizer):
    for row, weight in zip(*(part[PASSKEY].numpy() for part in batch), strict=True):
        key, copies = row[weight == 0], row[weight == 4]
        assert copies.tolist() == [*key, *key]
        assert tokenizer.decode(key).isdigit()
        assert weight[np.flatnonzero(weight == 4)[-1] + 1] == 1  # what follows the key is learnt too


def test_half_of_the_passkey_rows_ask_in_the_words_of_the_protocol(batch, tokenizer):
    asked = [("What is the pass key? The pass key is" in tokenizer.decode(row)) for row in batch[0][PASSKEY]]
    assert 8 <= sum(asked) <= 26


def test_a_fact_row_asks_for_two_of_three(batch, tokenizer):
    for row, weight in zip(*(part[FACTS].numpy() for part in batch), strict=True):
        told, asked = tokenizer.decode(row[weight == 0]), tokenizer.decode(row[weight == 4])
        half = len(asked) // 2
        keys = {told[at : at + half] for at in range(0, len(told), half)}
        assert len(told) == 3 * half
        assert {asked[:half], asked[half:]} <= keys


def test_a_copied_run_of_noise_is_scored_the_second_time(batch):
    seen = 0
    for row, weight in zip(*(part[COPIES].numpy() for part in batch), strict=True):
        run = row[weight == 0]
        if len(run):
            after = np.flatnonzero(weight == 0)[-1] + 1
            text = row[after:].tobytes()
            seen += run[: min(len(run), 20)].tobytes() in text
    assert seen >= 3


def test_the_model_is_llama(train_tool):
    recipe = train_tool.Recipe(hidden=128, layers=2, heads=2, intermediate=96, vocabulary=50, window=16)
    torch.manual_seed(0)
    model = train_tool.Strand(recipe)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((torch.randn_like(parameter) * 0.2 + (parameter == 1)).bfloat16())
    config = LlamaConfig(
        vocab_size=50, hidden_size=128, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, head_dim=64,
        rms_norm_eps=recipe.norm_eps, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.rope_theta},
    )  # fmt: skip
    stock = LlamaForCausalLM(config).eval()
    report = stock.load_state_dict({n: value.float() for n, value in model.hugging_face().items()}, strict=False)
    assert report.missing_keys == ["lm_head.weight"]
    assert report.unexpected_keys == []
    ids = torch.randint(50, (2, 16))
    inv_freq = recipe.rope_theta ** -(torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    with torch.no_grad():
        ours = model(ids, *train_tool.rope(inv_freq, 16), torch.float32)
        theirs = stock(ids).logits
    assert torch.allclose(ours, theirs, atol=1e-4)  # float32; a theta off by 0.1 % moves logits by 1e-2
    with torch.no_grad():
        moved = model(ids, *train_tool.rope(inv_freq * 1.001, 16), torch.float32)
    assert not torch.allclose(moved, theirs, atol=1e-4)


def test_muon_steps_are_orthogonal_roughly(train_tool):
    torch.manual_seed(0)
    stack = torch.randn(2, 24, 64)
    values = torch.linalg.svdvals(train_tool.orthogonalised(stack))
    assert values.min() > 0.6  # five Newton-Schulz steps leave singular values between 0.7 and 1.2, less bfloat16
    assert values.max() < 1.3


def test_schedule_warms_up_holds_and_ends_at_zero(train_tool):
    recipe = train_tool.Recipe(steps=100, warmup_steps=10, decay_share=0.5)
    scales = [train_tool.schedule(step, recipe) for step in range(101)]
    assert scales[0] == pytest.approx(0.1)
    assert set(scales[10:50]) == {1.0}
    assert scales[75] == pytest.approx(0.5)
    assert scales[100] == 0.0
