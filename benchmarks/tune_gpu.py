"""What tuning brings and costs on one GPU: `python benchmarks/tune_gpu.py WORK --results DIR --only PART[,PART]`.

Parts: a length (32768, 16384, 65536), `--repeats` seeds of it from `--seed`; `ablations`, or one of them
(`ablation-rotation`); `costs`. Each part ends with its judgement. WORK holds what is resumed and what parts share
(named methods are measured and judged once). DIR gets NAME.json, NAME.md and NAME.safetensors of each part, flat.
`--named longrope:12` measures this one of the named methods alone, where an earlier run has told which of them is best.
`--model strand`: a part's name stands for as many of its windows. `--texts FOLDER` reads its .txt files in place of the
built-in documents, of which six hold 65536 tokens (tools/long_texts.py). `--tiny`: a rehearsal on strand.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from ropewalk.execution.executor import Fleet
from ropewalk.experiment import schema
from ropewalk.methods.none import shipped
from ropewalk.models.geometry import geometry_of
from ropewalk.models.size import size_of
from ropewalk.scoring import split
from ropewalk.scoring.memory import weight_bytes
from ropewalk.tuning import draws, loss, memory, named, order, parameters
from ropewalk.tuning.asked import PIECES_FROM, Request
from ropewalk.tuning.forward import opened
from ropewalk.tuning.pairs import turning
from ropewalk.tuning.run import tune

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is made

ABLATIONS: dict[str, dict[str, Any]] = {
    "rotation-alone": {"what": "rotation"},
    "rotation": {"what": "rotation"},
    "head": {"what": "rotation+head"},
    "layer-and-pair": {"what": "rotation+pair"},
    "no-passkey": {"what": "rotation+head+pair", "weights": loss.Weights(retrieval=0.0)},
    "no-short": {"what": "rotation+head+pair", "weights": loss.Weights(short=0.0)},
}
STILL = {"rotation-alone": "ln_attention_factor"}
"""What an ablation leaves where it begins."""
RATES = parameters.RATES
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


NAMED = "TUNE_GPU_NAMED"


def narrow() -> None:
    """Measure one named method alone; workers import this file, and do as their driver."""
    if NAMED in os.environ:
        method, factor = os.environ[NAMED].split(":")
        named.usual = lambda geometry, length: {method: [{"factor": float(factor)}]}


narrow()


def experiment(model: str, lengths: list[int], trials: int, documents: dict[str, Any]) -> Any:
    raw = {
        "model": model,
        "lengths": lengths,
        "documents": documents,
        "methods": {"yarn": {"factor": "auto"}},
        "metrics": {"perplexity": {}, "passkey": {"trials": trials}},
        "tune": {"probes": 2},
    }
    return schema.parse(raw, "benchmark")


def told(what: str, done: int, total: int) -> None:
    if done % max(1, total // 10) == 0 or done == total:
        print(f"  {time.monotonic() - BEGUN:4.0f} s  {what}{f': {done} of {total}' if total else ''}", flush=True)


BEGUN = time.monotonic()


def tuned(work: Path, results: Path, name: str, group: str, asked: Any, request: Request, workers: int) -> None:
    """Tune and judge, print and keep the result; others of the group measured the same named methods."""
    out = work / group / name
    if not out.is_dir():
        _share(out, request)
    if not (out / "tune.json").is_file():
        tune(asked, request, out, progress=told, fleet=Fleet(workers=workers))
    results.mkdir(parents=True, exist_ok=True)
    for kept, end in (("tune.json", "json"), ("tune.md", "md"), ("winner.safetensors", "safetensors")):
        shutil.copyfile(out / kept, results / f"{name}.{end}")
    print(f"\n## {name}\n\n{(out / 'tune.md').read_text()}", flush=True)


def _share(out: Path, request: Request) -> None:
    """What a finished neighbour measured of the named methods; each is found again by its fingerprint."""
    for other in sorted(path.parent for path in out.parent.glob("*/tune.json")):
        shutil.copytree(other / "judged", out / "judged")
        shutil.copyfile(other / "named.json", out / "named.json")
        known = json.loads((other / "identity.json").read_text())
        weights = request.weights or loss.Weights()
        known["tune"] = asdict(request) | {"what": request.what or known["tune"]["what"], "weights": asdict(weights)}
        known["goal"]["retrieval"] = weights.retrieval
        recipe = known["recipe"]
        recipe["rates"] = parameters.rates(known["tune"]["what"], parameters.ENOUGH, pieces=recipe["pieces"])
        (out / "identity.json").write_text(json.dumps(known))
        return


def costs(tiny: bool) -> Iterator[dict[str, Any]]:
    """Seconds of a step and peak memory, on random weights."""
    lengths, window = ((512, 1024), 128) if tiny else ((32768, 131072), WINDOW)
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
            _cost(tunable, geometry, turns, 2 * window, window)  # prepares kernels
            for length in lengths:
                for pieces in (False, True) if length > PIECES_FROM * window else (False,):
                    own = _cost(tunable, geometry, turns, length, window, pieces=pieces)
                    found = {"shape": name, "length": length} | own
                    print(f"  {time.monotonic() - BEGUN:4.0f} s  {found}", flush=True)
                    yield found
        del model, parts, tunable
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _cost(tunable: Any, geometry: Any, turns: Any, length: int, window: int, *, pieces: bool = False) -> dict[str, Any]:
    """Of one step with a passkey of the full length, which is the longest that there is; or of one of pieces, whose
    passkey is fed as much of."""
    device, none = tunable.parts.head.weight.device, shipped(geometry, length)
    begins = parameters.start(geometry, none, parameters.shape_of("rotation+head+pair", turns), device)
    text = (torch.arange(length) * 7919 % VOCABULARY).int().numpy()
    material = draws.Material(
        documents=[text],
        bos_id=None,
        encode=None,
        wording=None,
        banned=frozenset(),
        window=window,
        length=length,
        pieces=pieces,
    )
    probe = draws.Prompt(ids=text[: 2 * window if pieces else length], answer_tokens=5, needle=slice(0, 0))
    drawn = draws.Draw(text=draws.draw(material, 0, 1).text, prompt=probe)
    size, cuda = size_of(tunable.model, torch.bfloat16, device.type), device.type == "cuda"
    found = {"estimated_bytes": weight_bytes(size) + memory.step_bytes(size, length), "pieces": pieces}
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    begun = time.monotonic()
    try:
        with order.repeatable():
            loss.descend(tunable, begins, drawn, window, none, loss.Weights())  # ends with numbers, so it waits
    except torch.OutOfMemoryError as error:
        return found | {"seconds": None, "peak_bytes": None, "reason": str(error).split(". ")[0]}
    seconds = time.monotonic() - begun
    return found | {"seconds": seconds, "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--only", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--budget", type=float, default=120.0)
    parser.add_argument("--steps", type=int, help="of a descent, in place of a budget")
    parser.add_argument("--model", default="smollm2", help="of a window of 8192 tokens; or strand, of 256")
    parser.add_argument("--count", type=int, help="of the built-in documents")
    parser.add_argument("--workers", type=int, default=1, help="GPUs that share the seeds of a length")
    parser.add_argument("--named")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    os.environ |= {NAMED: given.named} if given.named else {}
    narrow()
    only, tiny = given.only.split(","), given.tiny
    model = "strand" if tiny else given.model
    window = 256 if model == "strand" else WINDOW
    documents: dict[str, Any] = {"files": str(given.texts / "*.txt")} if given.texts else {"corpus": "builtin"}
    many, trials = (4, 2) if tiny else (given.count, given.trials)
    documents |= {"count": many} if many else {}
    budget = {"steps": 1 if tiny else given.steps} if tiny or given.steps else {"budget_s": given.budget}
    wanted = {str(factor * WINDOW): factor for factor in (4, 2, 8)}
    for part in only:
        if part in wanted:
            length = wanted[part] * window
            asked = experiment(model, _judged(window, length), trials, documents)
            name = f"tune-{part}-seed-{given.seed}"
            request = Request(length=length, seed=given.seed, repeats=given.repeats, **budget)
            tuned(given.work, given.results, name, part, asked, request, given.workers)
    for name, changed in ABLATIONS.items():
        if {"ablations", f"ablation-{name}"} & set(only):
            asked = experiment(model, _judged(window, 4 * window), trials, documents)
            request = Request(length=4 * window, seed=given.seed, **budget, **changed)
            parameters.RATES = RATES | ({STILL[name]: 0.0} if name in STILL else {})
            tuned(given.work, given.results, f"ablation-{name}", str(4 * WINDOW), asked, request, 1)
    if "costs" in only:
        given.results.mkdir(parents=True, exist_ok=True)
        found = list(costs(tiny))
        (given.results / "costs.json").write_text(json.dumps(found, indent=1) + "\n")
        print("\n| shape | length | fed | s a step | peak GB | estimated GB |\n| --- | --- | --- | --- | --- | --- |")
        for each in found:
            seconds = each.get("reason") or f"{each['seconds']:.2f}"
            peak = "-" if each["peak_bytes"] is None else f"{each['peak_bytes'] / 1e9:.1f}"
            estimated = f"{each['estimated_bytes'] / 1e9:.1f}"
            fed = "pieces" if each["pieces"] else "all"
            print(f"| {each['shape']} | {each['length']} | {fed} | {seconds} | {peak} | {estimated} |")


def _judged(window: int, length: int) -> list[int]:
    return sorted({max(128, window // 4), window, 2 * window, length})


if __name__ == "__main__":
    main()
