"""A model cut across GPUs (tensor parallel, transformers' own plan) against the same model on one: losses and speed.

    python benchmarks/scale_tp.py --gpus 2                   # Llama 3.1 8B's shape, bfloat16, NCCL
    python benchmarks/scale_tp.py --gpus 2 --tiny            # on a CPU, gloo, float32

Every rank is a process that runs ropewalk's own loop on its part of each layer; the head is whole on each. The model on
one GPU comes first, in rank 0. Rows are those of `scale_gpu.py large`: random tokens here, as speed does not mind.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from scale_gpu import checkpoint

from ropewalk.methods import make_params, resolve
from ropewalk.models import geometry_of
from ropewalk.scheme import Scheme
from ropewalk.scoring import NllRow, fast, score, split
from ropewalk.scoring.budget import batch_tokens

LENGTHS = {True: {128: 4, 256: 2}, False: {2048: 8, 16384: 2}}
"""Rows of each length, tiny or not."""


def load(folder: Path, gpus: int, rank: int, dtype: torch.dtype) -> Any:
    """The model whole, or this rank's part of it."""
    place = f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
    kind = transformers.AutoModelForCausalLM
    if gpus == 1:
        return kind.from_pretrained(folder, dtype=dtype, device_map={"": place}).eval()
    transformers.LlamaForCausalLM._tp_plan = {}  # the head stays whole: losses are streamed through its weight
    try:
        from transformers.distributed import DistributedConfig

        cut: dict[str, Any] = {"distributed_config": DistributedConfig(tp_size=gpus)}  # type: ignore[call-arg]
    except TypeError:  # before 5.18
        cut = {"tp_plan": "auto"}
    return kind.from_pretrained(folder, dtype=dtype, **cut).eval()


def rows(model: Any, tiny: bool) -> list[NllRow]:
    """Random tokens under what ships and under yarn, side by side."""
    geometry, draw, found = geometry_of(model.config), np.random.default_rng(0), []
    for length, count in LENGTHS[tiny].items():
        for place in range(count):
            method, given = (("none", {}), ("yarn", {"factor": 2}))[place % 2]
            rotation = resolve(geometry, method, make_params(method, given), length).rotation
            ids = draw.integers(2000, size=length).astype(np.int32)
            found.append(NllRow(ids=ids, scheme=Scheme(rotation=rotation)))
    return found


@torch.inference_mode()
def measure(model: Any, tiny: bool) -> tuple[list[Any], dict[str, Any]]:
    """Losses of every row, and tokens per second of the second time."""
    asked, parts = rows(model, tiny), split(model)
    longest = max(len(row.ids) for row in asked)
    budget = batch_tokens(model, longest) if not tiny else 512
    with fast(model, parts, compiled=False, longest=longest) as quick:
        for _ in range(2):
            start, losses = time.perf_counter(), [None] * len(asked)
            for batch in score(model, quick, asked, budget):
                for index, outcome in batch:
                    losses[index] = outcome  # type: ignore[call-overload]
            seconds = time.perf_counter() - start
        notes = list(quick.left_out)
    tokens = sum(len(row.ids) for row in asked)
    return losses, {"tokens_per_s": round(tokens / seconds), "seconds": round(seconds, 3), "left_out": notes}


def serve(rank: int, gpus: int, folder: Path, tiny: bool) -> None:
    cuda = torch.cuda.is_available()
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(gpus)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": os.environ.get("MASTER_PORT", "29511")}
    torch.set_num_threads(1)
    if cuda:
        torch.cuda.set_device(rank)
    dtype, known = torch.float32 if tiny else torch.bfloat16, list[Any]()
    if rank == 0:
        model = load(folder, 1, 0, dtype)
        known, found = measure(model, tiny)
        print(json.dumps({"gpus": 1, **found, "mean_nll": round(mean(known), 5)}), flush=True)
        del model
        if cuda:
            torch.cuda.empty_cache()
    torch.distributed.init_process_group("nccl" if cuda else "gloo", rank=rank, world_size=gpus)
    model = load(folder, gpus, rank, dtype)
    losses, found = measure(model, tiny)
    if rank == 0:
        off = [float(np.abs(a - b).mean()) for a, b in zip(known, losses, strict=True)]
        own = sum(part.to_local().numel() if hasattr(part, "to_local") else part.numel() for part in model.parameters())
        said = {"mean_nll": round(mean(losses), 5), "largest_mean_difference_of_a_row_nats": max(off)}
        print(json.dumps({"gpus": gpus, **found, **said, "parameters_of_a_rank": own}), flush=True)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def mean(losses: list[Any]) -> float:
    return float(np.mean([np.mean(each, dtype=np.float64) for each in losses]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--folder", type=Path, default=None, help="where the checkpoint stays between calls")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = checkpoint((args.folder or Path(scratch)) / "8b", large=True, tiny=args.tiny)
        torch.multiprocessing.spawn(serve, args=(args.gpus, folder, args.tiny), nprocs=args.gpus)


if __name__ == "__main__":
    main()
