"""Ways to tune where few steps fit: rates, how often a probe is seen, how long texts are, beside the recipe of `tune`.

    python benchmarks/tune_ways.py OUT --length 65536 --texts OUT/long --rates 4 --every 2 --retrieval 0.6
    python benchmarks/tune_ways.py OUT --model strand --length 2048 --start llama3:8 --steps 16 --rates 3 --trials 10

Each way is one seed in a directory of its own, from one named method (`--start METHOD:FACTOR`), and judged beside it,
the unscaled model and `truncate`; OUT/tune.md is printed last. `--rates` multiplies those of 80 steps, whatever the
number of steps. `--text mixed` takes text and prompts of N, N/2, N/4, ... tokens down to twice the window, evenly;
`--text long` takes longer text more often, prompts of all lengths, and moves the rotation by those of N tokens alone.
`--text pieces` feeds the first window and a window's worth of pieces of the rest, at the places where they stand, and
of a probe its ends, its needle and pieces; `--whole K` feeds all of it in every K-th step. (After PoSE,
arXiv:2309.10400, which moves the tokens of one window apart.)
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ropewalk.experiment import schema
from ropewalk.tuning import descent, draws, loss, named, parameters
from ropewalk.tuning.asked import Request
from ropewalk.tuning.forward import mean_nll
from ropewalk.tuning.run import tune

WINDOW = {"smollm2": 8192, "strand": 256}
PIECES, EDGE = 2, 48
"""Pieces of a text, and tokens around what a probe needs."""
MANY = 10**9
"""Steps at which rates are the plain ones."""


def lengths(longest: int, window: int) -> list[int]:
    return [longest] + (lengths(longest // 2, window) if longest >= 4 * window else [])


def pieces(model: Any, tuned: Any, drawn: Any, window: int, none: Any, weights: Any, step: int) -> Any:
    """The loss of a step from parts of its text and of its probe, and its gradient, into the parameters."""
    rng, device, size = np.random.default_rng([step, 99]), model.parts.head.weight.device, window // PIECES
    gaps = np.sort(rng.integers(0, len(drawn.text) - window - PIECES * size, PIECES))
    starts = window + gaps + size * np.arange(PIECES)
    kept = np.concatenate([np.arange(window), *(np.arange(start, start + size) for start in starts)])
    seeing = np.arange(size // 4, size)  # what has some of its piece before it
    read = np.concatenate([window + size * i + seeing for i in range(PIECES)])
    text, places, rows = (torch.from_numpy(each.astype(np.int64)).to(device) for each in (drawn.text, kept, read))
    unscaled = model.unscaled_nll(text[:window], none)
    with model.under(tuned):
        hidden = model.parts.body(text[places][None], places[None])[0]
        inside = mean_nll(model.parts.head, hidden[: window - 1], text[1:window])
        beyond = mean_nll(model.parts.head, hidden[rows], text[places[rows] + 1])
        (beyond + weights.short * torch.relu(inside - unscaled)).backward()
    answer = 0.0
    if drawn.prompt is not None and weights.retrieval > 0:
        ids, count = drawn.prompt.ids, drawn.prompt.answer_tokens
        text, places = (
            torch.from_numpy(each.astype(np.int64)).to(device) for each in (ids, around(ids, count, window, rng))
        )
        with model.under(tuned):
            hidden = model.parts.body(text[places][None], places[None])[0]
            loss_of_answer = mean_nll(model.parts.head, hidden[-count - 1 : -1], text[-count:])
            (weights.retrieval * loss_of_answer).backward()
        answer = float(loss_of_answer.detach())
    return loss.Loss(beyond=float(beyond.detach()), excess=float(inside.detach()) - unscaled, answer=answer)


def around(ids: Any, count: int, window: int, rng: Any) -> Any:
    """Places of a probe's tokens that are fed: both ends, where its answer stands, and pieces up to two windows."""
    kept, answer = np.zeros(len(ids), dtype=bool), ids[-count:]
    if len(ids) <= 2 * window:
        return np.arange(len(ids))
    found = [i for i in range(len(ids) - 2 * count) if np.array_equal(ids[i : i + count], answer)]
    kept[:EDGE] = kept[-2 * EDGE - count :] = True
    for place in found:
        kept[max(0, place - EDGE) : place + EDGE] = True
    while kept.sum() < 2 * window:
        start = int(rng.integers(len(ids)))
        kept[start : start + EDGE] = True
    return np.flatnonzero(kept)


def change(given: argparse.Namespace, window: int) -> None:
    """The recipe of `tune`, changed in place."""
    whole, rates, descend, steps = draws.draw, parameters.rates, loss.descend, list[int]()
    levels = np.array(lengths(given.length, window))
    weights = np.ones(len(levels)) if given.text == "mixed" else levels.astype(float)

    def draw(material: Any, seed: int, step: int) -> Any:
        steps.append(step)
        drawn = whole(material, seed, step)
        if given.text in ("mixed", "long"):
            chosen = np.random.default_rng([seed, step, 77]).choice(levels, p=weights / weights.sum())
            shorter = whole(dataclasses.replace(material, length=int(chosen)), seed, step)
            drawn = shorter if given.text == "mixed" else dataclasses.replace(shorter, prompt=drawn.prompt)
        return drawn if step % given.every == 0 else dataclasses.replace(drawn, prompt=None)

    def descended(model: Any, tuned: Any, drawn: Any, *rest: Any) -> Any:
        if given.text == "pieces" and (given.whole is None or steps[-1] % given.whole):
            return pieces(model, tuned, drawn, *rest, step=steps[-1])
        found = descend(model, tuned, drawn, *rest)
        if given.text == "long" and len(drawn.text) < given.length:
            tuned.ln_lambda.grad = tuned.ln_attention_factor.grad = None
        return found

    descent.draw, descent.descend = draw, descended
    descent.rates = lambda what, steps: {name: given.rates * rate for name, rate in rates(what, MANY).items()}
    method, factor = given.start.split(":")
    named.usual = lambda geometry, length: {method: [{"factor": float(factor)}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", choices=WINDOW, default="smollm2")
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--start", default="longrope:12")
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--steps", type=int, help="in place of 120 s; needed where texts are not full")
    parser.add_argument("--rates", type=float, default=1.0)
    parser.add_argument("--every", type=int, default=1, help="a probe in every so many steps")
    parser.add_argument("--retrieval", type=float, default=0.3)
    parser.add_argument("--text", choices=["full", "mixed", "long", "pieces"], default="full")
    parser.add_argument("--whole", type=int, help="of pieces: all is fed in every so many steps")
    parser.add_argument("--short", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.text != "full" and given.steps is None:
        parser.error("--steps: is missing; steps of different lengths cannot be foretold by three of them")
    window = WINDOW[given.model]
    change(given, window)
    method, factor = given.start.split(":")
    raw = {
        "model": given.model,
        "lengths": sorted({max(128, window // 4), window, 2 * window, given.length}),
        "documents": {"files": str(given.texts / "*.txt")} if given.texts else {"corpus": "builtin"},
        "methods": {method: {"factor": float(factor)}},
        "metrics": {"perplexity": {}, "passkey": {"trials": given.trials}},
        "tune": {"probes": 2},
    }
    request = Request(
        length=given.length,
        steps=given.steps,
        seed=given.seed,
        weights=loss.Weights(retrieval=given.retrieval, short=given.short),
    )
    found = tune(schema.parse(raw, "ways"), request, given.out)
    print((found.directory / "tune.md").read_text())


if __name__ == "__main__":
    main()
