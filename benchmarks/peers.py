"""The same tokens under the same rotations, scored by ropewalk and by its peers, in one run on one machine.

    python benchmarks/peers.py                        # SmolLM2-135M, two documents, none and yarn factor 2, 3, 4
    python benchmarks/peers.py --model strand --tiny  # seconds, to see that it runs

- ropewalk: `rw.sweep` on the loaded model, perplexity alone. Its seconds hold all that a user waits for: planning,
  tokenising whole documents, the canary at both ends, storing every token's loss, intervals.
- transformers: one pass per rotation and document with `labels=`, under `rw.patched`, on ids that are ready.
- lm-eval: `loglikelihood_rolling`, one document a call, under `rw.patched`. It takes text and puts a prefix token
  first; here that is the document's own first token, and the text is that of the others, refused if it does not give
  the same ids. So it scores the same tokens after the same tokens. As it comes it rounds log-probabilities and their
  sum to the model's dtype; the second line has `softmax_dtype="float32"`.
- llama.cpp through llama-cpp-python: from the GGUF file (of smollm2, or `--model FILE.gguf`), on the CPU only, with the
  flags of `ropewalk export` and all logits kept. It multiplies Q4_1 weights by activations of 8 bits and keeps keys
  and values in float16; the others multiply the same weights unpacked, which bfloat16 rounds by up to 0.4 %. Its
  difference is that of arithmetic, not of the rotation.

Peers start with their model in memory, and one untimed pass goes before everything. They feed one document at a time;
ropewalk chooses its batches. Differences are of a rotation's mean NLL (nats/token), the largest over the rotations.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from cpu import processor

import ropewalk as rw
from ropewalk.corpus import Tokens, load_documents, require_length, tokenize_all
from ropewalk.experiment.plan import TRUNCATE
from ropewalk.export import ENGINES, request
from ropewalk.export.checkpoint import checkpoint_of
from ropewalk.export.run_llamacpp import keywords
from ropewalk.models import LoadedModel, builtin

Measured = tuple[float, list[float]]
"""Seconds, and the mean NLL of each rotation."""


def ropewalk(loaded: LoadedModel, documents: int, length: int, factors: Sequence[int]) -> Measured:
    methods = {"yarn": {"factor": list(factors)}} if factors else ["none"]
    chosen = {"corpus": "builtin", "count": documents}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = rw.sweep(loaded, methods=methods, lengths=[length], documents=chosen, out=Path(folder) / "run")
        seconds = time.perf_counter() - start
        samples = run.samples()
    kept = samples[(samples.metric == "perplexity") & (samples.label != TRUNCATE)]
    sums = kept.groupby("label")[["numerator", "denominator"]].sum()
    return seconds, (sums.numerator / sums.denominator)[["none", *(f"yarn factor={f}" for f in factors)]].tolist()


def patched(loaded: LoadedModel, rotations: Sequence[Any], documents: int, nll: Callable[[int], float]) -> Measured:
    """`nll` of every document under every rotation."""
    start, found = time.perf_counter(), []
    for rotation in rotations:
        with rw.patched(loaded.model, rotation):
            found.append(float(np.mean([nll(index) for index in range(documents)])))
    return time.perf_counter() - start, found


@torch.inference_mode()
def stock(loaded: LoadedModel, rows: Sequence[Tokens], length: int, rotations: Sequence[Any]) -> Measured:
    inputs = [torch.from_numpy(row.ids[None, :length].astype("int64")).to(loaded.model.device) for row in rows]

    def nll(index: int) -> float:
        return loaded.model(inputs[index], labels=inputs[index], use_cache=False).loss.item()

    return patched(loaded, rotations, len(rows), nll)


def lm_eval(loaded: LoadedModel, rows: Sequence[Tokens], length: int, rotations: Sequence[Any], **own: Any) -> Measured:
    instance = importlib.import_module("lm_eval.api.instance").Instance
    model = importlib.import_module("lm_eval.models.huggingface").HFLM(
        pretrained=loaded.model, tokenizer=loaded.tokenizer, max_length=length, add_bos_token=False, **own
    )
    texts = [row.document.text[row.ends[0] : row.ends[length - 1]] for row in rows]
    for row, text in zip(rows, texts, strict=True):
        if model.tok_encode(text) != row.ids[1:length].tolist():
            raise SystemExit(f"{row.document.id}: cut at {length} tokens it gives other tokens; take another --length")

    def nll(index: int) -> float:
        model.custom_prefix_token_id = int(rows[index].ids[0])
        asked = instance(request_type="loglikelihood_rolling", doc={}, arguments=(texts[index],), idx=0)
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            return -model.loglikelihood_rolling([asked], disable_tqdm=True)[0] / (length - 1)

    return patched(loaded, rotations, len(rows), nll)


def llama_cpp(loaded: LoadedModel, file: Path, rows: Sequence[Tokens], length: int, factors: Sequence[int]) -> Measured:
    library, threads, seconds, found = importlib.import_module("llama_cpp"), torch.get_num_threads(), 0.0, []
    checkpoint = checkpoint_of(loaded.model.config, name=file.name)
    for method, params in [("none", {}), *(("yarn", {"factor": factor}) for factor in factors)]:
        flags = ENGINES["llama.cpp"](request(loaded.geometry, method, params, length, checkpoint)).command
        use = {"n_threads": threads, "n_threads_batch": threads, "n_gpu_layers": 0, **keywords(flags)}
        model = library.Llama(str(file), n_ctx=length, logits_all=True, verbose=False, **use)
        start, means = time.perf_counter(), []
        for row in rows:
            model.reset()
            model.eval(row.ids[:length].tolist())
            logits, targets = torch.from_numpy(model.scores[: length - 1]), torch.from_numpy(row.ids[1:length])
            means.append(torch.nn.functional.cross_entropy(logits, targets.long()).item())
        seconds += time.perf_counter() - start
        found.append(float(np.mean(means)))
        model.close()
    return seconds, found


def ways(loaded: LoadedModel, rows: Any, args: Any) -> dict[str, tuple[str, Callable[[], Measured]]]:
    """By name: the package on which it depends, and how to measure it."""
    factors, length = range(2, args.rotations + 1), args.length
    rotations = [rw.rotation(loaded.geometry, "none", length)]
    rotations += [rw.rotation(loaded.geometry, "yarn", length, factor=factor) for factor in factors]
    found = {
        "ropewalk": ("ropewalk", lambda: ropewalk(loaded, len(rows), length, factors)),
        "transformers": ("transformers", lambda: stock(loaded, rows, length, rotations)),
        "lm-eval": ("lm_eval", lambda: lm_eval(loaded, rows, length, rotations)),
        "lm-eval float32": ("lm_eval", lambda: lm_eval(loaded, rows, length, rotations, softmax_dtype="float32")),
    }
    if args.model != "smollm2" and not args.model.endswith(".gguf"):
        return found
    file = builtin._smollm2_gguf() if args.model == "smollm2" else Path(args.model)
    return found | {"llama.cpp (CPU)": ("llama_cpp_python", lambda: llama_cpp(loaded, file, rows, length, factors))}


def line(package: str, measure: Callable[[], Measured], tokens: int, ours: list[float] | None) -> dict[str, Any]:
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return {"version": "not installed"}
    seconds, nll = measure()
    return {
        "version": version,
        "s": round(seconds, 2),
        "tokens_per_s": round(tokens / seconds),
        "mean_nll": round(float(np.mean(nll)), 5),
        "largest_difference": max(abs(one - other) for one, other in zip(nll, ours or nll, strict=True)),
        "nll": nll,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--documents", type=int, default=2)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--rotations", type=int, default=4, help="none, then yarn factor 2, 3, ...")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device")
    parser.add_argument("--tiny", action="store_true", help="256 tokens")
    args = parser.parse_args()
    args.length = 256 if args.tiny else args.length
    loaded = rw.load(args.model, dtype=args.dtype, device=args.device)
    rows = tokenize_all(loaded.tokenizer, load_documents({"corpus": "builtin", "count": args.documents}))
    for row in rows:
        require_length(row, args.length)
    stock(loaded, rows[:1], args.length, [rw.rotation(loaded.geometry, "none", args.length)])
    tokens, lines = len(rows) * (args.length - 1) * args.rotations, {}
    print(f"{'':16} {'version':14} {'seconds':>8} {'tokens/s':>9} {'mean NLL':>9}  largest difference from ropewalk")
    for name, (package, measure) in ways(loaded, rows, args).items():
        lines[name] = each = line(package, measure, tokens, lines["ropewalk"]["nll"] if lines else None)
        shown = f"{each['s']:8} {each['tokens_per_s']:9} {each['mean_nll']:9.5f}  " if "s" in each else ""
        print(
            f"{name:16} {each['version']:14} {shown}{each['largest_difference']:.1e}"
            if shown
            else f"{name:16} not installed"
        )
    result = {
        "benchmark": "peers-tiny" if args.tiny else "peers",
        "device": loaded.provenance.device,
        "cpu": processor(),
        "threads": torch.get_num_threads(),
        "dtype": loaded.provenance.dtype,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "model": args.model,
        "documents": len(rows),
        "length": args.length,
        "rotations": args.rotations,
        "scored_tokens": tokens,
        "ways": lines,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
