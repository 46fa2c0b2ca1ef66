"""Perplexity, passkeys and the loss inside the window of every method with branches, beside rotations and truncate.

    python benchmarks/branches_quality.py MODEL OUT          # SmolLM2-135M, window 8192, on a GPU
    python benchmarks/branches_quality.py strand OUT --tiny  # anywhere, to see that it works

OUT/filler and OUT/essay are runs (they resume, `ropewalk results` and `verify` read them); OUT/quality.json holds the
table and every scheme against truncate, longrope, the searched and the tuned scheme, paired over documents or trials
and corrected for the number of schemes; OUT/quality.md is both as tables, printed last. When --budget-s is spent, all
that is known so far is written, and the same command goes on from there.

Documents are built-in ones that the tuned scheme never saw; the searched one saw one of them, and contrasts of texts
against it are given without that one too. First each scheme is held against its dense twin in float32 sums, on random
tokens: its losses must be no farther off than twice what plain attention's are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from branches import off
from branches_contrasts import block_of, contrasts
from branches_contrasts import markdown as as_table

import ropewalk as rw
from ropewalk.corpus.builtin import builtin_documents
from ropewalk.experiment.results import Run
from ropewalk.methods import expand, resolve
from ropewalk.scoring import fast, split

RESULTS = Path(__file__).parent.parent / "docs/results"
SEARCHED = {"strand": RESULTS / "search/strand-winner.json", "smollm2": RESULTS / "search/smollm2-winner.json"}
TUNED = {
    "strand": RESULTS / "tune/strand-winner.safetensors",
    "smollm2": RESULTS / "tune/smollm2-32768-seed-0.safetensors",
}
UNSEEN = (
    "pride-and-prejudice",
    "jargon-lexicon-k-z",
    "truman-1946",
    "coriolanus",
    "persuasion",
    "roosevelt-1906-1907",
    "troilus-and-cressida",
    "hamlet",
)
"""Those that the tuned schemes were judged on and never saw (docs/results/tune/smollm2-32768-seed-0.json, split)."""
SEARCH_SAW = ("hamlet",)
"""The one of them that the searched rotation of SmolLM2 was searched on (docs/results/search.md)."""
AGAINST = ("truncate", "longrope", "searched", "tuned")
TWIN_TOKENS = 2048
TWIN_FACTOR = 2.0
"""How much farther from the twin than plain attention is still rounding: parts are rounded before they are merged."""


class Spent(Exception):
    """The time is over; what was measured is kept."""


def methods(window: int, target: int, name: str) -> dict[str, dict[str, Any]]:
    """Of a target four times the window; parameters by the authors' proportions, none tried before."""
    factor = target // window
    return {
        "truncate": {},
        "yarn": {"factor": factor},
        "longrope": {"factor": factor * 1.5},
        "searched": {"file": str(SEARCHED[name])},
        "tuned": {"file": str(TUNED[name])},
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


def documents(out: Path, count: int) -> dict[str, Any]:
    """The first `count` of UNSEEN as files at one place, which is part of what a run is resumed by."""
    texts = {each.id: each.text for each in builtin_documents()}
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{name}.txt" for name in UNSEEN[:count]]
    for path in paths:
        path.write_text(texts[path.stem], encoding="utf-8")
    return {"files": [str(path) for path in paths]}


def blocks(runs: dict[str, Any], lengths: list[int], window: int) -> Iterable[tuple[str, Any, tuple[str, ...]]]:
    """What is compared: its name, its outcomes, and against which methods."""
    asked = [("filler", "perplexity", length, ("none", *AGAINST)) for length in lengths]
    asked += [("filler", "tail", length, AGAINST) for length in lengths if length > window]
    asked += [(kind, "passkey", length, AGAINST) for kind in ("filler", "essay") for length in lengths]
    for kind, metric, length, against in asked:
        try:
            block = block_of(runs[kind].directory, metric, length, [], partial=True)
        except (KeyError, SystemExit):  # its run was not begun, or has nothing there yet
            continue
        name = f"{metric} {length}" if metric != "passkey" else f"{metric} {kind} {length}"
        yield name, block, against
        rest = [unit for unit in block.units if Path(unit).stem not in SEARCH_SAW]
        if metric != "passkey" and 1 < len(rest) < len(block.units):
            fewer = block_of(runs[kind].directory, metric, length, rest, partial=True)
            yield f"{name} without {', '.join(SEARCH_SAW)}", fewer, ("searched",)


def paired(runs: dict[str, Any], lengths: list[int], window: int) -> tuple[dict[str, Any], str]:
    """All contrasts as values and as Markdown; an interval holds for all schemes of one column of one table at once."""
    values, told = {}, []
    for name, block, against in blocks(runs, lengths, window):
        others = [label for label in block.labels if label.split()[0] in against]
        rows = contrasts(block, others)
        values[name] = {"units": list(block.units), "left_out": dict(block.left_out), "rows": rows}
        told += [f"## {name}, {len(block.units)} units", "", as_table(block, rows, others), ""]
    return values, "\n".join(told)


def until(end: float, told: Callable[[str], None]) -> Callable[[str, int, int], None]:
    """A report of progress that ends the work when the time is over."""
    last = -1

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        if total and 10 * done // total > last:
            last = 10 * done // total
            told(f"{what}: {done} of {total} tokens")
        if done and time.monotonic() > end:
            raise Spent

    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--documents", type=int, default=8, choices=range(2, len(UNSEEN) + 1))
    parser.add_argument("--budget-s", type=float, default=520, help="seconds from the start of the command")
    args = parser.parse_args()
    begun = time.monotonic()

    def told(what: str) -> None:
        print(f"  {time.monotonic() - begun:4.0f} s  {what}", flush=True)

    window, lengths = (256, [128, 256, 1024]) if args.tiny else (8192, [2048, 8192, 16384, 32768])
    asked = methods(window, lengths[-1], "strand" if args.tiny else "smollm2")
    found = rw.load(args.model, dtype="bfloat16")
    told(f"loaded, window {found.geometry.window().length}")
    apart = twins(found, asked, 200 if args.tiny else TWIN_TOKENS, lengths[-1])
    for name, nats in apart.items():
        told(f"{name}: {nats}")
    runs: dict[str, Any] = {}
    texts = documents(Path(tempfile.gettempdir()) / "ropewalk-unseen", args.documents)
    complete = True
    for kind in ("filler", "essay"):
        metrics: dict[str, Any] = {"passkey": {"trials": args.trials, "haystack": kind}}
        try:
            runs[kind] = rw.sweep(
                found,
                methods=asked,
                lengths=lengths,
                documents=texts,
                metrics=({"perplexity": {}} if kind == "filler" else {}) | metrics,
                out=args.out / kind,
                progress=until(begun + args.budget_s, told),
            )
        except Spent:
            complete = False
            runs[kind] = Run.read(args.out / kind)
            break
        told(f"{kind} done")
    rows = table(runs, lengths)
    contrasted, tables = paired(runs, lengths, window)
    wrong = farther(apart)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__}
    record = {"gpu": gpu, **versions, "wall_s": time.monotonic() - begun, "nats_from_twin": apart, "farther": wrong}
    record |= {"complete": complete, "documents": list(UNSEEN[: args.documents])}
    shown = markdown(rows, lengths)
    (args.out / "quality.json").write_text(
        json.dumps(record | {"lengths": lengths, "rows": rows, "paired": contrasted}, indent=1) + "\n"
    )
    (args.out / "quality.md").write_text(f"{shown}\n\n{tables}\n")
    print(json.dumps(record))
    print(shown)
    print(tables)
    if not complete:
        told("the time is over; the same command goes on from here")


if __name__ == "__main__":
    main()
