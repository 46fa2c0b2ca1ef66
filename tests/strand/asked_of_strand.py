"""Passkey prompts in the words of a tokenizer, without ropewalk's loop."""

from __future__ import annotations

from typing import Any

from ropewalk.metrics.metric import Material
from ropewalk.metrics.passkey import Passkey, build
from ropewalk.metrics.requests import Forced


def prompts(tokenizer: Any, length: int, trials: int, seed: int) -> list[Forced]:
    """The prompts of the exact protocol, answers fed in, without BOS."""

    def encode(text: str) -> list[int]:
        return tokenizer(text).input_ids

    material = Material(encode=encode, encode_whole=encode, chat=None, bos_id=None, prose=(), seed=seed)
    return [prompt.request for prompt in build(Passkey(trials=trials), material, length)]
