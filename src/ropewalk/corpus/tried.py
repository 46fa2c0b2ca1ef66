"""Tokenizers that could explode, tried on the texts that they are to read, and chat templates: in their own process.

Regular expressions can take time without end, chains of replacements memory. A tokenizer of parts that can do neither
(byte-level BPE and SentencePiece as most models have it) is not tried.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ropewalk.corpus.confined import OutOfBounds, confined
from ropewalk.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 10.0
CHARACTERS_PER_S = 1e5
"""A tenth of what a slow tokenizer encodes."""
HARMLESS = {
    "model": {"BPE", "WordLevel", "Unigram"},
    "normalizer": {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Nmt", "StripAccents", "Strip", "Prepend",
                   "BertNormalizer", "Precompiled", "ByteLevel"},
    "pre_tokenizer": {"ByteLevel", "Metaspace", "Whitespace", "WhitespaceSplit", "BertPreTokenizer", "Digits",
                      "Punctuation", "UnicodeScripts", "CharDelimiterSplit"},
    "post_processor": {"ByteLevel", "BertProcessing", "RobertaProcessing"},
    "decoder": {"ByteLevel", "Metaspace", "ByteFallback", "Fuse", "Strip", "WordPiece", "BPEDecoder", "CTC"},
}  # fmt: skip
"""Parts whose time and output grow with the text alone."""
SEQUENCE = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "post_processor": "processors",
            "decoder": "decoders"}  # fmt: skip
LINEAR = re.compile(r"(?:\\[pP]\{\w+\}|\\[^pPgk\d]|[^*+?{(|\\])+")
"""Regular expressions that repeat and choose nothing."""
MANY = 8
"""More parts than a tokenizer has in a row, or pieces in a template."""
PROBE = (
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. The pass key is 71432. "
    "Remember it. 71432 is the pass key. What is the pass key? \n\t\u00e9\u2402" + "".join(map(chr, range(32, 127)))
)


def require_bounded(name: str, tokenizer: str, texts: Sequence[str] = ()) -> None:
    """Refuse a tokenizer that does not read texts (and a probe) within time and memory.

    Args:
        name: of its model.
        tokenizer: the content of a tokenizer.json.
        texts: as much of each as it is to read.

    Raises:
        ModelError: it does not; or is no tokenizer.
    """
    if harmless(tokenizer):
        return
    try:
        given = {"tokenizer": tokenizer, "texts": [PROBE, *(16 * c for c in "a 0.\n"), *texts]}
        confined("encode", given, SECONDS + sum(map(len, texts)) / CHARACTERS_PER_S)
    except OutOfBounds as wrong:
        raise ModelError(
            f"model {name!r}: its tokenizer does not read the text within its bounds ({wrong}); mend its "
            "tokenizer.json, or choose another model."
        ) from None


def rendered(tokenizer: PreTrainedTokenizerBase, message: str) -> str:
    """The text of one user message under a tokenizer's chat template, up to where the assistant begins to speak.

    Every length and metric of a run asks for the same, and a process takes 3 s to start: it is rendered once.

    Raises:
        ModelError: the template raises, or does not end within time and memory.
    """
    try:
        given = {
            "messages": [{"role": "user", "content": message}],
            "template": tokenizer.get_chat_template(),
            "special_tokens": dict(tokenizer.special_tokens_map),
        }
        return _rendered(json.dumps(given, sort_keys=True), SECONDS)
    except (OutOfBounds, ValueError) as wrong:  # the latter where it has several and none is the default
        raise ModelError(
            f"model {tokenizer.name_or_path!r}: its chat template cannot be used ({wrong}); mend it in its "
            "tokenizer_config.json, or use template: none."
        ) from None


@lru_cache(maxsize=8)
def _rendered(given: str, seconds: float) -> str:
    return str(confined("template", json.loads(given), seconds))


def harmless(tokenizer: str) -> bool:
    """Whether a tokenizer.json has only parts that cannot explode."""
    try:
        parts = json.loads(tokenizer)
    except (RecursionError, ValueError):
        return False
    return isinstance(parts, Mapping) and all(
        ((part := parts.get(kind)) is None and kind != "model") or _harmless(kind, part) for kind in HARMLESS
    )


def _harmless(kind: str, part: Any, depth: int = 0) -> bool:
    if not isinstance(part, Mapping) or depth > MANY:
        return False
    name = part.get("type")
    if name == "Sequence":
        inner = part.get(SEQUENCE.get(kind, ""))
        return isinstance(inner, list) and len(inner) <= MANY and all(_harmless(kind, p, depth + 1) for p in inner)
    if name == "TemplateProcessing":
        return all(len(part.get(key) or ()) <= MANY for key in ("single", "pair"))
    if name == "Split" and kind == "pre_tokenizer":
        string, regex = _pattern(part)
        return string is not None or (regex is not None and LINEAR.fullmatch(regex) is not None)
    if name == "Replace" and kind in ("normalizer", "decoder"):
        string, _ = _pattern(part)
        return bool(string) and len(str(part.get("content", ""))) <= len(string or "")
    return isinstance(name, str) and name in HARMLESS[kind]


def _pattern(part: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Its string, or its regular expression."""
    pattern = part.get("pattern")
    found = [pattern.get(kind) if isinstance(pattern, Mapping) else None for kind in ("String", "Regex")]
    string, regex = (each if isinstance(each, str) else None for each in found)
    return string, regex
