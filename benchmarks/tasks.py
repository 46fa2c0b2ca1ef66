"""A grid of tasks, generated with shared prefill and rows beside each other, against a loop of transformers' generate.

    python benchmarks/tasks.py                                              # strand, minutes on a CPU
    python benchmarks/tasks.py smollm2 --lengths 2048 8192 --methods none yarn:16 ntk_aware:16
    python benchmarks/tasks.py --loop 0.1                                   # every 10th prompt of the loop, scaled up

Both sides generate the same tokens for the same prompts under the same schemes with the same stop strings; how many
rows agree token by token stands in the output. Forced answers, the reading that grids take, stand beside them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections import defaultdict
from typing import Any

import numpy as np
import torch
import transformers

import ropewalk as rw
from ropewalk.metrics.metric import Material, OfPrompt
from ropewalk.metrics.tasks import METRIC, Tasks
from ropewalk.models import LoadedModel
from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, Answers, Failure, fast, score_shared, split
from ropewalk.scoring.budget import batch_tokens
from ropewalk.scoring.decoding import PromptRow, generate_shared
from ropewalk.scoring.generate import generate

METHODS = ["none", "linear:4", "ntk_aware:2", "ntk_aware:4", "yarn:2", "yarn:4", "ntk_by_parts:4"]


def material(loaded: LoadedModel) -> Material:
    tokenizer = loaded.tokenizer
    bos = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    return Material(
        encode=lambda text: tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"],
        encode_whole=lambda text: tokenizer(text, verbose=False)["input_ids"],
        chat=None,
        bos_id=tokenizer.bos_token_id if bos else None,
        prose=[],
        seed=0,
    )


def scheme(loaded: LoadedModel, method: str, length: int) -> Scheme:
    name, _, factor = method.partition(":")
    return Scheme(rotation=rw.rotation(loaded.geometry, name, length, **({"factor": float(factor)} if factor else {})))


def timed(work: Any) -> tuple[Any, float]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found, time.perf_counter() - start


def gathered(batches: Any) -> dict[int, Any]:
    return {index: outcome for batch in batches for index, outcome in batch}


def alone(loaded: LoadedModel, row: PromptRow, decode: Any) -> np.ndarray[Any, Any]:
    def finished(new: Any) -> bool:
        return any(stop in decode(new) for stop in row.stop)

    return generate(loaded.model, row.ids, row.scheme.rotation, row.new_tokens, finished)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Rows of a grid, forced and to be gone on with, with the method, length and facts of each."""

    forced: list[AnswerRow]
    rows: list[PromptRow]
    facts: list[tuple[str, int, Any]]


def grid(loaded: LoadedModel, methods: list[str], lengths: list[int], options: Tasks) -> Grid:
    made = Grid(forced=[], rows=[], facts=[])
    for length in lengths:
        prompts = METRIC.prompts(options, material(loaded), length)
        for method in methods:
            each = scheme(loaded, method, length)
            for first, second in zip(prompts[: options.count], prompts[options.count :], strict=True):
                ask, say = first.request, second.request
                made.forced.append(AnswerRow(ids=ask.ids, scheme=each, answer_tokens=ask.answer_tokens))
                made.rows.append(PromptRow(ids=say.ids, scheme=each, new_tokens=say.new_tokens, stop=say.stop))
                made.facts.append((method, length, first.facts))
    return made


def compared(loaded: LoadedModel, made: Grid, longest: int, share: float) -> tuple[dict[str, Any], Any, Any]:
    """Seconds and tokens of both sides, and the answers; `share` of the loop is run and scaled up."""
    decode = lambda new: loaded.tokenizer.decode(new, skip_special_tokens=True)  # noqa: E731
    fed = {"forced": 0, "prefill": 0, "decode": 0}
    parts, budget, rows = split(loaded.model), batch_tokens(loaded.model, longest), made.rows
    with fast(loaded.model, parts, compiled=False) as quick:

        def body(reading: str) -> Any:
            def counted(ids: Any, *more: Any) -> Any:
                fed["decode" if reading == "prefill" and ids.shape[1] == 1 else reading] += ids.numel()
                return quick.body(ids, *more)

            return counted

        asked, said = (dataclasses.replace(quick, body=body(reading)) for reading in ("forced", "prefill"))
        few = rows[:2]
        gathered(generate_shared(loaded.model, quick, few, budget, decode))  # warm
        answers, forced_s = timed(lambda: gathered(score_shared(loaded.model, asked, made.forced, budget)))
        print(f"{len(rows)} rows; forced in {forced_s:.1f} s", flush=True)
        shared, shared_s = timed(lambda: gathered(generate_shared(loaded.model, said, rows, budget, decode)))
    print(f"generated in {shared_s:.1f} s", flush=True)
    step = max(1, round(1 / share)) if share else len(rows) + 1
    sample = list(range(0, len(rows), step)) if share else []
    loop, loop_s = timed(lambda: {i: alone(loaded, rows[i], decode) for i in sample})
    agree = sum(not isinstance(shared[i], Failure) and shared[i].tolist() == loop[i].tolist() for i in sample)
    loop_s *= len(rows) / max(1, len(sample))
    found = {
        "rows": len(rows),
        "failures": sum(isinstance(each, Failure) for each in (*answers.values(), *shared.values())),
        "tokens_of_prompts": sum(len(row.ids) for row in rows),
        "tokens_fed": fed,
        "forced_s": round(forced_s, 1),
        "shared_s": round(shared_s, 1),
        "loop_rows": len(sample),
        "loop_s": round(loop_s, 1),
        "times_faster": round(loop_s / shared_s, 1),
        "rows_that_agree": f"{agree} of {len(sample)}",
    }
    return found, answers, shared


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="strand")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--loop", type=float, default=1.0, help="share of the prompts that the loop is timed on")
    args = parser.parse_args()
    loaded = rw.load(args.model, dtype=args.dtype)
    chosen = {"tasks": args.tasks} if args.tasks else {}
    options = Tasks(samples=args.samples, generate="all", template="none", **chosen)
    made = grid(loaded, args.methods, args.lengths, options)
    found, answers, shared = compared(loaded, made, max(args.lengths), args.loop)

    table: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for i, (method, length, known) in enumerate(made.facts):
        if isinstance(answers[i], Answers):
            table[method, length]["answer_nll"].append(float(answers[i].nll.mean()))
        if not isinstance(shared[i], Failure):
            text = loaded.tokenizer.decode(shared[i].tolist(), skip_special_tokens=True)
            unit = OfPrompt(unit="", facts=known, answer=None, predicted=[], nll=None, text=text)
            score = METRIC.sample(METRIC.columns[1], options, (), unit)
            table[method, length]["generated"].append(score.numerator)
            table[method, length][known["task"]].append(score.numerator)
    for (method, length), each in table.items():
        print(f"{method} @ {length}", {k: round(float(np.mean(v)), 3) for k, v in each.items()})
    about = {
        "benchmark": "tasks",
        "model": args.model,
        "device": loaded.provenance.device,
        "dtype": loaded.provenance.dtype,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print(json.dumps(about | found))


if __name__ == "__main__":
    main()
