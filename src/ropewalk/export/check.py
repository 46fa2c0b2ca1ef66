"""The proof: the exported form on the engine itself, against the losses of the measured rotation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from ropewalk.errors import ExportError
from ropewalk.export.reference import Reference
from ropewalk.export.request import Request
from ropewalk.models import ModelSpec, load
from ropewalk.scoring import split

TRANSFORMERS_TOLERANCE = 1e-3
"""Allowed difference of the mean NLL, nats/token: the same weights in the same dtype, other kernels."""

ENGINE_TOLERANCE = 5e-3
"""Allowed relative difference of the mean NLL of another engine, which rounds its activations and its cache."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Engine:
    """What an engine made of the reference's token ids.

    Attributes:
        name: with its version.
        nll: `[T - 1]`, nats; NaN where the engine gives no number for a token.
        relative: the tolerance is relative.
    """

    name: str
    nll: NDArray[np.floating]
    relative: bool = True


def compared(asked: Request, reference: Reference, engine: Engine) -> str:
    """One sentence with both means at every length.

    Raises:
        ExportError: they differ by more than the tolerance.
    """
    pairs = [(length, *_means(engine, reference.nll[: length - 1])) for length in reference.lengths]
    worst = max(pairs, key=lambda pair: abs(pair[1] - pair[2]) / (pair[2] if engine.relative else 1.0))
    difference = abs(worst[1] - worst[2]) / (worst[2] if engine.relative else 1.0)
    allowed = ENGINE_TOLERANCE if engine.relative else TRANSFORMERS_TOLERANCE
    numbers = ", ".join(f"{there:.6f} of {here:.6f} at {length}" for length, there, here in pairs)
    off, most = (f"{difference:.3%}", f"{allowed:.1%}") if engine.relative else (f"{difference:.2g}", f"{allowed:.0e}")
    apart = _apart(asked, reference, engine, allowed if engine.relative else allowed / worst[2])
    said = (
        f"{engine.name}: mean NLL in nats/token, exported of measured ({reference.origin}), on the first tokens of "
        f"{reference.document}: {numbers}; difference at most {off} (allowed {most}){apart}"
    )
    if not difference <= allowed:
        raise ExportError(
            f"{asked.method}: the engine does not run what was measured: {said}; look at its rope settings, then at "
            "quantised weights or cache, which show here too."
        )
    return f"{said}."


def _means(engine: Engine, nll: NDArray[np.floating]) -> tuple[float, float]:
    """Of the engine and of `nll`, both over the first tokens that the engine has numbers for."""
    there, here = engine.nll[: len(nll)].astype(np.float64), nll.astype(np.float64)
    known = ~np.isnan(there)
    return float(there[known].mean()), float(here[known].mean())


def _apart(asked: Request, reference: Reference, engine: Engine, allowed: float) -> str:
    """What the shipped rotation would give, and whether the check could have noticed it; `allowed` is relative."""
    if reference.shipped is None or asked.method == "none":
        return ""
    here, shipped = (_means(engine, each)[1] for each in (reference.nll, reference.shipped))
    said = f"; the shipped rotation would give {shipped:.6f}"
    if abs(shipped / here - 1) > allowed:
        return said
    return f"{said}, too close to be told apart: check at a greater --length"


@torch.inference_mode()
def run_transformers(directory: Path, reference: Reference) -> Engine:
    """The directory as stock transformers runs it, unpatched, in the dtype of the reference."""
    model = load(ModelSpec(id=str(directory)), dtype=reference.dtype).model
    parts = split(model)
    ids_T = torch.from_numpy(reference.ids.astype(np.int64)).to(parts.head.weight.device)
    nll = parts.head.nll(parts.body(ids_T[None])[0, :-1], ids_T[1:])
    return Engine(name=f"transformers {transformers.__version__}", nll=nll.float().cpu().numpy(), relative=False)
