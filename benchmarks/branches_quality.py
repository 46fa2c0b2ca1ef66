"""Perplexity, passkeys and the loss inside the window of every method with branches, beside rotations and truncate.

    python benchmarks/branches_quality.py MODEL OUT          # SmolLM2-135M, window 8192, on a GPU
    python benchmarks/branches_quality.py strand OUT --tiny  # anywhere, to see that it works

OUT/filler and OUT/essay are runs (they resume, `ropewalk results` and `verify` read them); OUT/quality.json and
OUT/quality.md hold the table, which is printed last. First each scheme is held against its dense twin in float32 sums,
on the first tokens of a document: its losses must be no farther off than twice what plain attention's are.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from branches import off
from branches_contrasts import block_of, contrasts

import ropewalk as rw
from ropewalk.methods import expand, resolve
from ropewalk.scoring import fast, split

SEARCHED = Path(__file__).parent.parent / "docs/results/search"
TWIN_TOKENS = 2048
TWIN_FACTOR = 2.0
"""How much farther from the twin than plain attention is still rounding: parts are rounded before they are merged."""


def methods(window: int, target: int, searched: Path) -> dict[str, dict[str, Any]]:
    """Of a target four times the window; parameters by the authors' proportions, none tried before."""
    factor = target // window
    return {
        "truncate": {},
        "yarn": {"factor": factor},
        "longrope": {"factor": factor * 1.5},
        "searched": {"file": str(searched)},
        "rerope": {"neighbor_window": window // 4},
        "leaky_rerope": {"neighbor_window": window // 4, "k": 2 * factor, "temperature": "logn"},
        "self_extend": {"neighbor_window": [window // 8, window // 2], "group_size": 2 * factor},
        "dca": {"reading": ["paper", "released"]},
        "string": {"neighbor_window": window // 64},
        "jet_long": {"neighbor_window": window // 4},
        "bifocal": {"neighbor_window": window // 4, "far": {"longrope": {"factor": factor * 1.5}}},
        "streaming": {},
    }


def twins(found: Any, asked: dict[str, dict[str, Any]], tokens: int, longest: int) -> dict[str, float | str]:
    """Nats from the dense twin, on random tokens; plain attention first."""
    model = found.model
    with fast(model, split(model), compiled=torch.cuda.is_available()) as parts:
        apart: dict[str, float | str] = {"parts": str(parts.schemes() or "fast branches are proven")}
        for name, raw in {"none": {}, **asked}.items():
            for params in expand(name, rw.methods.inlined(name, raw)):
                scheme = resolve(found.geometry, name, params, longest).scheme.fed
                if name == "none" or scheme.branches:
                    label = f"{name} {json.dumps(rw.methods.asked(params))}"
                    apart[label] = off(model, parts, scheme, tokens)
    return apart


def farther(apart: dict[str, float | str]) -> list[str]:
    """Schemes that are farther from their twin than rounding explains, or were not measured."""
    plain = float(next(nats for name, nats in apart.items() if name.startswith("none")))
    schemes = {name: nats for name, nats in apart.items() if name != "parts"}
    return [name for name, nats in schemes.items() if not (isinstance(nats, float) and nats <= TWIN_FACTOR * plain)]


def label(row: dict[str, Any]) -> str:
    return " ".join([row["method"], *(f"{k}={v}" for k, v in row["params"].items() if k != "file")])


def table(runs: dict[str, Any], lengths: list[int]) -> list[dict[str, Any]]:
    """One row per configuration: values by column and length, as the runs' results give them."""
    rows: dict[str, dict[str, Any]] = {}
    for kind, run in runs.items():
        for row in run.rows():
            key = row["metric"] if row["metric"] != "passkey" else kind
            if key in ("perplexity", "tail", "filler", "essay"):
                mine = rows.setdefault(label(without_window(row)), {})
                mine[f"{key} {row['length']}"] = [row[k] for k in ("value", "ci_low", "ci_high", "n", "status")]
    return [{"scheme": name, **cells} for name, cells in rows.items()]


def without_window(row: dict[str, Any]) -> dict[str, Any]:
    """Without what a parameter became at one length, so that a method's lengths stand in one row."""
    return row | {"params": {k: v for k, v in row["params"].items() if k != "original_max_position_embeddings"}}


def markdown(rows: list[dict[str, Any]], lengths: list[int]) -> str:
    keys = [f"{kind} {length}" for kind in ("perplexity", "tail", "filler", "essay") for length in lengths]
    keys = [key for key in keys if any(key in row for row in rows)]
    lines = ["| scheme | " + " | ".join(keys) + " |", "|---|" + "---:|" * len(keys)]
    for row in rows:
        cells = [row.get(key, [None])[0] for key in keys]
        lines.append(f"| {row['scheme']} | " + " | ".join("-" if c is None else f"{c:.4g}" for c in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--documents", type=int, default=8)
    args = parser.parse_args()
    begun = time.monotonic()

    def told(what: str) -> None:
        print(f"  {time.monotonic() - begun:4.0f} s  {what}", flush=True)

    window, lengths = (256, [128, 256, 1024]) if args.tiny else (8192, [2048, 8192, 16384, 32768])
    asked = methods(window, lengths[-1], SEARCHED / f"{'strand' if args.tiny else 'smollm2'}-winner.json")
    found = rw.load(args.model, dtype="bfloat16")
    told(f"loaded, window {found.geometry.window().length}")
    apart = twins(found, asked, 200 if args.tiny else TWIN_TOKENS, lengths[-1])
    for name, nats in apart.items():
        told(f"{name}: {nats}")
    runs: dict[str, Any] = {}
    documents = {"corpus": "builtin", "count": args.documents}
    for kind in ("filler", "essay"):
        metrics: dict[str, Any] = {"passkey": {"trials": args.trials, "haystack": kind}}
        runs[kind] = rw.sweep(
            found,
            methods=asked,
            lengths=lengths,
            documents=documents,
            metrics=({"perplexity": {}} if kind == "filler" else {}) | metrics,
            out=args.out / kind,
        )
        told(f"{kind} done")
    rows = table(runs, lengths)
    wrong = farther(apart)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__}
    against = ("truncate", "longrope", "searched")
    paired = {
        str(length): contrasts(block, [label for label in block.labels if label.split()[0] in against])
        for length in lengths
        if length > window
        for block in [block_of(runs["filler"].directory, "tail", length, [])]
    }
    record = {"gpu": gpu, **versions, "wall_s": time.monotonic() - begun, "nats_from_twin": apart, "farther": wrong}
    shown = markdown(rows, lengths)
    (args.out / "quality.json").write_text(
        json.dumps(record | {"lengths": lengths, "rows": rows, "paired": paired}, indent=1) + "\n"
    )
    (args.out / "quality.md").write_text(shown + "\n")
    print(json.dumps(record))
    print(shown)


if __name__ == "__main__":
    main()
