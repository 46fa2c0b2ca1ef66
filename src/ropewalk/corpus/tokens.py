"""A document as a model reads it: token ids, and which characters each token covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ropewalk.corpus.documents import Document
from ropewalk.corpus.tried import require_bounded
from ropewalk.errors import CorpusError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Bos = bool | Literal["auto"]

CHARACTERS = 8
"""Of text read per wanted token, at first: twice what English takes."""

OPTIONS: Mapping[str, bool] = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
"""Not verbose: a document is longer than model_max_length on purpose, which is not worth a warning."""

MARGIN = 4096
"""Characters before a cut that are not relied on: a tokenizer joins letters into words, and words it leaves alone."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokens:
    """A document, or its beginning, under one tokenizer.

    Attributes:
        ids: int32 `[N]`, read-only; BOS included if `bos`.
        starts, ends: int32 `[N]`, read-only, character offsets into `document.text` (BOS: 0, 0); None where the
            tokenizer gives none. Tokens that share one character (an emoji in several byte tokens) share its offsets.
        bos: `ids[0]` is the tokenizer's BOS.
        start: token of the whole document at which this stretch of it begins; None for the document itself.
    """

    document: Document
    ids: NDArray[np.int32]
    starts: NDArray[np.int32] | None
    ends: NDArray[np.int32] | None
    bos: bool
    start: int | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "starts", "ends"):
            value = getattr(self, name)
            if value is None:
                continue
            array = np.array(value, dtype=np.int32)
            if array.ndim != 1 or array.size != len(self.ids):
                raise ValueError(f"{name} has shape {array.shape}, but there are {len(self.ids)} tokens")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if (self.starts is None) != (self.ends is None):
            raise ValueError("starts and ends are given together or not at all")

    def __len__(self) -> int:
        return int(self.ids.size)

    @property
    def id(self) -> str:
        """The document's id, of a stretch with the token at which it begins."""
        return self.document.id if self.start is None else f"{self.document.id}@{self.start}"

    def stretch(self, start: int, length: int) -> Tokens:
        """`length` tokens from `start` on as a text of their own: BOS, where there is one, in place of the first.

        Offsets stay those of the document, so bytes and key spans are those of the very same characters.
        """
        part = slice(start, start + length)
        ids, starts, ends = (None if array is None else array[part].copy() for array in self._arrays)
        assert ids is not None
        if self.bos:
            ids[0] = self.ids[0]
        return Tokens(document=self.document, ids=ids, starts=starts, ends=ends, bos=self.bos, start=start)

    @property
    def _arrays(self) -> tuple[NDArray[np.int32], NDArray[np.int32] | None, NDArray[np.int32] | None]:
        return self.ids, self.starts, self.ends

    def utf8_bytes(self) -> NDArray[np.int32] | None:
        """UTF-8 bytes of text that each token adds to those before it, int32 `[N]`; None without offsets.

        Their sum over any range of tokens is the text between its ends. The bytes of a character cut into several
        tokens all count to the first of them, which moves such a sum by at most 3 bytes at either end.
        """
        if self.ends is None:
            return None
        read = self.document.text[: int(self.ends.max(initial=0))]  # of a long text only this is spread out
        codes = np.frombuffer(read.encode("utf-32-le"), dtype="<u4")
        width = 1 + (codes >= 0x80).astype(np.int32) + (codes >= 0x800) + (codes >= 0x10000)
        bytes_before = np.append(0, np.cumsum(width))
        before = 0 if self.start is None or self.starts is None else bytes_before[self.starts[0]]
        added = np.diff(bytes_before[np.maximum.accumulate(self.ends)], prepend=before).astype(np.int32)
        if self.bos:
            added[0] = 0  # what a BOS stands in place of is neither read nor predicted
        return added


def tokenize(tokenizer: PreTrainedTokenizerBase, document: Document, bos: Bos = "auto") -> Tokens:
    """One document, as `tokenize_all` does."""
    return tokenize_all(tokenizer, [document], bos)[0]


def tokenize_all(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], bos: Bos = "auto", upto: int | None = None
) -> list[Tokens]:
    """Tokenise documents once, side by side, without special tokens other than BOS.

    Args:
        tokenizer: of transformers. Only fast ones give offsets.
        documents: the texts.
        bos: prepend the BOS token; "auto": if and only if the tokenizer's own default encoding does.
        upto: only so many tokens of each are wanted: the rest of a long text is not read where offsets show that what
            follows cannot matter. They are the same tokens as of the whole document.

    Raises:
        CorpusError: `bos` is True for a tokenizer that has no BOS.
        ModelError: it does not read the texts within time and memory.
    """
    prepend = wants_bos(tokenizer) if bos == "auto" else bos
    if prepend and tokenizer.bos_token_id is None:
        raise CorpusError("bos=True, but this tokenizer has no BOS token; use bos: auto.")
    reach = None if upto is None else MARGIN + CHARACTERS * upto
    texts = [document.text[:reach] for document in documents]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        require_bounded(tokenizer.name_or_path, backend.to_str(), texts)
    if not tokenizer.is_fast:
        ids = tokenizer([document.text for document in documents], **OPTIONS)["input_ids"]
        return [
            _tokens(tokenizer, document, each, None, prepend, upto)
            for document, each in zip(documents, ids, strict=True)
        ]
    encodings = tokenizer(texts, **OPTIONS).encodings if texts else []
    found = []
    for document, text, encoding in zip(documents, texts, encodings, strict=True):
        offsets = encoding.offsets
        if len(text) < len(document.text) and _is_short(offsets, upto or 0, len(text) - MARGIN):
            encoding = tokenizer([document.text], **OPTIONS).encodings[0]
            offsets = encoding.offsets
        found.append(_tokens(tokenizer, document, encoding.ids, offsets, prepend, upto))
    return found


def _tokens(
    tokenizer: PreTrainedTokenizerBase,
    document: Document,
    ids: list[int],
    offsets: list[tuple[int, int]] | None,
    prepend: bool,
    upto: int | None,
) -> Tokens:
    first = [tokenizer.bos_token_id] * prepend
    starts = ends = None
    if offsets is not None:
        starts, ends = np.array([(0, 0)] * prepend + offsets[:upto], dtype=np.int32).reshape(-1, 2)[:upto].T
    cut = np.array(first + ids[:upto], dtype=np.int32)[:upto]
    return Tokens(document=document, ids=cut, starts=starts, ends=ends, bos=prepend)


def _is_short(offsets: list[tuple[int, int]], wanted: int, sure: int) -> bool:
    """Whether the tokens that end within the first `sure` characters are fewer than are wanted."""
    return len(offsets) < wanted or offsets[wanted - 1][1] > sure


def wants_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer's own default encoding puts BOS first."""
    if tokenizer.bos_token_id is None:
        return False
    first: list[int] = tokenizer("a")["input_ids"][:1]
    return first == [tokenizer.bos_token_id]


def require_length(tokens: Tokens, length: int) -> None:
    """Refuse a document that does not fill the longest length.

    Raises:
        CorpusError: naming the document, its tokens, the length and the remedy.
    """
    if len(tokens) < length:
        raise CorpusError(
            f"document {tokens.document.id!r} has {len(tokens)} tokens under this tokenizer, fewer than the longest "
            f"length {length}; lower the longest length to {len(tokens)}, lower count, or choose longer documents."
        )


def that_fill(tokens: Sequence[Tokens], length: int) -> tuple[Tokens, ...]:
    """The documents of at least `length` tokens: what is measured where no `count` is asked for.

    Raises:
        CorpusError: there is none.
    """
    enough = tuple(each for each in tokens if len(each) >= length)
    if not enough:
        longest = max(tokens, key=len)
        raise CorpusError(
            f"no document fills the longest length {length}: the longest of {len(tokens)}, {longest.document.id!r}, "
            f"has {len(longest)} tokens under this tokenizer; lower the longest length or choose longer documents."
        )
    return enough
