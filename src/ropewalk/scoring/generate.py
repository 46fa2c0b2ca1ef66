"""Real greedy decoding of one prompt by transformers' own loop and cache: for models whose keys cannot be held."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig, MaxLengthCriteria, StoppingCriteriaList

from ropewalk.models.patch import patched
from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme
from ropewalk.scoring.foreign_errors import naming
from ropewalk.scoring.loop import require_known

Finished = Callable[[Sequence[int]], bool]
"""Whether new tokens are all that is wanted."""


@torch.inference_mode()
def generate(
    model: Any, ids: NDArray[np.int32], scheme: Rotation | Scheme, new_tokens: int, finished: Finished | None = None
) -> NDArray[np.int32]:
    """Continue `ids` int32 `[T]` by up to `new_tokens` greedy tokens under one static scheme; int32 `[<= new]`."""
    device = model.get_input_embeddings().weight.device
    prompt = torch.from_numpy(ids.astype(np.int64))[None].to(device)
    require_known(model, ids)

    def stops(ids_BT: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        done = finished is not None and finished(ids_BT[0, prompt.shape[1] :].tolist())
        return torch.full((1,), done, dtype=torch.bool, device=ids_BT.device)

    with patched(model, scheme), plainly_greedy(model, new_tokens), naming(model), unreminded():
        out = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), stopping_criteria=StoppingCriteriaList([stops])
        )
    return out[0, prompt.shape[1] :].to(torch.int32).cpu().numpy()


def ends(model: Any) -> frozenset[int]:
    """The tokens after which a model says nothing more."""
    named = model.generation_config.eos_token_id
    return frozenset(() if named is None else [named] if isinstance(named, int) else named)


@contextmanager
def unreminded() -> Iterator[None]:
    """Generation inside the block goes beyond the model's own window without a word: that is what is measured."""
    logger = logging.getLogger(MaxLengthCriteria.__module__)

    def other(record: logging.LogRecord) -> bool:
        return "friendly reminder" not in record.getMessage()

    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


@contextmanager
def plainly_greedy(model: Any, new_tokens: int) -> Iterator[None]:
    """Generation inside the block takes the likeliest token and nothing else: what a checkpoint ships beside (penalties
    for repetition, suppressed tokens) is left out."""
    before = model.generation_config
    model.generation_config = GenerationConfig(
        max_new_tokens=new_tokens, do_sample=False, num_beams=1, eos_token_id=before.eos_token_id, pad_token_id=0
    )
    try:
        yield
    finally:
        model.generation_config = before
