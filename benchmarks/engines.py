"""Exported configurations in real engines, token by token against the patched model: docs/results/engines.md.

    python benchmarks/engines.py PYTHON vllm|mlx [MODEL ...]

PYTHON is that of an environment with vLLM's CPU build or with mlx-lm (`make engines` makes both). Every model, random
but for strand, under every method that goes out to the engine, in one process of it a model.
Prints a table of Markdown.

    python benchmarks/engines.py roundings [MODEL ...]

How far a token moves when each frequency moves by one unit in the last place of float32: no engine can be held to less.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

sys.path += [str(Path(__file__).parents[1] / "tests" / part) for part in ("", "models", "export")]

import tiny_models
from kept import keep, kept
from live_servers import QUIET

from ropewalk.errors import RopewalkError
from ropewalk.export import ENGINES
from ropewalk.export.checkpoint import describe
from ropewalk.export.reference import losses
from ropewalk.export.request import Request, request
from ropewalk.models import LoadedModel, ModelSpec, load
from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme

MODELS = ("strand", "llama", "qwen2", "qwen3", "phi3", "mistral", "gemma3", "gpt_neox")
WIDE: dict[str, Any] = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 64}
"""Heads that vLLM's CPU attention takes."""

METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    "linear": {"factor": 4},
    "ntk_aware": {"factor": 4},
    "dynamic_ntk": {"factor": 4},
    "yarn": {"factor": 4},
    "yarn, A and truncate": {"factor": 4, "attention_factor": 1.3, "truncate": False},
    "llama3": {"factor": 4},
    "longrope": {"factor": 4},
    "mrrope": {"factor": 4},
    "abf": {"rope_theta": 1e6},
}
LENGTH = 512

VLLM = """
import json, sys
from vllm import LLM, SamplingParams, __version__
from vllm.inputs import TokensPrompt
cases = json.load(open(sys.argv[1]))
found = {"version": __version__}
for name, case in cases.items():
    try:
        llm = LLM(model=case["model"], dtype="float32", enforce_eager=True, max_model_len=case["length"] + 1,
                  skip_tokenizer_init=True, hf_overrides=case["overrides"], seed=0)
        sampling = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)
        out = llm.generate([TokensPrompt(prompt_token_ids=case["ids"])], sampling)[0].prompt_logprobs
        found[name] = [-entry[token].logprob for token, entry in zip(case["ids"][1:], out[1:])]
        del llm
    except Exception as wrong:
        found[name] = " ".join(str(wrong).split())[-200:]
json.dump(found, open(sys.argv[2], "w"))
"""

MLX = """
import json, sys
from pathlib import Path
import mlx.core as mx
import numpy as np
from mlx_lm._version import __version__
from mlx_lm.utils import load_model
cases = json.load(open(sys.argv[1]))
found = {"version": __version__}
for name, case in cases.items():
    try:
        model = load_model(Path(case["model"]), model_config=case["overrides"])[0]
        model.set_dtype(mx.float32)
        logits = np.array(model(mx.array([case["ids"]]))[0].astype(mx.float32)).astype(np.float64)[:-1]
        top = logits.max(-1)
        rows = np.log(np.exp(logits - top[:, None]).sum(-1)) + top
        found[name] = (rows - logits[np.arange(len(rows)), case["ids"][1:]]).tolist()
    except Exception as wrong:
        found[name] = " ".join(f"{type(wrong).__name__} {wrong}".split())[-200:]
json.dump(found, open(sys.argv[2], "w"))
"""
SCRIPTS = {"vllm": VLLM, "mlx": MLX}


def main() -> None:
    """What is asked for."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if sys.argv[1] == "roundings":
        roundings(*sys.argv[2:])
    else:
        table()


def table() -> None:
    """A row per method, a column per model; models that are done are kept in build/."""
    python, target, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3:] or MODELS
    done = kept(f"engines-{target}")
    for name in (name for name in names if name not in done):
        with tempfile.TemporaryDirectory() as scratch:
            done[name] = one(python, target, name, Path(scratch))
        keep(f"engines-{target}", done)
        print(name, done[name], file=sys.stderr, flush=True)
    versions = sorted({done[name]["version"] for name in names})
    print(f"{target} {', '.join(versions)}, float32, largest difference of a token in nats\n")
    print("| method | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for method in METHODS:
        print(f"| {method} | " + " | ".join(done[name][method] for name in names) + " |")


def roundings(*names: str) -> None:
    """The largest difference of a token with every frequency one float32 lower, higher, and either by chance."""
    print("| model | method | lower | higher | either |\n|---|---|---|---|---|")
    for name in names or MODELS:
        with tempfile.TemporaryDirectory() as scratch:
            spec = ModelSpec(id="strand" if name == "strand" else str(saved(name, Path(scratch) / "model")))
            found, loaded = describe(spec), load(spec, dtype="float32")
            ids = _ids(loaded)
            for method in ("none", "yarn"):
                asked = request(found.geometry, method, METHODS[method], LENGTH, found.checkpoint)
                exact, *moved = losses(loaded.model, ids, (Scheme(rotation=asked.rotation), *_moved(asked.rotation)))
                said = " | ".join(f"{np.abs(each - exact).max():.1g}" for each in moved)
                print(f"| {name} | {method} | {said} |", flush=True)


def _moved(rotation: Rotation) -> list[Scheme]:
    own = rotation.inv_freq.astype(np.float32)
    lower, higher = (np.nextafter(own, np.float32(end)) for end in (0, np.inf))
    either = np.where(np.random.default_rng(1).random(own.size) < 0.5, lower, higher)
    return [
        Scheme(rotation=Rotation(inv_freq=each.astype(np.float64), attention_factor=rotation.attention_factor))
        for each in (lower, higher, either)
    ]


def _ids(loaded: LoadedModel) -> Any:
    vocabulary = loaded.model.get_input_embeddings().weight.shape[0]
    return np.random.default_rng(0).integers(3, vocabulary, LENGTH).astype(np.int32)


def one(python: Path, target: str, name: str, scratch: Path) -> dict[str, str]:
    """A model's column, and the engine's version."""
    spec = ModelSpec(id="strand" if name == "strand" else str(saved(name, scratch / "model")))
    found, loaded = describe(spec), load(spec, dtype="float32")
    ids = _ids(loaded)
    cases, schemes, cells = {}, {}, dict[str, str]()
    for method, params in METHODS.items():
        try:
            asked = request(found.geometry, method.split(",")[0], params, LENGTH, found.checkpoint)
            overrides = _overrides(target, asked)
        except RopewalkError as wrong:
            cells[method] = f"refused: {str(wrong)[:60]}"
            continue
        cases[method] = {"model": found.source.location, "ids": ids.tolist(), "length": LENGTH, "overrides": overrides}
        schemes[method] = Scheme(rotation=asked.rotation)
    got = engine(python, SCRIPTS[target], cases, scratch)
    ours = losses(loaded.model, ids, tuple(schemes.values()))
    for method, local in zip(schemes, ours, strict=True):
        there = got[method]
        cells[method] = there if isinstance(there, str) else f"{np.abs(np.array(there) - local).max():.1g}"
    return {"version": str(got["version"])} | cells


def _overrides(target: str, asked: Request) -> dict[str, Any]:
    """What is exported; for vLLM with room for the token that it generates, and for `none` beyond what ships."""
    config = dict(ENGINES[target].configure(asked).config)
    if target == "vllm" and (asked.method == "none" or "max_position_embeddings" in config):
        config["max_position_embeddings"] = max(config.get("max_position_embeddings", 0), LENGTH + 1)
    if target == "mlx" and asked.checkpoint.model_type == "gemma3_text":
        config["sliding_window_pattern"] = 2  # of the two layers of the random model
    return config


def saved(name: str, directory: Path) -> Path:
    """A random checkpoint with heads as wide as engines want them."""
    wide = {key: value for key, value in WIDE.items() if key != "head_dim" or name not in ("gpt_neox",)}
    if name == "gpt_neox":
        wide["intermediate_size"] = 4 * WIDE["hidden_size"]  # which mlx-lm takes for granted
    model = tiny_models._class_of(name)(tiny_models.config_of(name, **wide)).eval()
    model.save_pretrained(directory)
    tiny_models.tokenizer().save_pretrained(directory)
    return directory


def engine(python: Path, script: str, cases: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """What vLLM gives in a process of its own."""
    (scratch / "engine.py").write_text(script, encoding="utf-8")
    (scratch / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    environment = {key: value for key, value in {**os.environ, **QUIET}.items() if key != "PYTHONPATH"}
    command = [str(python), str(scratch / "engine.py"), str(scratch / "cases.json"), str(scratch / "out.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if not (scratch / "out.json").exists():
        raise SystemExit(done.stderr[-3000:])
    return json.loads((scratch / "out.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
