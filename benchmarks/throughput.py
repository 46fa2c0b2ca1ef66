"""Scoring throughput on one GPU: tokens/s, share of the measured bf16 product rate, peak memory.

python benchmarks/throughput.py [--long] [--eager]
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
from ropewalk.scheme import Scheme
from ropewalk.scoring import NllRow, fast, score, split

SHAPES = [(8, 2048), (1, 16384)]
LONG = [(1, 131072), (1, 1048576)]


def gemm_tflops() -> float:
    """bf16 8192 x 8192 x 8192, best of ten."""
    a, b = (torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    best = 1e9
    for _ in range(13):
        torch.cuda.synchronize()
        start = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * 8192**3 / best / 1e12


def flops(config: Any, rows: int, length: int) -> float:
    """Arithmetic of one scored batch: products with weights, causal attention, the head."""
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    kv = config.num_key_value_heads * config.head_dim
    per_layer = 2 * (2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * inner)
    attention = 2 * 2 * hidden * length / 2
    return rows * length * (layers * (per_layer + attention) + 2 * hidden * config.vocab_size)


def measure(model: Any, rows: int, length: int, *, compiled: bool, repeats: int, batches: int) -> dict[str, Any]:
    geometry = geometry_of(model.config)
    rotations = [
        resolve(geometry, "yarn", make_params("yarn", {"factor": 1 + row}), length).rotation for row in range(rows)
    ]
    rng = np.random.default_rng(0)
    batch = [
        NllRow(ids=rng.integers(0, 1000, length).astype(np.int32), scheme=Scheme(rotation=r))
        for _ in range(batches)
        for r in rotations
    ]
    parts = split(model)
    torch.cuda.reset_peak_memory_stats()
    times = []
    with fast(model, parts, compiled=compiled) as quick:
        for _ in range(repeats + 1):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in score(model, quick, batch, rows * length):
                pass
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    median = statistics.median(times[1:] or times) / batches
    return {
        "rows": rows,
        "batches": batches,
        "length": length,
        "compiled": compiled,
        "first_s": round(times[0], 3),
        "s": round(median, 4),
        "tokens_per_s": round(rows * length / median),
        "tflops": round(flops(model.config, rows, length) / median / 1e12, 1),
        "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--eager", action="store_true")
    args = parser.parse_args()
    model = shape1b.model()
    ceiling = gemm_tflops()
    found = []
    for rows, length in SHAPES + (LONG if args.long else []):
        repeats, batches = (5, 5) if length < 100_000 else (length < 200_000, 1)
        found.append(measure(model, rows, length, compiled=not args.eager, repeats=repeats, batches=batches))
        print(found[-1], f"{found[-1]['tflops'] / ceiling:.0%} of {ceiling:.0f} TFLOP/s", flush=True)
    print(
        json.dumps(
            {
                "benchmark": "throughput",
                "gpu": torch.cuda.get_device_name(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "gemm_tflops": round(ceiling, 1),
                "results": found,
            }
        )
    )


if __name__ == "__main__":
    main()
