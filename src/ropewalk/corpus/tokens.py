"""A document as a model reads it: token ids, and which characters each token covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ropewalk.corpus.documents import Document
from ropewalk.errors import CorpusError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Bos = bool | Literal["auto"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokens:
    """A whole document under one tokenizer.

    Attributes:
        ids: int32 `[N]`, read-only; BOS included if `bos`.
        starts, ends: int32 `[N]`, read-only, character offsets into `document.text` (BOS: 0, 0); None where the
            tokenizer gives none. Tokens that share one character (an emoji in several byte tokens) share its offsets.
        bos: `ids[0]` is the tokenizer's BOS.
    """

    document: Document
    ids: NDArray[np.int32]
    starts: NDArray[np.int32] | None
    ends: NDArray[np.int32] | None
    bos: bool

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

    def utf8_bytes(self) -> NDArray[np.int32] | None:
        """UTF-8 bytes of text that each token adds to those before it, int32 `[N]`; None without offsets.

        Their sum over any range of tokens is the text between its ends. The bytes of a character cut into several
        tokens all count to the first of them, which moves such a sum by at most 3 bytes at either end.
        """
        if self.ends is None:
            return None
        codes = np.frombuffer(self.document.text.encode("utf-32-le"), dtype="<u4")
        width = 1 + (codes >= 0x80).astype(np.int32) + (codes >= 0x800) + (codes >= 0x10000)
        bytes_before = np.append(0, np.cumsum(width))
        return np.diff(bytes_before[np.maximum.accumulate(self.ends)], prepend=0).astype(np.int32)

    def bytes_upto(self, length: int) -> int | None:
        """UTF-8 bytes of the text that the scored tokens 1..length-1 cover (token 0 is fed, not scored).

        Raises:
            ValueError: `length` is not in 1..N.
        """
        if not 1 <= length <= len(self):
            raise ValueError(f"length={length} must lie in 1..{len(self)}, the tokens of {self.document.id!r}")
        utf8_bytes = self.utf8_bytes()
        return None if utf8_bytes is None else int(utf8_bytes[1:length].sum())


def tokenize(tokenizer: PreTrainedTokenizerBase, document: Document, bos: Bos = "auto") -> Tokens:
    """One document, as `tokenize_all` does."""
    return tokenize_all(tokenizer, [document], bos)[0]


def tokenize_all(tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], bos: Bos = "auto") -> list[Tokens]:
    """Tokenise whole documents once, side by side, without special tokens other than BOS.

    Args:
        tokenizer: of transformers. Only fast ones give offsets.
        documents: the texts.
        bos: prepend the BOS token; "auto": if and only if the tokenizer's own default encoding does.

    Raises:
        CorpusError: `bos` is True for a tokenizer that has no BOS.
    """
    prepend = wants_bos(tokenizer) if bos == "auto" else bos
    if prepend and tokenizer.bos_token_id is None:
        raise CorpusError("bos=True, but this tokenizer has no BOS token; use bos: auto.")
    # verbose=False: a document is longer than model_max_length on purpose, which is not worth a warning.
    texts = [document.text for document in documents]
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
    first = [tokenizer.bos_token_id] * prepend
    found = []
    for index, document in enumerate(documents):
        ids = np.array(first + encoded["input_ids"][index], dtype=np.int32)
        starts = ends = None
        if tokenizer.is_fast:
            offsets = np.array([(0, 0)] * prepend + encoded[index].offsets, dtype=np.int32).reshape(-1, 2)
            starts, ends = offsets[:, 0], offsets[:, 1]
        found.append(Tokens(document=document, ids=ids, starts=starts, ends=ends, bos=prepend))
    return found


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
