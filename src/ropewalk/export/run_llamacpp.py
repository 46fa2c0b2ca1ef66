"""llama.cpp in this process, through llama-cpp-python (extra `llamacpp`)."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from ropewalk.errors import ExportError
from ropewalk.export.check import Observed

LOGITS_BYTES = 2**30
"""Room for the logits of all positions, which llama-cpp-python keeps; longer texts are cut."""

FROM_FILE: dict[str, Any] = {"yarn_attn_factor": -1.0, "yarn_beta_fast": -1.0, "yarn_beta_slow": -1.0}
"""llama-cpp-python's own defaults would replace a file's metadata; llama-server's are these."""

NUMBERS = {
    "--rope-freq-base": "rope_freq_base",
    "--yarn-orig-ctx": "yarn_orig_ctx",
    "--yarn-beta-fast": "yarn_beta_fast",
    "--yarn-beta-slow": "yarn_beta_slow",
}
OVERRIDES = {"int": int, "float": float}


def limit(vocabulary: int) -> int:
    """How many tokens fit into LOGITS_BYTES."""
    return max(2, LOGITS_BYTES // (4 * max(1, vocabulary)))


def run(library: Any, file: Path, command: Sequence[str], ids: NDArray[np.int32]) -> Observed:
    """Run a file with the flags of an exported command on token ids `[T]`.

    Raises:
        ExportError: llama-cpp-python cannot load the file.
    """
    try:
        model = library.Llama(
            str(file), n_ctx=len(ids), n_batch=min(512, len(ids)), logits_all=True, verbose=False, **keywords(command)
        )
    except (ValueError, RuntimeError) as wrong:
        raise ExportError(
            f"{file}: llama-cpp-python cannot load it ({wrong}); is its architecture known there?"
        ) from wrong
    try:
        model.eval(ids.tolist())
        nll = token_nll(model.scores[: len(ids) - 1], ids[1:])
    finally:
        model.close()
    return Observed(name=f"llama.cpp through llama-cpp-python {library.__version__}", nll=nll)


def keywords(command: Sequence[str]) -> dict[str, Any]:
    """The flags of `llama-server` as llama-cpp-python takes them."""
    found: dict[str, Any] = dict(FROM_FILE)
    overrides: dict[str, int | float] = {}
    for name, value in itertools.pairwise(command):
        if name in NUMBERS:
            found[NUMBERS[name]] = int(value) if name == "--yarn-orig-ctx" else float(value)
        elif name == "--rope-scale":
            found["rope_freq_scale"] = 1.0 / float(value)
        elif name == "--rope-scaling":
            found["rope_scaling_type"] = {"none": 0, "linear": 1, "yarn": 2}[value]
        elif name == "--override-kv":
            key, _, typed = value.partition("=")
            kind, _, number = typed.partition(":")
            overrides[key] = OVERRIDES[kind](number)
    return found | ({"kv_overrides": overrides} if overrides else {})


def token_nll(logits_TV: NDArray[np.float32], targets_T: NDArray[np.int32]) -> NDArray[np.float64]:
    """Nats, float64 `[T]`, in pieces so that a second copy of the logits is never held."""
    parts = []
    for start in range(0, len(targets_T), 256):
        logits = logits_TV[start : start + 256].astype(np.float64)
        picked = np.take_along_axis(logits, targets_T[start : start + 256, None].astype(np.int64), axis=1)[:, 0]
        parts.append(logsumexp(logits, axis=1) - picked)
    return np.concatenate(parts)


def library() -> Any:
    """llama-cpp-python. Raises ExportError where it is not installed."""
    try:
        return importlib.import_module("llama_cpp")
    except (ImportError, OSError, RuntimeError) as wrong:
        raise ExportError(
            f"--check for llama.cpp needs llama-cpp-python ({wrong}); run `pip install 'ropewalk[llamacpp]'`, which "
            "compiles it for some minutes, or check your own server with --endpoint URL."
        ) from wrong
