"""Hand-made blocks."""

from collections.abc import Mapping, Sequence

import numpy as np

from ropewalk.metrics import columns
from ropewalk.stats.blocks import Block

TOKENS = 511.0
COLUMNS = {name: column for name, (_, column) in columns().items()}


def nll_block(means: Mapping[str, Sequence[float]], *, length: int = 2048, metric: str = "tail") -> Block:
    """Mean nll per document, TOKENS tokens each."""
    values = np.array(list(means.values()), dtype=np.float64)
    return Block(
        column=COLUMNS[metric],
        lengths=(length,),
        labels=tuple(means),
        units=tuple(f"document {i}" for i in range(values.shape[1])),
        numerators_CN=values * TOKENS,
        denominators_CN=np.full(values.shape, TOKENS),
    )


def passkey_block(successes: Mapping[str, Sequence[int]], *, length: int = 2048) -> Block:
    """1 for a passkey found, 0 for one missed."""
    values = np.array(list(successes.values()), dtype=np.float64)
    return Block(
        column=COLUMNS["passkey"],
        lengths=(length,),
        labels=tuple(successes),
        units=tuple(str(i) for i in range(values.shape[1])),
        numerators_CN=values,
        denominators_CN=np.ones(values.shape),
    )
