"""Several lengths judged as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ropewalk.stats.blocks import Block


def over_range(blocks: Sequence[Block]) -> Block:
    """Several lengths as one block: the value is the mean over lengths of mean nll, each length weighing the same.

    Documents stay the units: `x_d = sum_L x_dL / mean(y_L)`, `y_d = sum_L y_dL / mean(y_L)`. Passkey trials of
    different lengths are different units, put side by side. Only labels and documents of every length remain.

    Raises:
        ValueError: no blocks, or blocks of different metrics.
    """
    if not blocks or len({block.metric for block in blocks}) != 1:
        raise ValueError(f"a range needs blocks of one metric, got {[block.metric for block in blocks]!r}")
    labels = tuple(label for label in blocks[0].labels if all(label in block.labels for block in blocks))
    kept = [block.only(labels) for block in blocks]
    if blocks[0].counts:
        units = tuple(f"{block.lengths[0]}/{unit}" for block in kept for unit in block.units)
        x_CN = np.concatenate([block.numerators_CN for block in kept], axis=1)
        y_CN = np.concatenate([block.denominators_CN for block in kept], axis=1)
    else:
        units = tuple(unit for unit in blocks[0].units if all(unit in block.units for block in blocks))
        columns = [[block.units.index(unit) for unit in units] for block in kept]
        x_LCN = np.stack([block.numerators_CN[:, c] for block, c in zip(kept, columns, strict=True)])
        y_LCN = np.stack([block.denominators_CN[:, c] for block, c in zip(kept, columns, strict=True)])
        means_LC1 = y_LCN.sum(axis=2, keepdims=True) / max(1, len(units))
        means_LC1[means_LC1 == 0] = 1.0
        x_CN, y_CN = (x_LCN / means_LC1).sum(axis=0), (y_LCN / means_LC1).sum(axis=0)
    return Block(
        metric=blocks[0].metric,
        lengths=tuple(sorted({length for block in blocks for length in block.lengths})),
        labels=labels,
        units=units,
        numerators_CN=x_CN,
        denominators_CN=y_CN,
        left_out=_missing_somewhere(blocks, labels),
    )


def _missing_somewhere(blocks: Sequence[Block], labels: Sequence[str]) -> dict[str, str]:
    """Each configuration that is not at every length, with the first length that lacks it and why."""
    asked = dict.fromkeys(label for block in blocks for label in (*block.labels, *block.left_out))
    absent: dict[str, str] = {}
    for label in asked:
        for block in blocks:
            if label not in labels and label not in block.labels and label not in absent:
                absent[label] = f"at {block.lengths[0]}: {block.left_out.get(label, 'not measured')}"
    return absent
