"""preset:grid-172 on a random 1B-shaped model, in memory, on one GPU; the stock loop beside it on a sample.

    python benchmarks/grid.py [--sample 2]

The stock loop does what people write: per configuration and length a model with that rotation, `labels=` for the
perplexity, `generate` for the passkey, no duplicates noticed. It would run for many minutes, so it is timed on
`--sample` configurations at every length and scaled by 44 / sample; cells differ only in their numbers, not in cost.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import shape1b
import torch
import transformers
import yaml

from ropewalk.experiment import presets, schema
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.run import sweep
from ropewalk.models import LoadedModel, ModelProvenance, geometry_of
from ropewalk.models.patch import patched


def in_memory(tokenizer: Any) -> LoadedModel:
    model = shape1b.model()
    provenance = ModelProvenance(
        id="random-llama-3.2-1b",
        revision=None,
        architecture=type(model).__name__,
        weights_sha256="0" * 64,
        dtype="bfloat16",
        device=f"cuda:0 {torch.cuda.get_device_name()}",
        parameters=model.num_parameters(),
        chat_template=False,
    )
    return LoadedModel(model=model, tokenizer=tokenizer, geometry=geometry_of(model.config), provenance=provenance)


@torch.inference_mode()
def stock(loaded: LoadedModel, rotations: list[Any], lengths: list[int], documents: int, trials: int) -> float:
    """Seconds of the stock loop over these rotations: labels= per document and length, generate per trial."""
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    for rotation in rotations:
        with patched(loaded.model, rotation):  # what editing the configuration and loading anew would give
            for length in lengths:
                ids = torch.from_numpy(rng.integers(0, 1000, (1, length))).cuda()
                for _ in range(documents):
                    loaded.model(ids, labels=ids, use_cache=False).loss.item()
                for _ in range(trials):
                    loaded.model.generate(ids[:, :-6], max_new_tokens=6, do_sample=False, pad_token_id=0)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, default=0)
    args = parser.parse_args()
    from ropewalk.models import ModelSpec
    from ropewalk.models.load import load

    tokenizer = load(ModelSpec.parse("smollm2"), dtype="float32", device="cpu").tokenizer
    loaded = in_memory(tokenizer)
    experiment = schema.parse(yaml.safe_load(presets.text("grid-172")), "preset:grid-172")
    marks: list[tuple[float, str]] = []
    start = time.perf_counter()
    asked = ask(experiment, loaded)
    with tempfile.TemporaryDirectory() as folder:
        run = sweep(
            asked,
            Path(folder) / "run",
            progress=lambda what, done, total: marks.append((time.perf_counter() - start, what)),
        )
        seconds = time.perf_counter() - start
        rows = run.rows()
    stages = {what: round(max(t for t, w in marks if w == what), 1) for what in dict.fromkeys(w for _, w in marks)}
    found = {
        "benchmark": "grid-172",
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "seconds": round(seconds, 1),
        "ended_at_s": stages,
        "cells": len(rows),
        "ok": sum(row["status"] == "ok" for row in rows),
        "rotations": len(asked.plan.rotations),
        "tokens": asked.plan.tokens,
        "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
    }
    print(found, flush=True)
    if args.sample:
        rotations = list(asked.plan.rotations.values())[: args.sample]
        took = stock(loaded, rotations, experiment.lengths, asked.plan.documents, asked.plan.trials)
        found |= {
            "stock_sample": args.sample,
            "stock_sample_s": round(took, 1),
            "stock_s": round(took * len(asked.plan.configurations) / args.sample, 1),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
