"""Which documents and probes are tuned on, and which judge: disjoint, recorded; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ropewalk.corpus import Document
from ropewalk.errors import ExperimentError

Keys = Callable[[int, int, int], Sequence[str]]
"""(count, length, seed) to what the probes of a length ask for."""
LEAST = 2
"""Documents on each side: one has no interval."""
ATTEMPTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Indices of documents, or of the windows of each, and seeds of probes, on each side."""

    search: tuple[int, ...]
    judge: tuple[int, ...]
    search_seed: int
    judge_seed: int

    def plain(self, documents: Sequence[Document]) -> dict[str, Any]:
        """As JSON values, documents by id."""
        named = {side: unique([documents[i].id for i in getattr(self, side)]) for side in ("search", "judge")}
        return asdict(self) | named


def unique(names: Iterable[str]) -> list[str]:
    """Each name once, in the order of their first."""
    return list(dict.fromkeys(names))


def split(
    documents: Sequence[Document],
    seed: int,
    lengths: Sequence[int],
    probes: int,
    trials: int,
    length: int,
    keys: Keys | None,
) -> Parts:
    """Deal documents to both sides in turn, kind by kind, so that both have some of each; draw disjoint probes.

    All windows of a document go to one side: what is found and what judges it share no document.

    Args:
        documents: those that fill the longest length, one after the other as often as it has windows.
        seed: of the experiment: the judge's probes are those that a sweep of the same file uses.
        lengths: of the probes.
        probes: per length of the tuning set.
        trials: probes per length of the judge.
        length: the longest length, for the message.
        keys: of the probes; None without any.

    Raises:
        ExperimentError: too few documents, or so many probes that they cannot be apart.
    """
    kind = {document.id: document.kind for document in documents}
    if len(kind) < 2 * LEAST:
        raise ExperimentError(
            f"documents: {len(kind)} of at least {length} tokens cannot be split into {LEAST} to tune on and "
            f"{LEAST} to judge on; give {2 * LEAST} or more, or a smaller --length."
        )
    kinds = unique(kind.values())
    order = sorted(kind, key=lambda name: kinds.index(kind[name]))
    search = set(order[0::2])
    return Parts(
        search=tuple(i for i, each in enumerate(documents) if each.id in search),
        judge=tuple(i for i, each in enumerate(documents) if each.id not in search),
        search_seed=_apart(seed, lengths, probes, trials, keys) if keys else seed + 1,
        judge_seed=seed,
    )


def _apart(seed: int, lengths: Sequence[int], probes: int, trials: int, keys: Keys) -> int:
    """The next seed none of whose keys is a key of this one, at any length."""
    taken = {key for n in lengths for key in keys(trials, n, seed)}
    for found in range(seed + 1, seed + ATTEMPTS):
        if not any(taken.intersection(keys(probes, n, found)) for n in lengths):
            return found
    raise ExperimentError(
        f"tune.probes={probes} and {trials} prompts of a sweep leave no keys apart; lower one of them."
    )
