"""mlx-lm in this process: on Apple silicon, and with `mlx[cpu]` on Linux."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import ExportError
from ropewalk.export.check import Observed
from ropewalk.export.run_llamacpp import token_nll


def run(library: Any, directory: Path, ids: NDArray[np.int32]) -> Observed:
    """Run a model directory on token ids `[T]`, float32.

    Raises:
        ExportError: mlx-lm cannot load it.
    """
    mx = importlib.import_module("mlx.core")
    try:
        model = library.utils.load_model(directory)[0]
        model.set_dtype(mx.float32)
        logits = model(mx.array(ids[None].astype(np.int32)))[0].astype(mx.float32)
    except (KeyError, ValueError, TypeError, RuntimeError) as wrong:
        raise ExportError(f"{directory}: mlx-lm cannot run it ({wrong}); is its model_type known there?") from wrong
    nll = token_nll(np.array(logits)[:-1], ids[1:])
    return Observed(name=f"mlx-lm {importlib.import_module('mlx_lm._version').__version__}", nll=nll)


def library() -> Any:
    """mlx_lm. Raises ExportError where it is not installed."""
    try:
        return importlib.import_module("mlx_lm")
    except (ImportError, OSError) as wrong:
        raise ExportError(
            f"--check for mlx needs mlx-lm ({wrong}); run `pip install mlx-lm`, on Linux `pip install 'mlx[cpu]' "
            "mlx-lm`, or leave --check out."
        ) from wrong
