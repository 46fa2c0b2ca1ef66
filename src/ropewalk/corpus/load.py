"""From the `documents` mapping of an experiment to the documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ropewalk.corpus.builtin import builtin_documents
from ropewalk.corpus.documents import Document, choices, refuse_duplicates
from ropewalk.corpus.hub import hub_documents, is_on_hub
from ropewalk.corpus.local import dataset_documents, file_documents
from ropewalk.errors import CorpusError

EVERY = ("count", "windows", "tokens")
KEYS: Mapping[str, tuple[str, ...]] = {
    "corpus": ("corpus", *EVERY),
    "files": ("files", *EVERY),
    "dataset": ("dataset", "column", "split", "revision", *EVERY),
}
DOCUMENT_KEYS: Mapping[str, Mapping[str, Any]] = {
    "corpus": {"enum": ["builtin"], "description": "17 texts in the public domain that come with the package."},
    "files": {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
        "description": "Paths or globs of UTF-8 text files, one document each; ** descends.",
    },
    "dataset": {
        "type": "string",
        "description": "Directory of datasets.save_to_disk, a .parquet, .jsonl or .csv file, or OWNER/NAME of the Hub.",
    },
    "column": {"type": "string", "default": "text", "description": "The column of a data set that holds the text."},
    "split": {"type": "string", "description": "Of a data set, where it has several."},
    "revision": {"type": "string", "description": "Branch, tag or commit of a data set on the Hub; main if left out."},
    "count": {"type": "integer", "minimum": 1, "description": "Take the first so many; all if left out."},
    "windows": {
        "anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}],
        "default": 1,
        "description": "Separate stretches read of each document; auto for as many as tokens allow.",
    },
    "tokens": {"type": "integer", "minimum": 1, "description": "What windows: auto may read in all."},
}
"""Every key of `documents` as JSON schema."""


def load_documents(spec: Mapping[str, Any]) -> tuple[Document, ...]:
    """Read and verify documents.

    `spec` is one of `{corpus: builtin}`, `{files: [glob, ...]}`, `{dataset: PATH, column: text, split: NAME}`, and of
    the Hub `{dataset: OWNER/NAME, revision: COMMIT, ...}`, each with an optional `count`, which takes the first so many
    (built-in: in manifest order, kinds in turn), and `windows` (see `asked_windows`).

    Raises:
        CorpusError: an unknown key or corpus, a value of the wrong type, or documents that are missing, too few,
            empty, binary, altered, or the same text twice.
    """
    source = _source(spec)
    count = spec.get("count")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise CorpusError(f"documents: count={count!r} must be a whole number >= 1; leave it out to take all.")
    asked_windows(spec)
    match source:
        case "corpus":
            if spec["corpus"] != "builtin":
                raise CorpusError(
                    f"documents: corpus={spec['corpus']!r} is unknown; {choices(spec['corpus'], ['builtin'])}"
                )
            documents = builtin_documents(count)
        case "files":
            documents = file_documents(_patterns(spec["files"]), count)
        case _:
            name, column = _text(spec, "dataset"), _text(spec, "column", "text")
            split, revision = (_text(spec, key, None) for key in ("split", "revision"))
            if is_on_hub(name):
                documents = hub_documents(name, column, split=split, revision=revision, count=count)
            elif revision is not None:
                raise CorpusError(f"documents: revision={revision!r}, but {name!r} is on disk; leave revision out.")
            else:
                documents = dataset_documents(name, column, split=split, count=count)
    refuse_duplicates(documents)
    return documents


def asked_windows(spec: Mapping[str, Any]) -> int | Literal["auto"]:
    """`windows` of the documents: stretches read of each, or "auto" for as many as `tokens` allow.

    Raises:
        CorpusError: neither, or `tokens` without "auto", or the other way round.
    """
    windows, tokens = spec.get("windows", 1), spec.get("tokens")
    if windows != "auto" and (isinstance(windows, bool) or not isinstance(windows, int) or windows < 1):
        raise CorpusError(f"documents: windows={windows!r} must be a whole number >= 1, or auto with tokens: N.")
    if windows != "auto" and tokens is not None:
        raise CorpusError(f"documents: tokens={tokens!r} is what windows: auto may read; write that, or leave it out.")
    if windows == "auto" and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1):
        raise CorpusError(f"documents: windows: auto needs tokens: N, how many to read in all; got tokens={tokens!r}.")
    return windows


def _source(spec: Mapping[str, Any]) -> str:
    if not isinstance(spec, Mapping):
        raise CorpusError(
            f"documents={spec!r} must be a mapping; write {{corpus: builtin}}, {{files: [...]}} or {{dataset: PATH}}."
        )
    sources = [key for key in KEYS if key in spec]
    if len(sources) > 1:
        raise CorpusError(f"documents has {' and '.join(sources)}, which are different sources; keep one.")
    valid = KEYS[sources[0]] if sources else tuple(KEYS)
    for key in spec:
        if key not in valid and (sources or key not in EVERY):
            raise CorpusError(f"documents: key {key!r} is unknown; {choices(key, valid)}")
    if not sources:
        raise CorpusError("documents names no source; write {corpus: builtin}, {files: [...]} or {dataset: PATH}.")
    return sources[0]


def _patterns(value: object) -> list[str]:
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, Sequence) or not patterns or not all(isinstance(p, str) and p for p in patterns):
        raise CorpusError(f"documents: files={value!r} must be a list of paths or globs, such as ['books/*.txt'].")
    return list(patterns)


def _text(spec: Mapping[str, Any], key: str, default: Any = "") -> Any:
    value = spec.get(key, default)
    if value is not default and not (isinstance(value, str) and value):
        raise CorpusError(f"documents: {key}={value!r} must be a text that is not empty.")
    return value
