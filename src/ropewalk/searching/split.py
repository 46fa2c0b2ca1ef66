"""Which documents and passkeys a search sees, and which judge it: disjoint, recorded; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ropewalk.corpus import Document
from ropewalk.errors import ExperimentError
from ropewalk.metrics.passkey import keys

LEAST = 2
"""Documents on each side: one has no interval."""
ATTEMPTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Indices of documents, and seeds of passkeys, on each side."""

    search: tuple[int, ...]
    judge: tuple[int, ...]
    search_seed: int
    judge_seed: int

    def plain(self, documents: Sequence[Document]) -> dict[str, Any]:
        """As JSON values, documents by id."""
        named = {side: [documents[i].id for i in getattr(self, side)] for side in ("search", "judge")}
        return asdict(self) | named


def split(
    documents: Sequence[Document], seed: int, lengths: Sequence[int], probes: int, trials: int, length: int
) -> Parts:
    """Deal documents to both sides in turn, kind by kind, so that both have some of each; draw disjoint passkeys.

    Args:
        documents: those that fill the longest length.
        seed: of the experiment: the judge's passkeys are those that a sweep of the same file uses.
        lengths: of the passkeys.
        probes: passkeys per length of the search.
        trials: passkeys per length of the judge.
        length: the longest length, for the message.

    Raises:
        ExperimentError: too few documents, or so many passkeys that they cannot be apart.
    """
    if len({document.id for document in documents}) < len(documents):
        raise ExperimentError(
            "documents.windows: what is found and what judges it must share no document, and here every document is "
            "read once; leave windows out, or set it to 1."
        )
    if len(documents) < 2 * LEAST:
        raise ExperimentError(
            f"documents: {len(documents)} of at least {length} tokens cannot be split into {LEAST} to search on and "
            f"{LEAST} to judge on; give {2 * LEAST} or more, or a smaller --length."
        )
    kinds = list(dict.fromkeys(document.kind for document in documents))
    order = sorted(range(len(documents)), key=lambda i: (kinds.index(documents[i].kind), i))
    return Parts(
        search=tuple(sorted(order[0::2])),
        judge=tuple(sorted(order[1::2])),
        search_seed=_apart(seed, lengths, probes, trials),
        judge_seed=seed,
    )


def _apart(seed: int, lengths: Sequence[int], probes: int, trials: int) -> int:
    """The next seed none of whose keys is a key of this one, at any length."""
    taken = {key for n in lengths for key in keys(trials, n, seed)}
    for found in range(seed + 1, seed + ATTEMPTS):
        if not any(taken.intersection(keys(probes, n, found)) for n in lengths):
            return found
    raise ExperimentError(
        f"search.probes={probes} and metrics.passkey.trials={trials} leave no keys apart; lower one of them."
    )
