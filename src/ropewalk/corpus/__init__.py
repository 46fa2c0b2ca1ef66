"""Documents to measure on, their tokens, and the spans of their key tokens."""

from ropewalk.corpus.builtin import builtin_documents
from ropewalk.corpus.chosen import chosen
from ropewalk.corpus.documents import Document
from ropewalk.corpus.load import load_documents
from ropewalk.corpus.span_files import builtin_spans, read_span_file, read_spans, select_spans, write_spans
from ropewalk.corpus.spans import KeySpans, key_token_mask, merge_adjacent
from ropewalk.corpus.tokens import Tokens, require_length, that_fill, tokenize, tokenize_all

__all__ = [
    "Document",
    "KeySpans",
    "Tokens",
    "builtin_documents",
    "builtin_spans",
    "chosen",
    "key_token_mask",
    "load_documents",
    "merge_adjacent",
    "read_span_file",
    "read_spans",
    "require_length",
    "select_spans",
    "that_fill",
    "tokenize",
    "tokenize_all",
    "write_spans",
]
