"""preset:grid-172 on a random 1B-shaped model, in memory, on one GPU; the stock loop beside it on a sample.

    python benchmarks/grid.py [--sample 2]
    python benchmarks/grid.py --tiny                 # seconds on a CPU, to see that it runs

The stock loop (stock.py) notices no duplicates: it would measure all 44 configurations at 4 lengths for many minutes,
so it is timed on `--sample` rotations at every length and scaled by 44 / sample; cells differ only in their numbers,
not in cost. Text and prompts are strand's tokens, a small vocabulary's: what they say does not matter for speed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import shape1b
import torch
import transformers
import yaml
from stock import loop

from ropewalk.execution.run import sweep
from ropewalk.experiment import presets, schema
from ropewalk.experiment.prepare import ask, prepare
from ropewalk.models import LoadedModel, ModelProvenance, ModelSpec, geometry_of
from ropewalk.models.load import load

TINY = {"lengths": [256, 512], "documents": {"corpus": "builtin", "count": 2}}


def in_memory(*, tiny: bool) -> LoadedModel:
    """A random model with strand's tokenizer."""
    device = "cpu" if tiny else "cuda"
    model = shape1b.model(device, tiny=tiny)
    provenance = ModelProvenance(
        id="random-llama-3.2-1b",
        revision=None,
        architecture=type(model).__name__,
        weights_sha256="0" * 64,
        dtype="bfloat16",
        device=device if tiny else f"cuda:0 {torch.cuda.get_device_name()}",
        parameters=model.num_parameters(),
        chat_template=False,
    )
    tokenizer = load(ModelSpec.parse("strand"), dtype="float32", device="cpu").tokenizer
    return LoadedModel(model=model, tokenizer=tokenizer, geometry=geometry_of(model.config), provenance=provenance)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    loaded = in_memory(tiny=args.tiny)
    raw = yaml.safe_load(presets.text("grid-172")) | (TINY if args.tiny else {})
    marks: list[tuple[float, str]] = []
    start = time.perf_counter()
    asked = ask(schema.parse(raw, "preset:grid-172"), loaded)
    with tempfile.TemporaryDirectory() as folder:
        run = sweep(
            asked,
            Path(folder) / "run",
            progress=lambda what, done, total: marks.append((time.perf_counter() - start, what)),
        )
        seconds = time.perf_counter() - start
        rows = run.rows()
    found: dict[str, Any] = {
        "benchmark": "grid-172",
        "device": loaded.provenance.device,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "seconds": round(seconds, 1),
        "stages_end_at_s": {
            w: round(max(t for t, x in marks if x == w), 1) for w in dict.fromkeys(w for _, w in marks)
        },
        "cells": len(rows),
        "ok": sum(row["status"] == "ok" for row in rows),
        "rotations": len(asked.plan.schemes),
        "tokens": asked.plan.tokens,
    }
    if not args.tiny:
        found["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    print(found, flush=True)
    if args.sample:
        fingerprints = list(asked.plan.schemes)[: args.sample]
        pairs = [(fingerprint, length) for fingerprint in fingerprints for length in asked.experiment.lengths]
        took = loop(loaded, prepare(asked), pairs)
        stock_s = took.seconds * len(asked.plan.configurations) / args.sample
        found |= {
            "stock_sample": args.sample,
            "stock_sample_s": round(took.seconds, 1),
            "stock_s": round(stock_s, 1),
            "times_faster": round(stock_s / seconds, 2),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
