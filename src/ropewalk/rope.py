"""The two values everything else is about: what a model was trained with, and what it is run with.

Notation (docs/methods.md): d = rotary_dim, i = 0..d/2-1, b = rope_theta, f_i = b^(-2i/d).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ropewalk.errors import ModelError
from ropewalk.files import sha256

STILL = 1e15
"""lambda of a pair that does not turn; over 1e7 tokens it then turns by 1e-8 rad, less than float32 tells."""

Compose = Literal["replace", "stack"]

MAX_ROTARY_DIM = 65536
"""Hundreds of times what models have; a configuration that says more would only exhaust memory."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Rotation:
    """One static rotary embedding: everything a forward pass needs to know about positions.

    Attributes:
        inv_freq: float64 `[rotary_dim/2]`, rad/token, read-only. Position p turns pair i by `p * inv_freq[i]`.
        attention_factor: multiplies cos and sin, so attention logits scale by its square.
        softmax_factor: multiplies the softmax scale of attention, which also reaches what is not rotated; not 1 only
            under `mscale_all_dim`, in architectures whose attention reads it (`RopeGeometry.softmax_mscale`).
    """

    inv_freq: NDArray[np.float64]
    attention_factor: float = 1.0
    softmax_factor: float = 1.0

    def __post_init__(self) -> None:
        inv_freq = np.array(self.inv_freq, dtype=np.float64)
        if inv_freq.ndim != 1 or inv_freq.size == 0 or not np.isfinite(inv_freq).all() or (inv_freq < 0).any():
            raise ValueError(f"inv_freq must be a list of finite numbers >= 0 (rad/token), got {self.inv_freq!r}")
        for name in ("attention_factor", "softmax_factor"):
            if not (math.isfinite(value := getattr(self, name)) and value > 0):
                raise ValueError(f"{name}={value!r} must be a finite number > 0")
        largest, least = np.finfo(np.float32).max, np.finfo(np.float32).tiny
        if inv_freq.max() > largest or not least <= self.attention_factor <= largest:
            raise ModelError(
                f"the rotation turns by up to {inv_freq.max():.3g} rad/token with attention_factor="
                f"{self.attention_factor:.3g}, which float32, in which it runs, cannot hold; mend its factors."
            )
        inv_freq.setflags(write=False)
        object.__setattr__(self, "inv_freq", inv_freq)
        object.__setattr__(self, "attention_factor", float(self.attention_factor))
        object.__setattr__(self, "softmax_factor", float(self.softmax_factor))

    @override
    def __repr__(self) -> str:
        softmax = "" if self.softmax_factor == 1 else f", softmax_factor {self.softmax_factor:.6g}"
        factors = f"attention_factor {self.attention_factor:.6g}{softmax}"
        return f"Rotation({self.inv_freq.size} pairs, {factors}, fingerprint {self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """16 hex digits: two rotations that a float32 forward pass cannot tell apart have the same one."""
        factors = [self.attention_factor] if self.softmax_factor == 1 else [self.attention_factor, self.softmax_factor]
        raw = self.inv_freq.astype("<f4").tobytes() + np.array(factors, dtype="<f4").tobytes()
        return sha256(raw)[:16]

    def divisors(self, geometry: RopeGeometry) -> list[float]:
        """lambda_i = f_i / inv_freq_i, `[rotary_dim/2]`; STILL where inv_freq is 0."""
        turning = self.inv_freq > 0
        ratio = geometry.unscaled_inv_freq / np.where(turning, self.inv_freq, 1.0)
        return np.where(turning, ratio, STILL).tolist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rotation) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A trained window in tokens, and where that number was read."""

    length: int
    source: str


def windows(facts: Mapping[str, Any]) -> str:
    """The trained window with its source, and the length that ships where that is another, in words.

    Args:
        facts: what a run records of a geometry; older ones may lack some.
    """
    said = f"window {facts['window']:,} tokens ({facts.get('window_source')})"
    longest = facts.get("max_position_embeddings") or facts["window"]
    return said if longest == facts["window"] else f"{said}, ships for {longest:,} (max_position_embeddings)"


def _plain() -> Mapping[str, Any]:
    return MappingProxyType({"rope_type": "default"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeGeometry:
    """What a checkpoint was trained with, in the words of its configuration.

    Attributes:
        rotary_dim: rotated dimensions per head (head_dim * partial_rotary_factor), even.
        rope_theta: the unscaled base b.
        max_position_embeddings: as the configuration says, tokens.
        original_max_position_embeddings: the configuration's own, if it has one, tokens.
        rope_parameters: the shipped scaling, Hugging Face keys (`rope_type`, `factor`, ...).
        layer_type: the attention layers that methods apply to, where a model has several kinds
            (Gemma 3: "full_attention"); None where it has one.
        window_override: the trained window according to the user (`window:` in the experiment file).
        softmax_mscale: whether attention multiplies its softmax scale by the square of a scaling's `mscale_all_dim`
            (DeepSeek V2 and V3 and their family).
    """

    rotary_dim: int
    rope_theta: float
    max_position_embeddings: int
    original_max_position_embeddings: int | None = None
    rope_parameters: Mapping[str, Any] = field(default_factory=_plain, hash=False)
    layer_type: str | None = None
    window_override: int | None = None
    softmax_mscale: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.rotary_dim <= MAX_ROTARY_DIM or self.rotary_dim % 2:
            raise ModelError(
                f"rotary_dim={self.rotary_dim} must be an even number >= 2 and <= {MAX_ROTARY_DIM}; this is no RoPE "
                "geometry."
            )
        if not (math.isfinite(self.rope_theta) and self.rope_theta > 1):
            raise ModelError(f"rope_theta={self.rope_theta} must be a finite number > 1; this is no RoPE geometry.")
        for name in ("max_position_embeddings", "original_max_position_embeddings", "window_override"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ModelError(f"{name}={value} must be at least 1 token; mend the model's config.json.")
        object.__setattr__(self, "rope_parameters", MappingProxyType(dict(self.rope_parameters)))

    @property
    def unscaled_inv_freq(self) -> NDArray[np.float64]:
        """f_i = rope_theta^(-2i/d), float64 `[rotary_dim/2]`, rad/token (RoFormer, arXiv:2104.09864)."""
        exponent = np.arange(0, self.rotary_dim, 2, dtype=np.float64) / self.rotary_dim
        return 1.0 / self.rope_theta**exponent

    def window(self, compose: Compose = "replace") -> Window:
        """The trained window L0 that a method scales from, when its parameters do not say.

        `replace` edits the checkpoint's configuration, so the window before any shipped scaling counts;
        `stack` comes on top of the shipped scaling, so the window after it counts.
        """
        if self.window_override is not None:
            return Window(length=self.window_override, source="window in the experiment")
        if compose == "replace" and self.original_max_position_embeddings is not None:
            return Window(length=self.original_max_position_embeddings, source="original_max_position_embeddings")
        return Window(length=self.max_position_embeddings, source="max_position_embeddings")
