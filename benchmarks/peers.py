"""The same tokens under the same rotations, scored by ropewalk and by its peers, in one run on one machine.

    python benchmarks/peers.py                        # SmolLM2-135M, two documents, none and yarn factor 2, 3, 4
    python benchmarks/peers.py --model strand --tiny  # seconds, to see that it runs

- ropewalk: `rw.sweep`, perplexity alone. Its seconds hold all that a user waits for once the model is loaded: planning,
  tokenising whole documents, the canary at both ends, storing every token's loss, intervals. It chooses its batches.
- transformers: one pass per rotation and document with `labels=`, under `rw.patched`, on ids that are ready.
- lm-eval: `loglikelihood_rolling`, one document a call, under `rw.patched`. It takes text and puts a prefix token
  first; here that is the document's own first token, and the text is that of the others, refused if it does not give
  the same ids. So it scores the same tokens after the same tokens. As it comes it rounds log-probabilities and their
  sum to the model's dtype; the second line has `softmax_dtype="float32"`.
- llama.cpp through llama-cpp-python, on the CPU only: the GGUF file (of smollm2, or `--model FILE.gguf`) with the
  flags of `ropewalk export`, all logits kept. It multiplies Q4_1 weights by activations of 8 bits and keeps keys and
  values in float16; the others multiply the same weights unpacked, which bfloat16 rounds by up to 0.4 %.

Peers start with their model in memory, and one untimed pass goes before everything. Differences are of a rotation's
mean NLL (nats/token), the largest over the rotations.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from cpu import processor

import ropewalk as rw
from ropewalk.corpus import Tokens, load_documents, require_length, tokenize_all
from ropewalk.export import ENGINES, request
from ropewalk.export.checkpoint import checkpoint_of
from ropewalk.export.run_llamacpp import keywords
from ropewalk.models import LoadedModel, builtin

Rows, Factors = Sequence[Tokens], Sequence[int]
Measured = tuple[float, list[float]]
"""Seconds, and the mean NLL under each rotation."""


def ropewalk(loaded: LoadedModel, rows: Rows, length: int, factors: Factors) -> Measured:
    methods = {"yarn": {"factor": list(factors)}} if factors else ["none"]
    chosen = {"corpus": "builtin", "count": len(rows)}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = rw.sweep(loaded, methods=methods, lengths=[length], documents=chosen, out=Path(folder) / "run")
        seconds = time.perf_counter() - start
        samples = run.samples()
    sums = samples[samples.metric == "perplexity"].groupby("label")[["numerator", "denominator"]].sum()
    return seconds, (sums.numerator / sums.denominator)[["none", *(f"yarn factor={f}" for f in factors)]].tolist()


def patched(loaded: LoadedModel, length: int, factors: Factors, nll: Callable[[], list[float]]) -> Measured:
    """`nll`, of every document, under every rotation."""
    rotations = [rw.rotation(loaded.geometry, "none", length)]
    rotations += [rw.rotation(loaded.geometry, "yarn", length, factor=factor) for factor in factors]
    start, found = time.perf_counter(), []
    for rotation in rotations:
        with rw.patched(loaded.model, rotation):
            found.append(float(np.mean(nll())))
    return time.perf_counter() - start, found


@torch.inference_mode()
def stock(loaded: LoadedModel, rows: Rows, length: int, factors: Factors) -> Measured:
    model = loaded.model
    inputs = [torch.tensor(row.ids[None, :length].astype("int64"), device=model.device) for row in rows]
    return patched(loaded, length, factors, lambda: [model(ids, labels=ids).loss.item() for ids in inputs])


def lm_eval(loaded: LoadedModel, rows: Rows, length: int, factors: Factors, **own: Any) -> Measured:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    name, own = "loglikelihood_rolling", own | {"max_length": length, "add_bos_token": False}
    model = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, **own)
    texts = [row.document.text[row.ends[0] : row.ends[length - 1]] for row in rows]
    for row, text in zip(rows, texts, strict=True):
        if model.tok_encode(text) != row.ids[1:length].tolist():
            raise SystemExit(f"{row.document.id}: cut at {length} tokens it gives other tokens; take another --length.")

    def nll(row: Tokens, text: str) -> float:
        model.custom_prefix_token_id = int(row.ids[0])
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            (found,) = model.loglikelihood_rolling([Instance(request_type=name, doc={}, arguments=(text,), idx=0)])
        return -found / (length - 1)

    return patched(loaded, length, factors, lambda: list(map(nll, rows, texts)))


def llama_cpp(loaded: LoadedModel, rows: Rows, length: int, factors: Factors, file: Path) -> Measured:
    from llama_cpp import Llama

    threads = torch.get_num_threads()
    fixed = {"n_ctx": length, "n_threads": threads, "n_threads_batch": threads, "n_gpu_layers": 0, "logits_all": True}
    checkpoint, seconds, found = checkpoint_of(loaded.model.config, name=file.name), 0.0, []
    for method, params in [("none", {}), *(("yarn", {"factor": factor}) for factor in factors)]:
        flags = ENGINES["llama.cpp"].configure(request(loaded.geometry, method, params, length, checkpoint)).command
        model = Llama(str(file), verbose=False, **fixed, **keywords(flags))
        start, means = time.perf_counter(), []
        for row in rows:
            model.reset()
            model.eval(row.ids[:length].tolist())
            logits, targets = torch.from_numpy(model.scores), torch.tensor(row.ids[1:length].astype("int64"))
            means.append(torch.nn.functional.cross_entropy(logits[: length - 1], targets).item())
        seconds += time.perf_counter() - start
        found.append(float(np.mean(means)))
        model.close()
    return seconds, found


WAYS: dict[str, tuple[str, Callable[..., Measured]]] = {
    "ropewalk": ("ropewalk", ropewalk),
    "transformers": ("transformers", stock),
    "lm-eval": ("lm_eval", lm_eval),
    "lm-eval float32": ("lm_eval", partial(lm_eval, softmax_dtype="float32")),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in {"model": "smollm2", "dtype": "auto", "documents": 2, "length": 2048, "rotations": 4}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--tiny", action="store_true", help="256 tokens")
    args = parser.parse_args()
    args.length = length = 256 if args.tiny else args.length
    loaded, factors = rw.load(args.model, dtype=args.dtype), range(2, args.rotations + 1)
    rows = tokenize_all(loaded.tokenizer, load_documents({"corpus": "builtin", "count": args.documents}))
    for row in rows:
        require_length(row, length)
    ways, tokens, found = dict(WAYS), len(rows) * (length - 1) * args.rotations, {}
    if args.model == "smollm2" or args.model.endswith(".gguf"):
        file = builtin._smollm2_gguf() if args.model == "smollm2" else Path(args.model)
        ways["llama.cpp (CPU)"] = "llama_cpp", partial(llama_cpp, file=file)
    stock(loaded, rows[:1], length, ())
    print(f"{'':16} version   seconds  tokens/s  mean NLL  largest difference from ropewalk")
    for name, (package, measure) in ways.items():
        try:
            each = found[name] = {"version": import_module(package).__version__}
        except ImportError:
            found[name] = {"version": "not installed"}
            print(f"{name:16} not installed")
            continue
        seconds, nll = measure(loaded, rows, length, factors)
        mean, ours = float(np.mean(nll)), found["ropewalk"].get("nll", nll)
        each |= {"s": round(seconds, 2), "tokens_per_s": round(tokens / seconds), "mean_nll": mean, "nll": nll}
        each["largest_difference"] = worst = max(abs(a - b) for a, b in zip(nll, ours, strict=True))
        numbers = f"{seconds:8.2f} {tokens / seconds:9.0f} {mean:9.5f}  {worst:.1e}"
        print(f"{name:16} {each['version']:8} {numbers}", flush=True)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    place = {"device": loaded.provenance.device, "cpu": processor(), "threads": torch.get_num_threads()}
    asked = {"benchmark": "peers", **vars(args), "dtype": loaded.provenance.dtype, "scored_tokens": tokens}
    print(json.dumps({**asked, **place, **versions, "ways": found}))


if __name__ == "__main__":
    main()
