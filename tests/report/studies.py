"""Made-up studies with the shape of real ones: the plan, labels, rotations and intervals are ropewalk's own, only the
losses are drawn from seeds. Nothing outside the tests may do this."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ropewalk.experiment import plan as planning
from ropewalk.experiment import schema
from ropewalk.experiment.cells import OK, Measured, failed, measure, row
from ropewalk.experiment.plan import Cell, Plan
from ropewalk.experiment.prepare import geometry_facts
from ropewalk.metrics.metric import Sample
from ropewalk.metrics.perplexity import position_blocks
from ropewalk.report.study import Study, known, positions, trials
from ropewalk.rope import RopeGeometry
from ropewalk.stats.measured import measured

WINDOW = 2048
GEOMETRY = RopeGeometry(rotary_dim=64, rope_theta=10000.0, max_position_embeddings=WINDOW)
GRID: Mapping[str, Any] = {
    "linear": {"factor": [2, 3, 4, 8]},
    "ntk_by_parts": {"factor": "auto", "alpha": [1, 1.5, 2], "beta": [16, 32, 64]},
    "yarn": {"factor": [2, 3, 4, 8], "beta_fast": [24, 32, 48]},
    "longrope": {"factor": [2, 4, 8]},
    "dynamic_ntk": {"factor": [2, 4, 8]},
    "llama3": {"factor": [2, 4, 8], "low_freq_factor": [1, 2], "high_freq_factor": [4, 8]},
}
Spoil = Callable[[Cell], Measured | None]
"""Gives a cell's failure, or None to let it be."""


@dataclass(slots=True, kw_only=True)
class Frames:
    """What a run gives, to be spoilt by tests before it becomes a study."""

    frame: pd.DataFrame
    samples: pd.DataFrame
    curve: pd.DataFrame
    meta: dict[str, Any]
    rotations: dict[str, tuple[tuple[float, ...], float]]

    def study(self, **changes: Any) -> Study:
        """The study of these frames."""
        run = measured(self.frame, self.samples, self.meta, known())
        found = Study(
            run=run,
            trials=trials(self.samples, run.retrieval),
            curve=positions(self.curve),
            rotations=self.rotations,
            token_hashes={d["id"]: d["sha256"] for d in self.meta["documents"]},
            directory="runs/test",
        )
        return replace(found, **changes)

    def renamed(self, old: str, new: str) -> Frames:
        """Another text in labels and methods, as a plug-in might bring it."""
        for frame in (self.frame, self.samples, self.curve):
            for name in {"label", "method"} & set(frame.columns):
                frame[name] = [text.replace(old, new) for text in frame[name]]
        return self


def study(*args: Any, **kwargs: Any) -> Study:
    """`frames(...)` as a study."""
    return frames(*args, **kwargs).study()


def frames(
    methods: Mapping[str, Any] | Sequence[str] = GRID,
    lengths: Sequence[int] = (1024, 2048, 4096, 8192),
    *,
    documents: int = 8,
    metrics: Mapping[str, Any] | None = None,
    window: int = WINDOW,
    spoil: Spoil = lambda cell: None,
    model: Mapping[str, Any] | None = None,
    seed: int = 0,
    shift: float = 0.0,
) -> Frames:
    """Frames of these methods; `shift` adds to every loss (nats)."""
    asked = {"perplexity": {}, "longppl": {"spans": "builtin"}, "passkey": {"trials": 20}}
    raw = {"model": "org/model", "lengths": list(lengths), "methods": methods, "seed": seed}
    raw |= {"documents": {"corpus": "builtin", "count": documents}, "metrics": asked if metrics is None else metrics}
    experiment = schema.parse(raw, "test")
    geometry = RopeGeometry(rotary_dim=64, rope_theta=10000.0, max_position_embeddings=window)
    plan = planning.make(experiment, geometry, documents, planning.configurations(experiment.methods))
    rows, samples = [], []
    for cell in plan.cells:
        found = _samples(cell, plan, documents, window, seed, shift)
        outcome = spoil(cell) or measure(cell, found)
        rows.append(dict(row(cell, outcome)))
        if outcome.status in (OK, "too_few_key_tokens"):
            samples += [_flat(cell, sample) for sample in found]
    return Frames(
        frame=pd.DataFrame(rows, columns=list(_COLUMNS)).rename(columns={"asked": "params"}),
        samples=pd.DataFrame(samples, columns=list(_SAMPLE_COLUMNS)),
        curve=pd.DataFrame(_curve(plan, experiment.lengths[-1], documents, window), columns=list(_CURVE_COLUMNS)),
        meta=_meta(experiment.resolved(), geometry, documents, model or {}),
        rotations={
            k: (tuple(r.inv_freq.tolist()), r.attention_factor)
            for k, r in ((k, s.rotation) for k, s in plan.schemes.items())
        },
    )


_COLUMNS = (
    "label", "method", "asked", "resolved", "length", "metric", "fingerprint", "value", "ci_low", "ci_high", "n",
    "status", "reason",
)  # fmt: skip
_SAMPLE_COLUMNS = ("label", "method", "length", "metric", "unit", "numerator", "denominator", "depth", "group")
_CURVE_COLUMNS = ("label", "length", "position_low", "position_high", "nll", "n")


def _samples(cell: Cell, plan: Plan, documents: int, window: int, seed: int, shift: float) -> list[Sample]:
    """One document or trial each; equal rotations have equal outcomes, as they would."""
    draw = np.random.default_rng([seed, cell.length, int(cell.fingerprint[:8], 16)])
    excess = _excess(plan, cell, window)
    if cell.metric == "passkey":
        chance = float(np.clip(0.97 - 0.9 * excess, 0.02, 0.98))
        found = draw.random(20) < chance
        return [Sample(unit=str(i), numerator=float(f), denominator=1.0, depth=i / 19) for i, f in enumerate(found)]
    base = 2.6 + 0.25 * np.random.default_rng(seed).standard_normal(documents) - 0.03 * math.log2(cell.length)
    if cell.method == "truncate":
        excess = 0.06
    tail = {"tail": 1.4, "longppl": 1.8}.get(cell.metric, 1.0)
    nll = base + shift + tail * excess + 0.012 * draw.standard_normal(documents)
    tokens = {"tail": min(512, cell.length // 4), "longppl": 60}.get(cell.metric, cell.length - 1)
    if cell.metric == "bits_per_byte":
        nll, tokens = nll / math.log(2) / 4, 4 * tokens  # four bytes a token
    return [Sample(unit=f"text-{i}", numerator=float(x) * tokens, denominator=float(tokens)) for i, x in enumerate(nll)]


def _excess(plan: Plan, cell: Cell, window: int) -> float:
    """Made-up nats lost: compressing fast dimensions hurts everywhere, leaving slow ones alone hurts far out."""
    inv_freq = plan.schemes[cell.fingerprint].rotation.inv_freq
    plain = GEOMETRY.unscaled_inv_freq
    stretch = np.log(plain / inv_freq)
    fast = plain * window / (2 * math.pi) > 8
    beyond = max(0.0, math.log(cell.length / window) - float(stretch[~fast].mean()))
    return float(0.9 * stretch[fast].mean() + 0.02 * stretch[~fast].mean() + 1.1 * beyond)


def _flat(cell: Cell, sample: Sample) -> tuple[Any, ...]:
    depth = math.nan if sample.depth is None else sample.depth
    numbers = sample.numerator, sample.denominator, depth
    return cell.label, cell.method, cell.length, cell.metric, sample.unit, *numbers, sample.group or ""


def _curve(plan: Plan, longest: int, documents: int, window: int) -> list[tuple[Any, ...]]:
    found = []
    for cell in plan.cells:
        if cell.metric == "perplexity" and cell.length == longest:
            excess = _excess(plan, cell, window)
            for low, high in position_blocks(longest):
                late = 1.3 * excess * max(0.0, math.log(low / window)) if low > window else 0.0
                found.append(
                    (cell.label, longest, low, high, 2.3 + 5 / math.sqrt(low) + 0.4 * excess + late, documents)
                )
    return found


def _meta(
    experiment: Mapping[str, Any], geometry: RopeGeometry, documents: int, model: Mapping[str, Any]
) -> dict[str, Any]:
    provenance = {
        "id": "org/model", "revision": "abc123", "architecture": "LlamaForCausalLM", "weights_sha256": "0" * 64,
        "dtype": "float32", "device": "cpu", "parameters": 135_000_000, "chat_template": False,
    }  # fmt: skip
    return {
        "model": provenance | dict(model),
        "geometry": geometry_facts(geometry),
        "experiment": experiment,
        "identity": {"experiment": experiment, "exact": False},
        "versions": {"python": "3.11.7", "ropewalk": "0.1.0", "torch": "2.13.0"},
        "started": "2026-01-02T03:04:05+00:00",
        "wall_s": 321.0,
        "attention": "ropewalk",
        "documents": [
            {"id": f"text-{i}", "title": f"Text {i}", "kind": "novel", "sha256": f"{i:064d}", "tokens": 40_000 + i}
            for i in range(documents)
        ],
    }


__all__ = ["GRID", "Frames", "Study", "failed", "frames", "study"]
