"""What tuning brings and costs on one GPU: `python benchmarks/tune_gpu.py OUT [--model smollm2] [--tiny]`.

Writes OUT/tune-LENGTH/ (three seeds), OUT/ablation-NAME/ and OUT/costs.json, and prints them as Markdown. A part that
is done is not done again. `--tiny` is a rehearsal on strand that takes a minute on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from ropewalk.experiment import schema
from ropewalk.methods.none import shipped
from ropewalk.models.geometry import geometry_of
from ropewalk.scoring import split
from ropewalk.tuning import draws, loss, parameters
from ropewalk.tuning.asked import Request
from ropewalk.tuning.forward import opened
from ropewalk.tuning.lines import lines
from ropewalk.tuning.pairs import turning
from ropewalk.tuning.run import tune

ABLATIONS: dict[str, dict[str, Any]] = {
    "rotation": {"what": "rotation"},
    "head": {"what": "rotation+head"},
    "layer-and-pair": {"what": "rotation+pair"},
    "head-and-pair": {"what": "rotation+head+pair"},
    "no-passkey": {"what": "rotation+head+pair", "weights": loss.Weights(retrieval=0.0)},
    "no-short": {"what": "rotation+head+pair", "weights": loss.Weights(short=0.0)},
}
SHAPES = {
    "1B": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "8B": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": False,
    },
}
"""Of Llama 3.2 1B and Llama 3.1 8B."""
VOCABULARY, THETA, WINDOW = 128_256, 500_000.0, 8192


def experiment(model: str, lengths: list[int], trials: int, documents: int, haystack: str = "filler") -> Any:
    raw = {
        "model": model,
        "lengths": lengths,
        "documents": {"corpus": "builtin"} | ({"count": documents} if documents else {}),
        "methods": {"yarn": {"factor": "auto"}},
        "metrics": {"perplexity": {}, "passkey": {"trials": trials, "haystack": haystack}},
        "search": {"probes": 2},
    }
    return schema.parse(raw, "benchmark")


def told(what: str, done: int, total: int) -> None:
    if total and done % max(1, total // 10) == 0:
        print(f"  {what}: {done} of {total}", flush=True)


def tuned(out: Path, asked: Any, request: Request) -> dict[str, Any]:
    """The result of a tuning, made or read."""
    done = out / "tune.json"
    if not done.is_file():
        begun = time.monotonic()
        tune(asked, request, out, progress=told)
        print(f"  {time.monotonic() - begun:.0f} s in all", flush=True)
    return json.loads(done.read_text())


def costs(tiny: bool) -> Iterator[dict[str, Any]]:
    """Seconds of a step and peak memory, on random weights."""
    lengths, window = ((512,), 128) if tiny else ((32768, 131072), WINDOW)
    for name, shape in SHAPES.items():
        config = transformers.LlamaConfig(
            **(shape | ({"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2} if tiny else {})),
            vocab_size=VOCABULARY,
            max_position_embeddings=window,
            rope_parameters={"rope_type": "default", "rope_theta": THETA},
            dtype="bfloat16",
        )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with device:
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.eval().requires_grad_(False)
        parts, turns = split(model), turning(model)
        geometry = geometry_of(config)
        with opened(model, parts, turns) as tunable:
            for length in lengths:
                yield {"shape": name, "length": length} | _cost(tunable, geometry, turns, length, window)
        del model, parts, tunable
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _cost(tunable: Any, geometry: Any, turns: Any, length: int, window: int) -> dict[str, Any]:
    """Of one step with a passkey of the full length, which is the longest that there is."""
    device, none = tunable.parts.head.weight.device, shipped(geometry, length)
    begins = parameters.start(geometry, none, parameters.shape_of("rotation+head+pair", turns), device)
    text = (torch.arange(length) * 7919 % VOCABULARY).int().numpy()
    drawn = draws.Draw(text=text, prompt=draws.Prompt(ids=text, answer_tokens=5))
    times = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        begun = time.monotonic()
        loss.descend(tunable, begins, drawn, window, none, loss.Weights())  # ends with numbers, so it waits
        times.append(time.monotonic() - begun)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    return {"seconds": min(times[1:]), "first": times[0], "peak_bytes": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--budget", type=float, default=120.0)
    parser.add_argument("--only", default="32768,16384,65536,essay,ablations,costs")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    only, tiny = given.only.split(","), given.tiny
    given.out.mkdir(parents=True, exist_ok=True)
    model, window = ("strand", 256) if tiny else (given.model, WINDOW)
    many, trials, repeats = (4, 2, 1) if tiny else (0, 50, 3)

    def request(length: int, **more: Any) -> Request:
        budget = {"steps": 1} if tiny else {"budget_s": given.budget}
        return Request(length=length, **({"repeats": repeats} | budget | more))

    for factor in (4, 2, 8):
        if str(factor * WINDOW) not in only:
            continue
        length = factor * window
        judged = sorted({max(128, window // 4), window, 2 * window, length})
        print(f"\n## {length} tokens, passkeys in filler\n", flush=True)
        found = tuned(given.out / f"tune-{length}", experiment(model, judged, trials, many), request(length))
        print("\n".join(lines(found)), flush=True)
        if "essay" not in only:
            continue
        print(f"\n## {length} tokens, passkeys in documents, the same steps of one seed\n", flush=True)
        asked, won = experiment(model, judged, trials, many, "essay"), found["winner"]
        again = Request(length=length, steps=won["steps"], seed=int(won["label"].rsplit(" ", 1)[1]))
        print("\n".join(lines(tuned(given.out / f"essay-{length}", asked, again))), flush=True)
    if "ablations" in only:
        for name, changed in ABLATIONS.items():
            print(f"\n## only {name}\n", flush=True)
            length = 4 * window
            asked = experiment(model, [window, length, 2 * length], trials, many)
            found = tuned(given.out / f"ablation-{name}", asked, request(length, repeats=1, **changed))
            print("\n".join(lines(found)), flush=True)
    if "costs" in only:
        found = list(costs(tiny))
        (given.out / "costs.json").write_text(json.dumps(found, indent=1) + "\n")
        print("\n| shape | length | s a step | peak GB |\n| --- | --- | --- | --- |")
        for each in found:
            peak = "-" if each["peak_bytes"] is None else f"{each['peak_bytes'] / 1e9:.1f}"
            print(f"| {each['shape']} | {each['length']} | {each['seconds']:.2f} | {peak} |")


if __name__ == "__main__":
    main()
