"""Two runs: what differs between them, then every cell that both have, paired on what both were given; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from typing_extensions import override

from ropewalk.errors import ExperimentError
from ropewalk.metrics import columns
from ropewalk.report.differences import Difference, differences
from ropewalk.report.study import Study
from ropewalk.stats.blocks import Block
from ropewalk.stats.column import Column
from ropewalk.stats.intervals import Interval
from ropewalk.stats.paired import Paired, holm

A, B = "A", "B"
NOT_MEASURED = "not measured in both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """One cell that both runs have.

    Attributes:
        a, b: the values on the shared units, in the unit of the results table.
        paired: B against A: a ratio of perplexities, a difference of bits per byte or of shares.
        adjusted_p: Holm over all cells of the metric; None where there is no test.
        same_rotation: both ran with one and the same rotation.
    """

    column: Column
    length: int
    label: str
    a: Interval
    b: Interval
    paired: Paired
    adjusted_p: float | None
    same_rotation: bool


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Compared:
    """Two runs side by side.

    Attributes:
        differences: in provenance, first of all.
        documents: texts that both runs measured.
        not_compared: metrics that cannot be, with the reason.
        remark: what to keep in mind of bits per byte under two tokenizers; empty under one.
        contrasts: by metric, length and configuration, in the order of run A.
    """

    differences: tuple[Difference, ...]
    documents: int
    not_compared: Mapping[str, str]
    remark: str
    contrasts: tuple[Contrast, ...]

    @override
    def __repr__(self) -> str:
        differ = f"{len(self.differences)} difference{'s' * (len(self.differences) != 1)} in provenance"
        return f"Compared({len(self.contrasts)} cells in both, {self.documents} documents in both, {differ})"


def compare(a: Study, b: Study) -> Compared:
    """B against A.

    Raises:
        ExperimentError: they share nothing that can be compared.
    """
    pairs = shared_documents(a, b)
    known = {**a.run.columns, **b.run.columns}
    refused = {column.name: reason for column in known.values() if (reason := _refusal(column, a, b, pairs))}
    found: list[Contrast] = []
    for column in known.values():
        if column.name not in refused:
            cells = _cells(column.name, a, b, pairs)
            adjusted = iter(holm([cell.paired.p for cell in cells if cell.paired.p is not None]))
            found += [c if c.paired.p is None else replace(c, adjusted_p=next(adjusted)) for c in cells]
    if not found:
        reason = next(iter(refused.values()), "no configuration and length is in both")
        raise ExperimentError(
            f"{a.directory} and {b.directory}: nothing can be compared ({reason}); measure the same documents, lengths "
            "and configurations in both."
        )
    return Compared(
        differences=differences(a.run.meta, b.run.meta),
        documents=len(pairs),
        not_compared=refused,
        remark=_texts(a, b, pairs, found),
        contrasts=tuple(found),
    )


def shared_documents(a: Study, b: Study) -> dict[str, str]:
    """Ids in A and in B of the texts that both measured, told by their hashes."""
    other = {str(d["sha256"]): str(d.get("cluster", d["id"])) for d in b.run.meta.get("documents") or ()}
    ours = {str(d.get("cluster", d["id"])): str(d["sha256"]) for d in a.run.meta.get("documents") or ()}
    return {name: other[sha256] for name, sha256 in ours.items() if sha256 in other}


def _refusal(column: Column, a: Study, b: Study, pairs: Mapping[str, str]) -> str:
    """Why a metric cannot be compared at all; empty if it can."""
    if not all(any(row.metric == column.name for row in study.run.rows) for study in (a, b)):
        return NOT_MEASURED
    settings = [_settings(column.name, study.run.experiment) for study in (a, b)]
    if settings[0] != settings[1]:
        return f"measured in different ways: {settings[0]} and {settings[1]}"
    if column.unit != "document":
        return ""
    if not pairs:
        return "no document is in both"
    if _windows(a, pairs) != _windows(b, pairs.values()):
        return "other windows of the documents were read"
    if column.pooling == "bits":
        return ""
    if not same_tokens(a, b, pairs):
        return "the documents have other tokens (another tokenizer); bits per byte can be compared"
    if "key" in columns()[column.name][0].arrays and any(
        a.key_hashes.get(x) != b.key_hashes.get(y) for x, y in pairs.items()
    ):
        return "other tokens are key (another evaluator, or another rule)"
    return ""


def _windows(study: Study, documents: Iterable[str]) -> list[list[int]]:
    """Where the windows of each document begin, tokens."""
    starts: dict[str, list[int]] = {}
    for each in study.run.meta.get("documents") or ():
        starts.setdefault(str(each.get("cluster", each["id"])), []).append(int(each.get("start", 0)))
    return [starts[name] for name in documents]


def same_tokens(a: Study, b: Study, pairs: Mapping[str, str]) -> bool:
    """Whether both runs cut every common document into the same tokens."""
    found = [(a.token_hashes.get(one), b.token_hashes.get(other)) for one, other in pairs.items()]
    return all(one is not None and one == other for one, other in found)


def _texts(a: Study, b: Study, pairs: Mapping[str, str], cells: Sequence[Contrast]) -> str:
    """With two tokenizers the same number of tokens is not the same text: how much of it each run read."""
    cells = [cell for cell in cells if cell.column.pooling == "bits"]
    if not cells or same_tokens(a, b, pairs):
        return ""
    last = max(cells, key=lambda cell: cell.length)
    length = last.length
    one, other = (_bytes(study, last, names) for study, names in ((a, list(pairs)), (b, list(pairs.values()))))
    return (
        f"The tokenizers differ, so {length:,} tokens are not the same text: on average {one:,.0f} bytes of a document "
        f"in A and {other:,.0f} in B."
    )


def _bytes(study: Study, cell: Contrast, documents: Sequence[str]) -> float:
    block = study.run.blocks[cell.column.name, cell.length]
    scored = [block.units.index(name) for name in documents if name in block.units]
    return float(block.denominators_CN[0, scored].mean())


def _settings(column: str, experiment: Mapping[str, Any]) -> Any:
    """What must be equal for two values of a column to mean the same."""
    metric, _ = columns()[column]
    section, seed = (experiment.get("metrics") or {}).get(metric.name) or {}, experiment.get("seed")
    if metric.same is not None:
        return metric.same(section, seed)
    return dict(section) if metric.prompts is None else {metric.name: dict(section), "seed": seed}


def _cells(metric: str, a: Study, b: Study, pairs: Mapping[str, str]) -> list[Contrast]:
    found: list[Contrast] = []
    for length in a.run.lengths:
        one, other = a.run.blocks.get((metric, length)), b.run.blocks.get((metric, length))
        if one is not None and other is not None:
            blocks = [(label, _pair(one, other, label, pairs)) for label in one.labels if label in other.labels]
            found += [_contrast(a, b, label, block) for label, block in blocks if block is not None]
    return found


def _pair(one: Block, other: Block, label: str, pairs: Mapping[str, str]) -> Block | None:
    """One configuration of both runs as two labels over the units that both have; None if they share none, or if
    one counted other tokens (key tokens of another evaluator)."""
    names = {unit: unit for unit in one.units} if one.counts else pairs
    shared = [unit for unit in one.units if names.get(unit) in other.units]
    rows = [_row(one, label, shared), _row(other, label, [names[unit] for unit in shared])]
    numerators_CN, denominators_CN = (np.stack([row[i] for row in rows]) for i in (0, 1))
    same_tokens = np.array_equal(denominators_CN[0], denominators_CN[1]) or one.column.pooling == "bits"
    if not shared or not same_tokens or not (denominators_CN.sum(axis=1) > 0).all():
        return None
    return Block(
        column=one.column,
        lengths=one.lengths,
        labels=(A, B),
        units=tuple(shared),
        numerators_CN=numerators_CN,
        denominators_CN=denominators_CN,
    )


def _row(block: Block, label: str, units: Sequence[str]) -> tuple[Any, Any]:
    index = [block.units.index(unit) for unit in units]
    numerators_N, denominators_N = block.row(label)
    return numerators_N[index], denominators_N[index]


def _contrast(a: Study, b: Study, label: str, block: Block) -> Contrast:
    prints = [study.run.row(label, block.metric, block.lengths[0]) for study in (a, b)]
    values = [block.interval(name) for name in (A, B)]
    if block.column.is_ratio:
        values = [value.exp() for value in values]
    return Contrast(
        column=block.column,
        length=block.lengths[0],
        label=label,
        a=values[0],
        b=values[1],
        paired=block.paired(B, A),
        adjusted_p=None,
        same_rotation=len({row.fingerprint for row in prints if row is not None}) == 1,
    )
