"""Key spans of LongPPL (arXiv:2410.23771): where the evaluator found key tokens, in characters of a document.

Characters, not tokens: so key tokens found by one model count for another one with another tokenizer.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ropewalk.corpus.tokens import Tokens
from ropewalk.errors import CorpusError

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpans:
    """The key spans of one document under one evaluator.

    Attributes:
        evaluator: the model that judged.
        trunc_len, stride: of the short contexts, evaluator tokens.
        alpha: least gain of the long context over the short one, nats.
        beta: least long-context log-likelihood, nats.
        document_sha256: of the document's text in UTF-8.
        spans: `(start, end)` in characters, end exclusive; sorted and apart (`merge_adjacent`).

    Raises:
        CorpusError: a value that cannot be.
    """

    evaluator: str
    trunc_len: int
    stride: int
    alpha: float
    beta: float
    document_sha256: str
    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        place = f"key spans of document {self.document_sha256[:16]}"
        if not re.fullmatch(r"[0-9a-f]{64}", self.document_sha256):
            raise CorpusError(f"key spans: document sha256 {self.document_sha256!r} must be 64 hex digits.")
        for name in ("trunc_len", "stride"):
            if getattr(self, name) < 1:
                raise CorpusError(f"{place}: {name}={getattr(self, name)} must be at least 1 token.")
        for name in ("alpha", "beta"):
            if not abs(getattr(self, name)) <= sys.float_info.max:  # an integer of JSON may be larger
                raise CorpusError(f"{place}: {name}={getattr(self, name)} must be a finite number of nats.")
        last = -1
        for start, end in self.spans:
            if not 0 <= start <= end:
                raise CorpusError(f"{place}: span [{start}, {end}] must have 0 <= start <= end; make the file anew.")
            if start <= last:
                raise CorpusError(
                    f"{place}: span [{start}, {end}] starts before or where the one before it ends ({last}): "
                    "spans must be sorted, merged and apart; make the file anew."
                )
            last = end


def merge_adjacent(starts: ArrayLike, ends: ArrayLike) -> tuple[Span, ...]:
    """Key tokens `[n]` to spans: tokens that touch or overlap become one, sorted.

    The reference (`longppl.merge_intervals`) merges tokens that touch. Merging as well those that share a character
    selects the same tokens and leaves the spans disjoint.
    """
    order = np.lexsort((np.asarray(ends), np.asarray(starts)))
    s, e = np.asarray(starts)[order].astype(np.int64), np.asarray(ends)[order].astype(np.int64)
    reach = np.maximum.accumulate(e)
    opens = np.append(True, s[1:] > reach[:-1])[: s.size]
    closes = np.append(opens[1:], True)[: s.size]
    return tuple(zip(s[opens].tolist(), reach[closes].tolist(), strict=True))


def key_token_mask(tokens: Tokens, spans: KeySpans) -> NDArray[np.bool_]:
    """Which scored tokens are key: bool `[N-1]`, entry t-1 for token t.

    A token counts only if it lies wholly inside one span, as in the reference (`longppl.cal_overlap`). One departure:
    there, token 0, which nothing scores, counts with the loss of the last token (index -1); here it is left out.

    Raises:
        CorpusError: the spans are of another document or reach beyond its end, or the tokenizer gives no offsets.
    """
    document = tokens.document
    require_spans_fit(spans, document.sha256, len(document.text), document.id)
    if tokens.starts is None or tokens.ends is None:
        raise CorpusError(
            f"document {document.id!r}: the tokenizer gives no character offsets, so key spans cannot be mapped to its "
            "tokens; use its fast version (tokenizer.json) or leave longppl out."
        )
    if not spans.spans:
        return np.zeros(max(len(tokens) - 1, 0), dtype=bool)
    span_starts, span_ends = np.array(spans.spans, dtype=np.int64).T
    # Spans are apart, so a token can only lie in the last span that starts at or before it.
    candidate = np.searchsorted(span_starts, tokens.starts[1:], side="right") - 1
    return (candidate >= 0) & (tokens.ends[1:] <= span_ends[np.maximum(candidate, 0)])


def require_spans_fit(spans: KeySpans, document_sha256: str, characters: int, document_id: str) -> None:
    """Refuse spans of another document.

    Raises:
        CorpusError: the hash differs, or the last span ends after the document.
    """
    if spans.document_sha256 != document_sha256:
        raise CorpusError(
            f"document {document_id!r}: these key spans are of another text (sha256 {spans.document_sha256}, expected "
            f"{document_sha256}); compute spans for this document or choose the documents they were made for."
        )
    if spans.spans and spans.spans[-1][1] > characters:
        raise CorpusError(
            f"document {document_id!r}: key span {list(spans.spans[-1])} ends beyond its {characters} characters; "
            "make the spans anew."
        )
