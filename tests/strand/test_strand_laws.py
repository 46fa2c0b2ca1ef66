"""Laws of context extension that strand obeys, by stock transformers' own rotations, on unseen text and passkeys."""

import copy
import math

import pytest
import torch
from asked_of_strand import prompts
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

WINDOW = 256
ROTATIONS = {
    "none": {"rope_type": "default"},
    "yarn": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": WINDOW},
    "linear": {"rope_type": "linear", "factor": 8.0},
    "ntk_by_parts": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 32.0,
                     "original_max_position_embeddings": WINDOW},
}  # fmt: skip


@pytest.fixture(scope="module")
def rotated(strand):
    """The model with a rotation of transformers' own in place of its own."""
    models = {}
    for name, parameters in ROTATIONS.items():
        config = copy.deepcopy(strand.config)
        config.rope_parameters = {"rope_theta": 10000.0, **parameters}
        models[name] = copy.copy(strand)
        models[name]._modules = dict(strand._modules, model=copy.copy(strand.model))
        models[name].model._modules = dict(strand.model._modules, rotary_emb=LlamaRotaryEmbedding(config))
    return models


@pytest.fixture(scope="module")
def nll(rotated, tokenizer, text_tool):
    """Rotation -> nats per token of the first 2048 tokens of Emma, which strand has not seen, float32 `[1, 2047]`."""
    ids = torch.tensor([tokenizer(text_tool.read_built_in()["emma"][:9000]).input_ids[:2048]])
    with torch.no_grad():
        logits = {name: model(ids).logits[:, :-1] for name, model in rotated.items()}
    return {
        name: torch.nn.functional.cross_entropy(values.transpose(1, 2), ids[:, 1:], reduction="none")
        for name, values in logits.items()
    }


def exact(predicted, answer, after: str) -> bool:
    """Whether greedy decoding gives the answer, and then no more digits."""
    return predicted[:-1].tolist() == answer.tolist() and not after[:1].isdigit()


def perplexity(nll: torch.Tensor, length: int) -> float:
    return math.exp(float(nll[:, : length - 1].mean()))


@pytest.fixture(scope="module")
def passkey(rotated, tokenizer):
    """(rotation, length) -> share of keys found."""

    def found(rotation: str, length: int, trials: int = 10) -> float:
        asked = prompts(tokenizer, length, trials, seed=1)
        with torch.no_grad():
            ids = torch.tensor([prompt.ids.tolist() for prompt in asked])
            predicted = rotated[rotation](ids, logits_to_keep=7).logits.argmax(-1).numpy()
        answers = zip(asked, predicted, strict=True)
        return sum(exact(row, prompt.ids[-6:], tokenizer.decode(row[-1:])) for prompt, row in answers) / trials

    return found


def test_stock_transformers_measures_what_the_record_says(training, nll):
    """The same float32 mathematics on another device: 0.1 % of the perplexity."""
    labels = {"none": "none", "yarn": "yarn 8", "linear": "linear 8", "ntk_by_parts": "ntk_by_parts 8"}
    for row in training["measured"]:
        for rotation, label in labels.items():
            if row["rotation"] == label:
                ours = perplexity(nll[rotation], row["length"])
                assert ours == pytest.approx(row["perplexity_of"]["emma"], rel=1e-3)


def test_inside_the_window_it_predicts_unseen_text(nll):
    assert perplexity(nll["none"], WINDOW) < 21


def test_without_scaling_it_explodes_past_the_window(nll):
    assert perplexity(nll["none"], 2048) > 3.5 * perplexity(nll["none"], WINDOW)
    assert math.exp(float(nll["none"][:, 1024:].mean())) > 100


def test_yarn_does_not_explode(nll):
    """Emma itself gets harder: its first 2048 tokens cost 1.4 times the perplexity of its first 256."""
    assert perplexity(nll["yarn"], 2048) < 1.5 * perplexity(nll["yarn"], WINDOW)
    assert perplexity(nll["yarn"], 2048) < perplexity(nll["none"], 2048) / 2


def test_linear_without_fine_tuning_is_worse_than_ntk_by_parts(nll):
    for length in (WINDOW, 1024, 2048):
        assert perplexity(nll["linear"], length) > 2 * perplexity(nll["ntk_by_parts"], length)


@pytest.mark.parametrize("length", [128, 256])
def test_it_finds_every_passkey_inside_the_window(passkey, length):
    assert passkey("none", length) == 1.0


def test_it_finds_passkeys_at_four_times_the_window_with_yarn_only(passkey):
    assert passkey("none", 512, trials=5) <= 0.2
    assert passkey("linear", 512, trials=5) <= 0.2
    assert passkey("yarn", 1024, trials=5) >= 0.8
