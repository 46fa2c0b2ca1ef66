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

ENGINE_TOLERANCE = 5e-3
"""Allowed relative difference of the mean NLL of another engine, which rounds its activations and its cache."""

FOLDED_TOLERANCE = 1e-3
"""Allowed relative difference of the mean NLL where gains were rounded into weights."""

ENGINE_RMS = 0.2
"""Allowed root mean square of an engine's differences, nats/token. Two bfloat16 runs of one model are 0.03 apart, 8-bit
activations round about three times as much; lost keys were seen to cost 0.2 to 2, which a mean need not show."""


def allowed_rms(dtype: str, tokens: int) -> float:
    """Allowed root mean square of the differences of two transformers runs, one of them in `dtype`, nats/token.

    u is the relative error of one rounding, half of eps. A logit of the size 10 that went through 10 roundings, which
    add up as the root of their number, is off by 10 u sqrt(10), so 32 u. And the angle t f of the last of T tokens is
    a float32 product with a float32 frequency, off by T 2^-24 each: T 2^-23 radians, at about 2 nats per radian. For
    strand at 1024 tokens that is 0.125 in bfloat16, where 0.031 was seen, and 2.5e-4 in float32, where 4.5e-6 was; a
    factor of llama3 that is 1 % off is 9e-3 away. The root mean square does not shrink with the number of tokens, and
    unlike the mean it does not cancel.
    """
    return 16 * torch.finfo(getattr(torch, dtype)).eps + tokens * 2.0**-22


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observed:
    """What an engine made of the reference's token ids.

    Attributes:
        name: with its version.
        nll: `[T - 1]`, nats; NaN where the engine gives no number for a token.
        relative: the tolerance is relative.
        folded: dtype of weights that gains were rounded into; "" where none were.
    """

    name: str
    nll: NDArray[np.floating]
    relative: bool = True
    folded: str = ""

    @property
    def tolerance(self) -> float | None:
        """Allowed relative difference of the mean NLL; None where that of the tokens says more."""
        return ENGINE_TOLERANCE if self.relative else FOLDED_TOLERANCE if self.folded else None

    def most(self, reference: Reference) -> float:
        """Allowed root mean square of the tokens' differences, nats."""
        if self.relative:
            return ENGINE_RMS
        return max(allowed_rms(each, len(reference.ids)) for each in (reference.dtype, self.folded) if each)


def compared(asked: Request, reference: Reference, engine: Observed) -> str:
    """One sentence with both means at every length, and the root mean square of all tokens' differences.

    Raises:
        ExportError: the means or the tokens differ by more than the tolerance.
    """
    pairs = [(length, *_means(engine, reference.nll[: length - 1])) for length in reference.lengths]
    numbers = ", ".join(f"{there:.6f} of {here:.6f} at {length}" for length, there, here in pairs)
    rms = _rms(engine, reference.nll)
    most, tolerance = engine.most(reference), engine.tolerance
    difference = max(abs(there - here) / here for _, there, here in pairs)
    off = f"difference at most {difference:.3%} (allowed {tolerance:.1%}), " if tolerance else ""
    said = (
        f"{engine.name}: mean NLL in nats/token, exported of measured ({reference.origin}), on the first tokens of "
        f"{reference.document}: {numbers}; {off}{rms:.2g} per token (root mean square; allowed {most:.2g})"
        f"{_apart(asked, reference, engine, most)}"
    )
    if not (rms <= most and (tolerance is None or difference <= tolerance)):
        raise ExportError(
            f"{asked.method}: the engine does not run what was measured: {said}; look at its rope settings, then at "
            "quantised weights or cache, which show here too."
        )
    return f"{said}."


def _rms(engine: Observed, nll: NDArray[np.floating]) -> float:
    """Root mean square of the differences from nll `[T]`, nats/token, over the tokens that the engine has."""
    apart = engine.nll[: len(nll)].astype(np.float64) - nll.astype(np.float64)
    return float(np.sqrt(np.nanmean(apart**2)))


def _means(engine: Observed, nll: NDArray[np.floating]) -> tuple[float, float]:
    """Means of the engine and of nll `[T]`, both over the first tokens that the engine has numbers for."""
    there, here = engine.nll[: len(nll)].astype(np.float64), nll.astype(np.float64)
    known = ~np.isnan(there)
    return float(there[known].mean()), float(here[known].mean())


def _apart(asked: Request, reference: Reference, engine: Observed, most: float) -> str:
    """What the shipped rotation would give, and whether the check could have noticed it."""
    if reference.shipped is None or asked.method == "none":
        return ""
    shipped = _means(engine, reference.shipped)[1]
    apart = float(np.sqrt(np.mean((reference.shipped.astype(np.float64) - reference.nll) ** 2)))
    said = f"; the shipped rotation would give {shipped:.6f}, {apart:.2g} per token away"
    return said if apart > most else f"{said}, too close to be told apart: check at a greater --length"


@torch.inference_mode()
def run_transformers(directory: Path, reference: Reference, *, folded: str = "") -> Observed:
    """The directory as stock transformers runs it, unpatched, in float32 whatever the reference was measured in."""
    model = load(ModelSpec(id=str(directory)), dtype="float32").model
    parts = split(model)
    ids_T = torch.from_numpy(reference.ids.astype(np.int64)).to(parts.head.weight.device)
    nll = parts.head.nll(parts.body(ids_T[None])[0, :-1], ids_T[1:])
    return Observed(
        name=f"transformers {transformers.__version__}", nll=nll.float().cpu().numpy(), relative=False, folded=folded
    )
