"""preset:grid-172 on a 1B-shaped model over 1, 2 and 4 GPUs of one machine; an 8B shape over 2 GPUs.

    python benchmarks/scale_gpu.py grid --workers 1 2 4        # speed-ups, and which rows are equal to the bit
    python benchmarks/scale_gpu.py large --gpus 1 2            # on a machine of two: one model on one, and over both
    python benchmarks/scale_gpu.py grid --tiny --workers 1 2   # a minute on a CPU, to see that it runs
    python benchmarks/scale_gpu.py large --tiny --gpus 1

The weights are random, in the shape of Llama 3.2 1B and of Llama 3.1 8B, saved as a checkpoint once, so that every
worker loads them as it would load any. "first to last" is from the moment when all workers are ready to the last
outcome; "command" is everything, the interpreter aside. One worker is `processes` with one slot, so that all are
measured alike; `local` beside them is the reference whose rows the others are compared with.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import shape1b
import torch
import transformers
import yaml
from safetensors.numpy import load_file

from ropewalk.execution import local, processes
from ropewalk.execution.dispatch import Dispatcher
from ropewalk.execution.executor import Executor, Fleet, Joined
from ropewalk.execution.lease import leased
from ropewalk.execution.run import sweep
from ropewalk.experiment import presets, schema
from ropewalk.experiment.prepare import ask
from ropewalk.models import ModelSpec
from ropewalk.models.load import load

TINY = {"lengths": [256, 512], "documents": {"corpus": "builtin", "count": 2}}
LARGE = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": False,
}
"""What Llama 3.1 8B has other than the 1B."""
LARGE_EXPERIMENT: dict[str, Any] = {
    "lengths": [2048, 16384],
    "documents": {"corpus": "builtin", "count": 4},
    "methods": {"yarn": {"factor": [2, 4]}, "linear": {"factor": 2}},
    "metrics": {"perplexity": {}, "passkey": {"trials": 4}},
}


@torch.no_grad()
def trained_sizes(model: Any) -> None:
    """Sizes as of a trained model: embeddings of size 1, to which each layer adds a little.

    As transformers draws them, the first layer drowns the embeddings and each of 32 layers multiplies the rounding of
    those before it: in bfloat16 two ways to compute the same differ by .086 of their size, which says nothing of
    either. So scaled, 32 layers of width 512 differ by .003 where they differed by .013; losses near ln(vocabulary).
    """
    layers = model.model.layers
    for layer in layers:
        for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
            linear.weight.mul_((2 * len(layers)) ** -0.5)
    model.model.embed_tokens.weight.mul_(1 / model.config.initializer_range)


def checkpoint(folder: Path, *, large: bool, tiny: bool) -> Path:
    """Random weights with strand's tokenizer, saved."""
    if (folder / "config.json").exists():
        return folder
    if large:
        shape1b.CONFIG.update(LARGE)  # of which a tiny model takes that its head is its own
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = shape1b.model(device, tiny=tiny)
    if large:
        trained_sizes(model)
    model.save_pretrained(folder)
    load(ModelSpec.parse("strand"), dtype="float32", device="cpu").tokenizer.save_pretrained(folder)
    del model
    if device == "cuda":
        torch.cuda.empty_cache()
    return folder


class Timed(Dispatcher):
    """A dispatcher that starts when everybody is ready: what is compared is the work, not the loading."""

    ready = 0.0
    last = 0.0

    def first(self) -> Joined:
        while len(self._opened()) < self._on.slots:
            self._step()
        Timed.ready = time.perf_counter()
        return super().first()

    def map(self, chunks: Any) -> Any:
        for event in super().map(chunks):
            Timed.last = time.perf_counter()
            yield event


@contextlib.contextmanager
def crew(asked: Any, exact: bool, fleet: Fleet) -> Any:
    with processes.crew(asked, exact, fleet) as made:
        made.__class__ = Timed
        yield made


TIMED = Executor(name="timed", summary="processes that start together", crew=crew)


class TimedAlone(local.Alone):
    """The local executor; it keeps one batch in flight, so a model over two GPUs has both at work."""

    def first(self) -> Joined:
        Timed.ready = time.perf_counter()
        return super().first()

    def map(self, chunks: Any) -> Any:
        for event in super().map(chunks):
            Timed.last = time.perf_counter()
            yield event


@contextlib.contextmanager
def alone(asked: Any, exact: bool, fleet: Fleet) -> Any:
    with leased(asked, exact=exact) as lease:
        yield TimedAlone(lease)


TIMED_ALONE = Executor(name="local", summary="this process", crew=alone)


def rows(out: Path) -> dict[str, dict[Any, Any]]:
    """Passes and answers by what they measure: losses, and predictions with them."""
    with contextlib.closing(sqlite3.connect(out / "run.sqlite")) as db:
        passes = db.execute("SELECT fingerprint, document, start, bos, stop, status, file FROM passes").fetchall()
        answers = db.execute("SELECT fingerprint, request, status, predicted, nll, text FROM answers").fetchall()
    losses = {row[:6]: load_file(out / row[6])["nll"] if row[6] else None for row in passes}
    return {"passes": losses, "answers": {row[:3]: (row[3], json.loads(row[4] or "[]"), row[5]) for row in answers}}


def compared(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """How many rows are equal to the bit, and how far the others are apart."""
    assert one["passes"].keys() == other["passes"].keys()
    assert one["answers"].keys() == other["answers"].keys()
    pairs = [(one["passes"][key], other["passes"][key]) for key in one["passes"]]
    said = [(one["answers"][key], other["answers"][key]) for key in one["answers"]]
    off = [abs(float(np.mean(a, dtype=np.float64) - np.mean(b, dtype=np.float64))) for a, b in pairs]
    off_said = [float(np.abs(np.subtract(a[1], b[1])).max(initial=0.0)) for a, b in said]
    return {
        "passes": len(pairs),
        "passes_equal_to_the_bit": sum(np.array_equal(a, b) for a, b in pairs),
        "largest_difference_of_a_mean_nats": max(off, default=0.0),
        "answers": len(said),
        "answers_equal_to_the_bit": sum(a == b for a, b in said),
        "largest_difference_of_an_answer_nats": max(off_said, default=0.0),
        "texts_that_differ": sum(a[2] != b[2] for a, b in said),
    }


def run(raw: dict[str, Any], out: Path, executor: Executor, fleet: Fleet) -> dict[str, Any]:
    start = time.perf_counter()
    asked = ask(schema.parse(raw, "scale"))
    marks: list[float] = []

    def progress(what: str, done: int, total: int) -> None:
        if total:
            marks.append(time.perf_counter())

    found = sweep(asked, out, executor=executor, fleet=fleet, progress=progress).meta
    command = time.perf_counter() - start
    timed = {"first_to_last_s": round(Timed.last - Timed.ready, 2)} if executor in (TIMED, TIMED_ALONE) else {}
    checks = [check["difference"] for check in found["canary"]["checks"]]
    return {
        "executor": executor.name,
        "workers": fleet.workers,
        "gpus_per_model": fleet.gpus_per_model,
        "command_s": round(command, 2),
        **timed,
        "last_outcome_s": round(marks[-1] - start, 2),
        "tokens": asked.plan.tokens,
        "device": found["model"]["device"],
        "canary_differences": sorted(set(checks)),
        "left_out": found["left_out"],
    }


def grid(args: argparse.Namespace, folder: Path) -> None:
    model = checkpoint(folder / "1b", large=False, tiny=args.tiny)
    raw = yaml.safe_load(presets.text("grid-172")) | (TINY if args.tiny else {}) | {"model": str(model)}
    reference: dict[str, Any] | None = None
    alone_s = 0.0
    plan = [(TIMED_ALONE, Fleet())] if args.local else []
    plan += [(TIMED, Fleet(workers=count)) for _ in range(args.repeat) for count in args.workers]
    for place, (executor, fleet) in enumerate(plan):
        out = folder / f"run-{place}"
        found = run(raw, out, executor, fleet)
        seconds = found.get("first_to_last_s", 0.0)
        if executor is TIMED and fleet.workers == 1:
            alone_s = seconds
        if alone_s and seconds:
            found["times_as_fast_as_one_worker"] = round(alone_s / seconds, 3)
        own = rows(out)
        if reference is None:
            reference = own
        else:
            found["against_the_first_run"] = compared(reference, own)
        print(json.dumps(found), flush=True)


def large(args: argparse.Namespace, folder: Path) -> None:
    model = checkpoint(folder / "8b", large=True, tiny=args.tiny)
    raw = LARGE_EXPERIMENT | (TINY if args.tiny else {})
    raw |= {"documents": raw["documents"] | {"count": args.documents}} if args.documents else {}
    raw |= {"metrics": {"perplexity": {}, "passkey": {"trials": args.trials}}} if args.trials else {}
    reference: dict[str, Any] | None = None
    table = ["", "| GPUs | tokens/s | first to last, s | command, s | rows equal to the bit | apart, nats |"]
    table.append("|---:|---:|---:|---:|---|---|")
    for place, gpus in enumerate(args.gpus):
        named: Any = str(model) if gpus == 1 else {"id": str(model), "device_map": args.device_map}  # all that show
        out = folder / f"large-{place}"
        found = run(raw | {"model": named}, out, TIMED_ALONE, Fleet(gpus_per_model=gpus))
        found["tokens_per_s"] = round(found["tokens"] / found["first_to_last_s"])
        own = rows(out)
        if reference is None:
            reference = own
        else:
            found["against_the_first_run"] = compared(reference, own)
        print(json.dumps(found), flush=True)
        against = found.get("against_the_first_run")
        same = f"{against['passes_equal_to_the_bit']} of {against['passes']} passes" if against else ""
        apart = f"{against['largest_difference_of_a_mean_nats']:.2g}" if against else ""
        times = f"{found['first_to_last_s']} | {found['command_s']}"
        table.append(f"| {gpus} | {found['tokens_per_s']} | {times} | {same} | {apart} |")
    print("\n".join(table))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["grid", "large"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device-map", default="balanced", help="of the model that is spread: over all GPUs that show")
    parser.add_argument("--documents", type=int, help="of the large model, in place of 4")
    parser.add_argument("--trials", type=int, help="of the large model, in place of 4")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--local", action="store_true", help="begin with the local executor, as the reference")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--folder", type=Path, default=None, help="where the checkpoint stays between calls")
    args = parser.parse_args()
    print({"torch": torch.__version__, "transformers": transformers.__version__}, flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        for old in (*folder.glob("run-*"), *folder.glob("large-*")):
            shutil.rmtree(old)
        {"grid": grid, "large": large}[args.what](args, folder)


if __name__ == "__main__":
    main()
