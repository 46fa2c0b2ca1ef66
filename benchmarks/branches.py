"""Tokens per second of every method with branches beside plain attention, and how far each is from its dense twin.

    python benchmarks/branches.py            # Llama-3.2-1B's shape at 8 x 2048 and 1 x 16384, on a GPU
    python benchmarks/branches.py --tiny     # anywhere, to see that it works

All methods go in turn within each repeat, so that a clock that falls falls for all. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
import shape1b
import torch
import transformers

from ropewalk.methods import make_params, resolve
from ropewalk.models import geometry_of
from ropewalk.scheme import Gains, Scheme, Temperature
from ropewalk.scoring import NllRow, fast, score, split
from ropewalk.scoring.attention import installed

SHAPES, TINY_SHAPES = [(8, 2048), (1, 16384)], [(2, 96), (1, 128)]
TWIN_TOKENS = 1024
METHODS: dict[str, dict[str, Any]] = {
    "rerope": {"neighbor_window": 512},
    "leaky_rerope": {"neighbor_window": 512, "k": 16},
    "self_extend": {"neighbor_window": 512, "group_size": 16},
    "dca": {},
    "string": {"neighbor_window": 128},
    "jet_long": {"neighbor_window": 512},
    "bifocal": {"neighbor_window": 512, "far": {"yarn": {"factor": 8}}},
    "streaming": {},
}
"""Over a window of 2048: both shapes then have near and far tokens."""


def schemes(model: Any, length: int, window: int, divisor: int) -> dict[str, Scheme]:
    """Plain, gains, a temperature, and each method; windows divided by `divisor`."""
    geometry, config = geometry_of(model.config), model.config
    plain = Scheme(rotation=resolve(geometry, "none", make_params("none", {}), length).rotation)
    log = np.random.default_rng(0).normal(
        0, 0.1, (config.num_hidden_layers, config.num_attention_heads, config.head_dim // 2)
    )
    found = {
        "plain": plain,
        "gains": Scheme(rotation=plain.rotation, gains=Gains(log=log)),
        "logn": Scheme(rotation=plain.rotation, temperature=Temperature(kind="logn", scale=window)),
    }
    for method, raw in METHODS.items():
        given = {**raw, "original_max_position_embeddings": window}
        if "neighbor_window" in given:
            given["neighbor_window"] //= divisor
        found[method] = resolve(geometry, method, make_params(method, given), length).scheme
    return found


def seconds(model: Any, parts: Any, rows: list[NllRow], tokens: int) -> float:
    """Of one pass over the rows."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in score(model, parts, rows, tokens):
        pass
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(
    model: Any, parts: Any, rows: int, length: int, every: dict[str, Scheme], repeats: int
) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 1000, length).astype(np.int32) for _ in range(4 * rows)]
    times: dict[str, list[float]] = {name: [] for name in every}
    peaks: dict[str, float] = {}
    for _ in range(repeats + 1):
        for name, scheme in every.items():
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            batch = [NllRow(ids=text, scheme=scheme) for text in texts]
            times[name].append(seconds(model, parts, batch, rows * length) / 4)
            peaks[name] = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0
    median = {name: statistics.median(took[1:]) for name, took in times.items()}
    return [
        {
            "scheme": name,
            "rows": rows,
            "length": length,
            "tokens_per_s": round(rows * length / median[name]),
            "of_plain": round(median["plain"] / median[name], 3),
            "first_s": round(times[name][0], 3),
            "peak_gb": round(peaks[name], 2),
        }
        for name in every
    ]


def off(model: Any, parts: Any, scheme: Scheme, length: int) -> float | str:
    """Mean absolute difference of token losses from the dense twin over eager attention, nats; or why there is none."""
    row = NllRow(ids=np.random.default_rng(1).integers(0, 1000, length).astype(np.int32), scheme=scheme)
    found = [outcome for batch in score(model, parts, [row], length) for _, outcome in batch]
    with installed(model, "eager"):
        exact = [outcome for batch in score(model, split(model), [row], length) for _, outcome in batch]
    for outcome in (found[0], exact[0]):
        if not isinstance(outcome, np.ndarray):
            return str(outcome)
    return float(np.abs(found[0] - exact[0]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    device = "cpu" if args.tiny else "cuda"
    model = shape1b.model(device, tiny=args.tiny)
    window, divisor = (64, 32) if args.tiny else (2048, 1)
    results: list[dict[str, Any]] = []
    with fast(model, split(model), compiled=not args.tiny) as parts:
        for note in parts.left_out:
            print(note)
        for rows, length in TINY_SHAPES if args.tiny else SHAPES:
            results += measure(model, parts, rows, length, schemes(model, length, window, divisor), args.repeats)
            for found in results[-len(METHODS) - 3 :]:
                print(found, flush=True)
        length = 96 if args.tiny else TWIN_TOKENS
        small = schemes(model, length, window // (1 if args.tiny else 8), divisor if args.tiny else 8)
        apart = {name: off(model, parts, scheme, length) for name, scheme in small.items()}
        print("nats from the dense twin:", apart)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"benchmark": "branches", "gpu": gpu, **versions, "results": results, "nats_from_twin": apart}))


if __name__ == "__main__":
    main()
