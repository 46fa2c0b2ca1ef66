"""Ways to tune where few steps fit: rates, how often a probe is seen, how long texts are, beside the recipe of `tune`.

    python benchmarks/tune_ways.py OUT --length 65536 --texts OUT/long --rates 4 --every 2 --retrieval 0.6
    python benchmarks/tune_ways.py OUT --model strand --length 2048 --start llama3:8 --steps 16 --rates 3 --trials 10

Each way is one seed in a directory of its own, from one named method (`--start METHOD:FACTOR`), and judged beside it,
the unscaled model and `truncate`; OUT/tune.md is printed last. `--rates` multiplies those of 80 steps, whatever the
number of steps. `--text mixed` takes text and prompts of N, N/2, N/4, ... tokens down to twice the window, evenly;
`--text long` takes longer text more often, prompts of all lengths, and moves the rotation by those of N tokens alone.
`--text pieces` feeds pieces as `tune` does of long texts, all of it in every step that `--whole K` divides.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ropewalk.experiment import schema
from ropewalk.tuning import asked, descent, draws, lines, loss, named, parameters
from ropewalk.tuning.asked import Request
from ropewalk.tuning.run import tune

STRAND, WINDOW = 256, 8192
"""Windows: strand's, and SmolLM2's."""
MANY = 10**9
"""Steps at which rates are the plain ones."""


def lengths(longest: int, window: int) -> list[int]:
    return [longest] + (lengths(longest // 2, window) if longest >= 4 * window else [])


def change(given: argparse.Namespace, window: int) -> None:
    """The recipe of `tune`, changed in place."""
    whole, rates, descend = draws.draw, parameters.rates, loss.descend
    levels = np.array(lengths(given.length, window))
    weights = np.ones(len(levels)) if given.text == "mixed" else levels.astype(float)

    def draw(material: Any, seed: int, step: int, **timing: bool) -> Any:
        drawn = whole(material, seed, step, **timing)
        if given.text in ("mixed", "long"):
            chosen = np.random.default_rng([seed, step, 77]).choice(levels, p=weights / weights.sum())
            shorter = whole(dataclasses.replace(material, length=int(chosen)), seed, step, **timing)
            drawn = shorter if given.text == "mixed" else dataclasses.replace(shorter, prompt=drawn.prompt)
        return drawn if step % given.every == 0 else dataclasses.replace(drawn, prompt=None)

    def descended(model: Any, tuned: Any, drawn: Any, *rest: Any) -> Any:
        found = descend(model, tuned, drawn, *rest)
        if given.text == "long" and len(drawn.text.ids) < given.length:
            tuned.stretch.grad = tuned.ln_attention_factor.grad = None
        return found

    descent.draw, descent.descend = draw, descended
    draws.WHOLE = lines.WHOLE = given.whole
    asked.PIECES_OF = 0 if given.text == "pieces" else MANY
    descent.rates = lambda what, steps, **kind: {name: given.rates * rate for name, rate in rates(what, MANY).items()}
    method, factor = given.start.split(":")
    named.usual = lambda geometry, length: {method: [{"factor": float(factor)}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="smollm2", help="of a window of 8192 tokens; or strand, of 256")
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--start", default="longrope:12")
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--steps", type=int, help="in place of 120 s; needed where texts are not full")
    parser.add_argument("--rates", type=float, default=1.0)
    parser.add_argument("--every", type=int, default=1, help="a probe in every so many steps")
    parser.add_argument("--retrieval", type=float, help="its weight, with --short")
    parser.add_argument("--text", choices=["full", "mixed", "long", "pieces"], default="full")
    parser.add_argument("--whole", type=int, default=draws.WHOLE, help="of pieces: all is fed in every so many steps")
    parser.add_argument("--short", type=float, help="weight of the loss inside, with --retrieval")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if (given.short is None) != (given.retrieval is None):
        parser.error("--short, --retrieval: give both, or none for those of `tune`")
    if given.text in ("mixed", "long") and given.steps is None:
        parser.error("--steps: is missing; steps of different lengths cannot be foretold by three of them")
    window = STRAND if given.model == "strand" else WINDOW
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
        weights=None if given.short is None else loss.Weights(retrieval=given.retrieval, short=given.short),
    )
    found = tune(schema.parse(raw, "ways"), request, given.out)
    print((found.directory / "tune.md").read_text())


if __name__ == "__main__":
    main()
