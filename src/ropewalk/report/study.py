"""Everything a report is made of, read once; behind this edge nothing touches files or pandas."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ropewalk.errors import ExperimentError, StoreError
from ropewalk.experiment.held import Held, held
from ropewalk.experiment.missing import Missing
from ropewalk.experiment.results import Run
from ropewalk.experiment.run_data import RunData
from ropewalk.methods import find
from ropewalk.metrics import columns
from ropewalk.report.classes import class_of
from ropewalk.report.paces import Batch, batches
from ropewalk.rope import Rotation
from ropewalk.scheme import Branch, Gains
from ropewalk.stats.column import Column
from ropewalk.stats.measured import NONE, Measured, measured

COMPLETE = Missing(cells=0, asked=0, remedy="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial: where what is asked for stood (0 to 1) and whether it was found."""

    label: str
    length: int
    depth: float
    found: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Mean loss of a configuration over scored tokens low..high-1 of a pass of `length` tokens; nll in nats."""

    label: str
    length: int
    low: int
    high: int
    nll: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A run with everything beside its table that a report shows.

    Attributes:
        run: table, raw outcomes and provenance.
        trials: every trial of what is found.
        curve: loss by position.
        rotations: inv_freq (rad/token) and attention_factor by fingerprint, under branches of the most distant tokens.
        branches: near and far attention, by fingerprint, of schemes that have some; each has the scheme's rotation.
        classes: what each configuration changes at its longest length, by label (`classes.class_of`).
        batches: of passes, with their times.
        only_rotate: fingerprints of schemes that ask nothing of attention itself.
        gains: g of the query, float32 `[layers, heads, pairs]`, by fingerprint, of schemes that have some; under
            branches of the most distant tokens.
        token_hashes: document id to a hash of its token ids; two runs with equal hashes scored the same tokens.
        key_hashes: document id to a hash of which tokens are key (LongPPL); empty without.
        held: what dropping the context leaves of prompts.
        missing: cells that were asked for and are not measured yet.
        directory: where the run lies, as the user wrote it.
    """

    run: Measured
    trials: tuple[Trial, ...] = ()
    curve: tuple[Position, ...] = ()
    rotations: Mapping[str, tuple[tuple[float, ...], float]] = field(default_factory=dict)
    gains: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    branches: Mapping[str, tuple[Branch, ...]] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    batches: tuple[Batch, ...] = ()
    only_rotate: frozenset[str] = frozenset()
    token_hashes: Mapping[str, str] = field(default_factory=dict)
    key_hashes: Mapping[str, str] = field(default_factory=dict)
    held: tuple[Held, ...] = ()
    missing: Missing = COMPLETE
    directory: str = "RUN"


def read(directory: Path) -> Study:
    """Read a run directory.

    Raises:
        StoreError: there is no run, nothing was begun, or it is damaged.
    """
    return of(RunData.read(directory))


def of(data: RunData) -> Study:
    """The study of a run that was read.

    Raises:
        StoreError: it is damaged.
    """
    found = Run(data=data)
    samples = found.samples()
    run = measured(found.frame(), samples, data.meta, known())
    return Study(
        run=run,
        trials=trials(samples, run.retrieval),
        curve=positions(found.curve()),
        rotations=_rotations(data),
        gains=_gains(data),
        branches=_branches(data),
        classes=_classes(data),
        batches=() if data.meta.get("reused") else batches(data.meta["passes"], data.meta["answered"]),
        only_rotate=frozenset(name for name, scheme in data.schemes.items() if set(scheme) == {"rotation"}),
        token_hashes=_hashes(data, "ids"),
        key_hashes=_hashes(data, "key"),
        held=tuple(held(data.raw)),
        missing=data.missing,
        directory=str(data.directory),
    )


def read_to_choose(directory: Path, *, partial: bool = False) -> tuple[Measured, Missing]:
    """The part of a run that a choice needs, and what it lacks.

    `partial` chooses from what there is, though cells are missing.

    Raises:
        ExperimentError: cells are missing, and `partial` does not allow that.
        StoreError: there is no run, nothing was begun, or it is damaged.
    """
    found = Run.read(directory)
    if found.missing.cells and not partial:
        raise ExperimentError(f"{directory}: {str(found.missing).rstrip('.')}; --partial chooses from what there is.")
    return measured(found.frame(), found.samples(), found.meta, known()), found.missing


def known() -> Mapping[str, Column]:
    """Every column of every metric, by name."""
    return {name: column for name, (_, column) in columns().items()}


def trials(samples: pd.DataFrame, column: Column | None) -> tuple[Trial, ...]:
    """The trials of a column among `run.samples()`."""
    chosen = samples[samples["metric"] == (column.name if column else "")]
    columns = [chosen[name].tolist() for name in ("label", "length", "depth", "numerator")]
    return tuple(
        Trial(label=str(label), length=int(length), depth=float(depth), found=success > 0)
        for label, length, depth, success in zip(*columns, strict=True)
        if math.isfinite(float(depth))
    )


def positions(curve: pd.DataFrame) -> tuple[Position, ...]:
    """`run.curve()` as values."""
    columns = [curve[name].tolist() for name in ("label", "length", "position_low", "position_high", "nll", "n")]
    return tuple(
        Position(label=str(label), length=int(length), low=int(low), high=int(high), nll=float(nll), n=int(n))
        for label, length, low, high, nll, n in zip(*columns, strict=True)
        if math.isfinite(float(nll))
    )


def _rotations(data: RunData) -> dict[str, tuple[tuple[float, ...], float]]:
    """Of branches that of the most distant tokens, which the plan knows: its fingerprint is part of the scheme's."""
    far = {name: each.far for name, each in data.plan.schemes.items() if each.branches}
    of = {name: scheme["rotation"] for name, scheme in data.schemes.items()}
    own = {name: (tuple(float(f) for f in r["inv_freq"]), float(r["attention_factor"])) for name, r in of.items()}
    return own | {name: (tuple(far[name].inv_freq.tolist()), far[name].attention_factor) for name in own if name in far}


def _gains(data: RunData) -> dict[str, NDArray[np.float32]]:
    """Log gains `[L, H, pairs]` by scheme, of branches those of the most distant tokens. Raises StoreError for gains
    that cannot be."""
    try:
        of = {name: scheme.get("gains") or _farthest(scheme).get("gains") for name, scheme in data.schemes.items()}
        return {name: Gains.of(plain).log for name, plain in of.items() if plain is not None}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StoreError(f"run.sqlite: the gains of a scheme cannot be ({str(error)[:100]}).") from None


def _farthest(scheme: Mapping[str, Any]) -> Mapping[str, Any]:
    """The branch of the most distant tokens as it is stored; nothing where there is none."""
    return scheme["branches"][-1] if scheme.get("branches") else {}


def _branches(data: RunData) -> dict[str, tuple[Branch, ...]]:
    """Raises StoreError for branches that cannot be."""
    found: dict[str, tuple[Branch, ...]] = {}
    try:
        for name, scheme in data.schemes.items():
            if scheme.get("branches"):
                inv_freq = np.array(scheme["rotation"]["inv_freq"])
                own = Rotation(inv_freq=inv_freq, attention_factor=scheme["rotation"]["attention_factor"])
                found[name] = tuple(Branch.of(each, own) for each in scheme["branches"])
    except (ValueError, LookupError, TypeError) as error:
        raise StoreError(f"run.sqlite: the branches of a scheme cannot be ({str(error)[:100]}).") from None
    return found


def _classes(data: RunData) -> dict[str, str]:
    """What each configuration changes at its longest length."""
    cells = sorted(data.plan.cells, key=lambda cell: cell.length)
    shipped = {cell.length: data.schemes.get(cell.fingerprint, {}) for cell in cells if cell.label == NONE}
    return {
        cell.label: class_of(
            data.schemes[cell.fingerprint],
            shipped[cell.length],
            find(cell.method).params,
            cut=cell.scheme != cell.fingerprint,
        )
        for cell in cells
        if cell.length in shipped and cell.fingerprint in data.schemes
    }


def _hashes(data: RunData, kind: str) -> dict[str, str]:
    """A hash of each document's stored arrays of this kind, window after window, by document id."""
    found: dict[str, Any] = {}
    for document in data.raw.documents:
        if (array := document.arrays.get(kind)) is not None:
            found.setdefault(document.cluster, hashlib.sha256()).update(array.tobytes())
    return {name: hashed.hexdigest() for name, hashed in found.items()}
