"""Tiny random checkpoints, a byte-level tokenizer and texts, all made in memory from seeds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WINDOW = 128
WORDS = (
    "rope", "walk", "hemp", "strand", "yarn", "lane", "spinner", "hook", "twist", "tar", "the", "a", "of", "and",
    "in", "is", "was", "with", "long", "straight", "Anne", "Elliot", "Café", "sea", "pass", "key", "grass", "green",
)  # fmt: skip
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def prose(seed: int, words: int = 700) -> str:
    """Sentences out of a few words; every seed gives another text."""
    draw = random.Random(seed)
    sentences = []
    while words > 0:
        count = min(words, draw.randint(4, 12))
        sentences.append(" ".join(draw.choice(WORDS) for _ in range(count)).capitalize() + ".")
        words -= count
    return " ".join(sentences) + "\n"


def tokenizer(*, bos: bool = False, vocabulary: int = 384) -> PreTrainedTokenizerFast:
    """Byte-level BPE; digits stay apart, so every five-digit key has as many tokens as every other."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([prose(seed) for seed in range(4)], trainer)
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


def config(**changes: Any) -> LlamaConfig:
    values: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 384,
        "max_position_embeddings": WINDOW,
        "initializer_range": 0.3,  # attention then looks at more than the last token, and rotations show
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "bos_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": False,
    }
    return LlamaConfig(**{**values, **changes})


def llama(seed: int = 0, **changes: Any) -> Any:
    """A random two-layer Llama."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config(**changes)).eval().requires_grad_(False)
    torch.random.set_rng_state(state)
    return model


def save(directory: Path, model: Any, words: PreTrainedTokenizerFast) -> Path:
    """Write a checkpoint as `save_pretrained` does."""
    model.save_pretrained(directory)
    words.save_pretrained(directory)
    return directory
