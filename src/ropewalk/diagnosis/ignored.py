"""Keys of a config.json about the rotation that nothing reads, or that contradict each other. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

KNOWN = frozenset(
    {
        "rope_type",
        "type",
        "rope_theta",
        "factor",
        "original_max_position_embeddings",
        "max_position_embeddings",
        "attention_factor",
        "attn_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
        "low_freq_factor",
        "high_freq_factor",
        "short_factor",
        "long_factor",
        "short_mscale",
        "long_mscale",
        "partial_rotary_factor",
        "mrope_section",
        "mrope_interleaved",
        "alpha",
        "llama_4_scaling_beta",
        "max_trained_positions",
        "extrapolation_factor",
        "rope_local_base_freq",
        "xpos",
    }
)
"""Of rope_parameters and rope_scaling, in some reader."""


def ignored_keys(raw: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each key of a config.json that no reader knows, and for two that say different things."""
    text = raw.get("text_config") if isinstance(raw.get("text_config"), Mapping) else raw
    assert isinstance(text, Mapping)
    for place in ("rope_parameters", "rope_scaling"):
        yield from _unknown(place, text.get(place))
    yield from _contradictions(text)


def _unknown(place: str, rope: Any) -> Iterator[str]:
    if not isinstance(rope, Mapping):
        return
    for key, value in rope.items():
        if isinstance(value, Mapping):
            yield from _unknown(f"{place}.{key}", value)
        elif key not in KNOWN:
            near = difflib.get_close_matches(key, KNOWN, n=1, cutoff=0.6)
            yield f"config.json: {place}.{key}={value!r} is read by nobody" + (
                f"; did you mean {near[0]}?" if near else "; take it out."
            )


def _contradictions(text: Mapping[str, Any]) -> Iterator[str]:
    new, old = text.get("rope_parameters"), text.get("rope_scaling")
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        for key in sorted(set(new) & set(old) - {"type"}):
            if new[key] != old[key]:
                yield (
                    f"config.json: rope_parameters.{key}={new[key]!r} and rope_scaling.{key}={old[key]!r} contradict "
                    "each other, and readers differ in which one they take; write one value."
                )
    theta = new.get("rope_theta") if isinstance(new, Mapping) else None
    if theta is not None and text.get("rope_theta", theta) != theta:
        yield (
            f"config.json: rope_theta={text['rope_theta']!r} and rope_parameters.rope_theta={theta!r} contradict each "
            "other, and readers differ in which one they take; write one value."
        )
