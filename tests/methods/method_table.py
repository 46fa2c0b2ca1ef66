"""One row per method: parameters to try it with, and which laws it obeys. A new method is a new row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings

from ropewalk.rope import RopeGeometry

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are shared
WINDOW = 4096
LLAMA = RopeGeometry(rotary_dim=128, rope_theta=5e5, max_position_embeddings=WINDOW)
LENGTHS = (1, WINDOW // 2, WINDOW, WINDOW + 1, 4 * WINDOW)

SHIPPED = {
    "default": {"rope_type": "default"},
    "llama3": {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """`largest` bounds lambda from above, given s, max(1, L/L0), and the geometry; None where there is no such law."""

    name: str
    minimal: dict[str, Any] = field(default_factory=lambda: {"factor": 4})
    variants: tuple[dict[str, Any], ...] = ()
    identity: dict[str, Any] | None = None
    identity_beyond_window: bool = True
    largest: Callable[[float, float, RopeGeometry], float] | None = lambda s, stretch, geometry: s
    monotone: bool = True
    depends_on_length: bool = False
    fit: Callable[[dict[str, Any], RopeGeometry], dict[str, Any]] = lambda raw, geometry: raw
    """Parameters that only fit one geometry, made for another."""

    @property
    def examples(self) -> tuple[dict[str, Any], ...]:
        auto = {"factor": "auto"}
        extended = ({**self.minimal, **auto},) if "factor" in self.minimal else ()
        windowed = ({**self.minimal, "original_max_position_embeddings": 1024},) if self.minimal else ()
        return (self.minimal, *self.variants, *extended, *windowed)


def listed(raw: dict[str, Any], geometry: RopeGeometry) -> dict[str, Any]:
    """The file of `raw` with its first and last lambda, for this geometry."""
    first, last = (raw["file"]["lambda"][i] for i in (0, -1))
    pairs = geometry.rotary_dim // 2
    divisors = [first + (last - first) * i / max(1, pairs - 1) for i in range(pairs)]
    return {**raw, "file": {**raw["file"], "rope_theta": geometry.rope_theta, "lambda": divisors}}


def file(last: float, attention_factor: float) -> dict[str, Any]:
    """Divisors from 1 to `last`, for LLAMA."""
    found = {"schema": 1, "rope_theta": 0, "lambda": [1.0, last], "attention_factor": attention_factor}
    return listed({"file": found}, LLAMA)


UNIT = {"factor": 1}
ROWS = (
    Row(name="none", minimal={}, identity={}),
    Row(name="linear", identity=UNIT),
    Row(name="ntk_aware", identity=UNIT),
    Row(name="ntk_by_parts", variants=({"factor": 8, "alpha": 1.5, "beta": 64},), identity=UNIT),
    Row(
        name="dynamic_ntk",
        identity=UNIT,
        identity_beyond_window=False,  # alpha = s L/L0 - (s-1) is L/L0 at s = 1, in the paper as in transformers
        largest=lambda s, stretch, geometry: s * stretch - (s - 1),
        depends_on_length=True,
    ),
    Row(
        name="yarn",
        variants=(
            {"factor": 4, "ramp": "turns"},
            {"factor": 2.5, "beta_fast": 24, "beta_slow": 2, "truncate": False},
            {"factor": 4, "mscale": 0.7},
            {"factor": 40, "mscale": 1, "mscale_all_dim": 0.8},
            {"factor": 4, "attention_factor": 1.25},
        ),
        identity=UNIT,
    ),
    Row(name="llama3", minimal={}, variants=({"factor": 32, "high_freq_factor": 8},), identity=UNIT),
    Row(
        name="longrope",
        variants=({"factor": 4, "attention_factor": 1.1}, {"factor": 8, "compose": "stack"}),
        identity=UNIT,
        depends_on_length=True,
    ),
    Row(
        name="abf",
        minimal={"rope_theta": 1e7},
        identity={"rope_theta": LLAMA.rope_theta},
        largest=lambda s, stretch, geometry: 1e7 / geometry.rope_theta,
    ),
    Row(name="mrrope", variants=({"factor": 8, "mode": "uni"},), identity=UNIT),
    Row(
        name="proportional",
        minimal={"factor": 4, "partial_rotary_factor": 0.25},
        variants=({"partial_rotary_factor": 0.5},),
        identity={"partial_rotary_factor": 1},
        largest=None,  # pairs that do not turn have lambda = infinity
        monotone=False,
    ),
    Row(
        name="searched",
        minimal=file(4.0, 1.1),
        variants=({**file(6.0, 1.0), "compose": "stack"},),
        identity=file(1.0, 1.0),
        largest=lambda s, stretch, geometry: 6.0,
        fit=listed,
    ),
)
BRANCHED = ("rerope", "leaky_rerope", "self_extend", "dca", "string", "jet_long", "bifocal", "streaming")
"""Methods that are more than a rotation: their laws are in test_method_branches.py."""

EXAMPLES = [(row, raw) for row in ROWS for raw in row.examples]
EXAMPLE_IDS = [f"{row.name}-{n}" for row in ROWS for n in range(len(row.examples))]
