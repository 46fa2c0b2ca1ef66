"""The loop that people write with stock transformers: one pass per configuration, length and document with `labels=`,
one `generate` per passkey prompt. What every speed-up here is held against."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from ropewalk.experiment.prepare import Prepared, prompts
from ropewalk.models import LoadedModel, patched


@dataclass
class Stock:
    """Seconds spent, and what came out: mean NLL (nats/token) and found keys by (fingerprint, length)."""

    documents_s: float = 0.0
    passkey_s: float = 0.0
    nll: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    found: dict[tuple[str, int], list[bool]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.documents_s + self.passkey_s


@torch.inference_mode()
def loop(loaded: LoadedModel, prepared: Prepared, pairs: Iterable[tuple[str, int]]) -> Stock:
    """Measure (fingerprint, length) pairs of a prepared experiment, pass after pass."""
    model, tokenizer, done = loaded.model, loaded.tokenizer, Stock()
    for fingerprint, length in pairs:
        with patched(
            model, prepared.plan.schemes[fingerprint].rotation
        ):  # as if it had been loaded with that configuration
            start = time.perf_counter()
            done.nll[fingerprint, length] = [
                model(ids, labels=ids, use_cache=False).loss.item()
                for ids in (tensor(document.ids[:length], model.device) for document in prepared.tokens)
            ]
            done.documents_s += time.perf_counter() - start
            for each in (s for s in prepared.plan.prompts if (s.fingerprint, s.length) == (fingerprint, length)):
                start = time.perf_counter()
                done.found[fingerprint, length] = [
                    answered(model, tokenizer, prompt.request) for prompt in prompts(prepared, each.metric, length)
                ]
                done.passkey_s += time.perf_counter() - start
    return done


def answered(model: Any, tokenizer: Any, trial: Any) -> bool:
    """Whether greedy decoding says the key and then no further digit."""
    prompt = tensor(trial.ids[: -trial.answer_tokens], model.device)
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=trial.answer_tokens + 1,
        do_sample=False,
        pad_token_id=0,
    )
    said = tokenizer.decode(out[0, prompt.shape[1] :])
    return said.startswith(" " + trial.key) and not said[len(trial.key) + 1 :][:1].isdigit()


def tensor(ids: Any, device: Any) -> torch.Tensor:
    return torch.from_numpy(ids.astype("int64"))[None].to(device)
