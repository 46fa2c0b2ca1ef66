"""LongPPL of ten configurations against the `longppl` package on the same documents: how much faster, and how equal.

    python benchmarks/longppl_peer.py --model MODEL [--length 16384] [--documents 8] [--sample 1]
    python benchmarks/longppl_peer.py --model 1b      # random weights in Llama 3.2 1B's shape: every token is key
    python benchmarks/longppl_peer.py --tiny          # strand (or a tiny 1b), seconds on a CPU

The model is its own evaluator. The package finds key tokens anew for every configuration unless it is handed a file
of them, as a careful user would do; both ways are reported. Its loop over configurations is timed on `--sample` of them
and scaled, as every configuration costs it the same.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from grid import in_memory
from longppl.longppl import compute_longppl

import ropewalk as rw
from ropewalk.corpus import load_documents, tokenize

FACTORS = [1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7]


def package(loaded: Any, texts: list[str], rotations: list[Any], setting: dict[str, Any], folder: Path) -> Any:
    """Seconds to find key tokens, seconds per configuration, and per configuration (loss sum, key tokens) pairs."""
    found, spent = [], []
    paths = [folder / f"{index}.txt" for index in range(len(texts))]
    names = {"tokenizer": loaded.tokenizer, "evaluator_tokenizer": loaded.tokenizer}
    start = time.perf_counter()
    for text, path in zip(texts, paths, strict=True):
        compute_longppl(text, loaded.model, loaded.model, save_path=str(path), **names, **setting)
    keys_s = time.perf_counter() - start
    for rotation in rotations:
        start = time.perf_counter()
        with rw.patched(loaded.model, rotation):
            results = [
                compute_longppl(text, loaded.model, None, save_path=str(path), **names, **setting)
                for text, path in zip(texts, paths, strict=True)
            ]
        spent.append(time.perf_counter() - start)
        found.append([(r["n_key_token"], float(np.log(r["longppl"]))) for r in results if r["longppl"] is not None])
    return keys_s, spent, found


def pooled(parts: list[tuple[int, float]]) -> float:
    """LongPPL over documents weighted by key tokens."""
    return float(np.exp(sum(n * nll for n, nll in parts) / sum(n for n, _ in parts)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--length", type=int, default=16384)
    parser.add_argument("--documents", type=int, default=8)
    parser.add_argument("--sample", type=int, default=1)
    parser.add_argument("--alpha", type=float, default=2.0)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    shape, beta = args.model == "1b", -5.0
    if args.tiny:
        args.model, args.length, args.documents, args.sample, args.alpha = "strand", 256, 2, 1, 0.25
    if shape:
        args.model, args.alpha, beta = "random Llama-3.2-1B shape", -10.0, -100.0
    trunc_len, stride = (args.length // 4, args.length // 16)
    loaded = in_memory(tiny=args.tiny) if shape else rw.load(args.model, dtype=args.dtype)
    tokens = [tokenize(loaded.tokenizer, d) for d in load_documents({"corpus": "builtin", "count": args.documents})]
    texts = [each.document.text[: int(each.ends[args.length - 1])] for each in tokens]
    rule = {"trunc_len": trunc_len, "stride": stride, "alpha": args.alpha, "beta": beta, "min_key_tokens": 1}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = rw.sweep(
            loaded,
            methods={"yarn": {"factor": FACTORS}},
            lengths=[args.length],
            documents={"corpus": "builtin", "count": args.documents},
            metrics={"longppl": {"evaluator": "self", **rule}},
            out=Path(folder) / "run",
        )
        ours_s = time.perf_counter() - start
        ours = {row["label"]: row["value"] for row in run.labelled_rows()}
        rotations = [rw.rotation(loaded.geometry, "none", args.length)]
        rotations += [rw.rotation(loaded.geometry, "yarn", args.length, factor=factor) for factor in FACTORS]
        setting = {"trunc_len": trunc_len, "sliding_window": stride, "alpha": args.alpha, "beta": beta}
        keys_s, spent, found = package(loaded, texts, rotations[: args.sample], setting, Path(folder))
    labels = ["none", *(f"yarn factor={factor:g}" for factor in FACTORS)]
    differences = [abs(pooled(parts) / ours[label] - 1) for label, parts in zip(labels, found, strict=False)]
    scoring_s = sum(spent) / len(spent) * len(rotations)
    careful_s, plain_s = keys_s + scoring_s, keys_s * len(rotations) + scoring_s
    result = {
        "benchmark": "longppl",
        "device": loaded.provenance.device,
        "dtype": loaded.provenance.dtype,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "model": args.model,
        "length": args.length,
        "documents": args.documents,
        "configurations": len(rotations),
        "ropewalk_s": round(ours_s, 2),
        "package_s": round(plain_s, 2),
        "package_with_saved_keys_s": round(careful_s, 2),
        "package_keys_s": round(keys_s, 2),
        "package_sampled_configurations": len(spent),
        "times_faster": round(plain_s / ours_s, 2),
        "times_faster_than_with_saved_keys": round(careful_s / ours_s, 2),
        "largest_relative_difference": max(differences),
    }
    for key, value in result.items():
        print(f"{key:32} {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
