"""Hand-made runs, through the frames that a real run gives."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from blocks_for_tests import COLUMNS

from ropewalk.stats.measured import Measured, measured

TOKENS = 128.0
WINDOW = 2048
Cells = Mapping[tuple[str, int], Sequence[float]]


def run_of(
    *,
    tail: Cells | None = None,
    passkey: Cells | None = None,
    longppl: Cells | None = None,
    answer_nll: Cells | None = None,
    generated: Cells | None = None,
    failed: Mapping[tuple[str, int, str], tuple[str, str]] | None = None,
    fingerprints: Mapping[tuple[str, int], str] | None = None,
    model: Mapping[str, Any] | None = None,
    geometry: Mapping[str, Any] | None = None,
    experiment: Mapping[str, Any] | None = None,
) -> Measured:
    """A run from mean nll per document (or a number per trial) by (label, length); labels begin with their method."""
    rows: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    every = {"tail": tail, "longppl": longppl, "passkey": passkey, "answer_nll": answer_nll, "generated": generated}
    for metric, cells in every.items():
        weight = TOKENS if COLUMNS[metric].is_ratio else 1.0
        for (label, length), values in (cells or {}).items():
            known = {"label": label, "method": label.split()[0], "length": length, "metric": metric}
            mean = float(np.mean(values))
            row = known | {"asked": {}, "params": {}, "n": len(values), "status": "ok", "reason": None}
            row |= {"value": mean if weight == 1.0 else math.exp(mean) if mean < 700 else math.inf}
            row |= {"ci_low": math.nan, "ci_high": math.nan}
            row["fingerprint"] = (fingerprints or {}).get((label, length), f"{label} {length}")
            if (metric, length, label) in (failed or {}):
                row |= dict(zip(("status", "reason"), failed[(metric, length, label)], strict=True)) | {"value": None}
            rows.append(row)
            samples += [
                known | {"unit": f"{metric} {i}", "numerator": v * weight, "denominator": weight, "depth": math.nan}
                for i, v in enumerate(values)
            ]
    meta = {
        "model": {"parameters": 135_000_000, "chat_template": False} | dict(model or {}),
        "geometry": {"window": WINDOW, "window_source": "max_position_embeddings"} | dict(geometry or {}),
        "experiment": {"documents": {"corpus": "builtin"}} | dict(experiment or {}),
    }
    return measured(pd.DataFrame(rows), pd.DataFrame(samples), meta, COLUMNS)


def documents(seed: int, shift: float = 0.0, noise: float = 0.01, n: int = 8) -> list[float]:
    """Mean nll of n documents: the same documents for every seed, shifted, with noise of the configuration's own."""
    base = 2.5 + 0.3 * np.random.default_rng(0).standard_normal(n)
    return (base + shift + noise * np.random.default_rng(seed).standard_normal(n)).tolist()
