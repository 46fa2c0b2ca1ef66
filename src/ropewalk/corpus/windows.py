"""Separate stretches of a document: where each begins, as numbers of tokens alone; pure.

A document of 40,000 tokens that is read at 1,024 holds 39 stretches that share no token. Reading several of them costs
no more per stretch than another document would and says more about this one; the document stays the unit
(`stats/clusters.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ropewalk.errors import CorpusError


def holds(length_of_document: int, longest: int) -> int:
    """How many separate stretches of `longest` tokens a document has."""
    return length_of_document // longest


def spread(count: int) -> list[int]:
    """0 to count - 1 in the order of their reversed bits (van der Corput 1935): 0, a half, a quarter, three quarters,
    ...; the first few are spread over all."""
    bits = (count - 1).bit_length()
    return sorted(range(count), key=lambda number: int(f"{number:0{bits}b}"[::-1], 2) if bits else 0)


def windows(length_of_document: int, longest: int, count: int) -> tuple[int, ...]:
    """The first tokens of `count` separate stretches of `longest` tokens, the document's first one first.

    The document is divided into as many stretches as it holds, evenly spaced, of which the first in the order of
    `spread` are taken. So any count is spread over the document, and asking for more adds to those that are there.

    Raises:
        ValueError: the document does not hold so many (`require_windows` says it to a reader), or count < 1.
    """
    held = holds(length_of_document, longest)
    if not 1 <= count <= held:
        raise ValueError(f"count={count} must lie in 1..{held}, the stretches of {longest} in {length_of_document}")
    spare = length_of_document - longest
    return tuple(slot * spare // max(1, held - 1) for slot in spread(held)[:count])


def windows_within(lengths: Sequence[int], longest: int, tokens: int) -> int:
    """Stretches of each document that together fill `tokens`, at most what the shortest document holds.

    All documents have as many, so that none weighs more than another.

    Raises:
        CorpusError: one stretch of each is more than `tokens`, or a document holds none.
    """
    least = len(lengths) * longest
    if tokens < least:
        raise CorpusError(
            f"documents.windows: auto may read {tokens} tokens, but one stretch of {longest} of each of "
            f"{len(lengths)} documents is {least}; allow {least}, ask for fewer documents, or lower the longest length."
        )
    fewest = min(holds(length, longest) for length in lengths)
    if fewest == 0:
        raise CorpusError(f"a document has {min(lengths)} tokens, fewer than the longest length {longest}.")
    return min(tokens // least, fewest)


def require_windows(documents: Sequence[tuple[str, int]], longest: int, count: int) -> None:
    """Refuse documents `(id, tokens)` that do not hold so many stretches.

    Raises:
        CorpusError: naming the shortest, how many it holds, and the remedy.
    """
    name, length = min(documents, key=lambda each: each[1])
    held = holds(length, longest)
    if count > held:
        enough = sum(holds(each, longest) >= count for _, each in documents)
        others = f", or read only the {enough} documents that hold {count}" if enough else ""
        raise CorpusError(
            f"documents.windows: {count} stretches of {longest} tokens do not fit document {name!r}: {length} tokens "
            f"hold {held}; ask for at most {held}{',' if enough else ' or'} lower the longest length to "
            f"{length // count}{others}."
        )
