"""From the `documents` mapping of an experiment to the documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk.corpus.builtin import builtin_documents
from ropewalk.corpus.chosen import Builtin, Dataset, Files, chosen
from ropewalk.corpus.documents import Document, refuse_duplicates
from ropewalk.corpus.hub import hub_documents, is_on_hub
from ropewalk.corpus.local import dataset_documents, file_documents
from ropewalk.errors import CorpusError


def load_documents(spec: Mapping[str, Any]) -> tuple[Document, ...]:
    """Read and verify documents.

    `spec` is one of `{corpus: builtin}`, `{files: [glob, ...]}`, `{dataset: PATH, column: text, split: NAME}`, and of
    the Hub `{dataset: OWNER/NAME, revision: COMMIT, ...}`, each with an optional `count`, which takes the first so many
    (built-in: in manifest order, kinds in turn), and `windows` (see `Chosen`).

    Raises:
        CorpusError: an unknown key or corpus, a value of the wrong type, or documents that are missing, too few,
            empty, binary, altered, or the same text twice.
    """
    match chosen(spec):
        case Builtin(count=count):
            documents = builtin_documents(count)
        case Files(files=patterns, count=count):
            documents = file_documents([patterns] if isinstance(patterns, str) else patterns, count)
        case Dataset() as source:
            documents = _rows(source)
    refuse_duplicates(documents)
    return documents


def _rows(source: Dataset) -> tuple[Document, ...]:
    name, column, split, count = source.dataset, source.column, source.split, source.count
    if is_on_hub(name):
        return hub_documents(name, column, split=split, revision=source.revision, count=count)
    if source.revision is not None:
        raise CorpusError(f"documents: revision={source.revision!r}, but {name!r} is on disk; leave revision out.")
    return dataset_documents(name, column, split=split, count=count)
