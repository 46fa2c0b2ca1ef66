"""Key spans on disk: one JSON file for many documents of one evaluator and setting, keyed by the documents' hashes.

{"version": 1, "evaluator": "...", "trunc_len": 4096, "stride": 1024, "alpha": 2.0, "beta": -2.0,
 "documents": {SHA256: [[start, end], ...], ...}}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ropewalk.corpus.documents import Document, choices, on_disk
from ropewalk.corpus.spans import KeySpans, require_spans_fit
from ropewalk.errors import CorpusError
from ropewalk.files import read_regular, write_whole

VERSION = 1
MAX_BYTES = 64 * 2**20  # some five million spans; more is not a span file
FOLDER = files("ropewalk") / "data" / "spans"
SETTINGS = ("evaluator", "trunc_len", "stride", "alpha", "beta")


class SpanFile(BaseModel):
    """What a file holds."""

    model_config = ConfigDict(strict=True)

    evaluator: str
    trunc_len: int
    stride: int
    alpha: float
    beta: float
    documents: dict[str, list[Annotated[list[int], Field(min_length=2, max_length=2)]]]


def read_spans(path: str | Path, documents: Sequence[Document]) -> tuple[KeySpans, ...]:
    """The spans of the documents, in their order, from a file that may hold more.

    Raises:
        CorpusError: as `read_span_file`; or none for some document, or spans that reach beyond its end.
    """
    return select_spans(read_span_file(path), documents, place=str(path))


def read_span_file(path: str | Path) -> dict[str, KeySpans]:
    """Document sha256 -> its spans.

    Raises:
        CorpusError: missing, too large, not JSON, other keys or types, or spans that cannot be.
    """
    path = on_disk(path, "longppl: spans")
    try:
        raw = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise CorpusError(f"key spans {path} cannot be read: {error.strerror}; mend the path under spans.") from None
    return _parse(raw, str(path))


def write_spans(path: str | Path, spans: Iterable[KeySpans]) -> None:
    """Write the spans of one evaluator and setting; the file is replaced as a whole or not at all.

    Raises:
        ValueError: no spans, two settings, or one document twice.
    """
    many = list(spans)
    settings = {tuple(getattr(each, name) for name in SETTINGS) for each in many}
    documents = {each.document_sha256: each.spans for each in many}
    if len(settings) != 1 or len(documents) != len(many):
        raise ValueError(
            f"{len(many)} key spans of {len(settings)} settings and {len(documents)} documents: a file "
            "holds those of one setting, each document once"
        )
    content = {"version": VERSION, **dict(zip(SETTINGS, settings.pop(), strict=True)), "documents": documents}
    path = Path(path)
    write_whole(path.parent, path.name, (json.dumps(content, separators=(",", ":"), sort_keys=False) + "\n").encode())


def select_spans(spans: Mapping[str, KeySpans], documents: Sequence[Document], *, place: str) -> tuple[KeySpans, ...]:
    """The spans of each document, in the order of the documents; `place` names their source in a refusal.

    Raises:
        CorpusError: none for some document, or they reach beyond its end.
    """
    for document in documents:
        if document.sha256 not in spans:
            raise CorpusError(
                f"key spans {place} hold none for document {document.id!r} (sha256 {document.sha256}); compute them "
                "(longppl: {evaluator: ...}) or choose the documents they were made for."
            )
        require_spans_fit(spans[document.sha256], document.sha256, len(document.text), document.id)
    return tuple(spans[document.sha256] for document in documents)


def builtin_spans(
    documents: Sequence[Document], set_name: str, *, folder: Traversable = FOLDER
) -> tuple[KeySpans, ...]:
    """Spans shipped with the package for built-in documents, in their order; made by tools/build_spans.py.

    Raises:
        CorpusError: no such set, or no spans for some document.
    """
    names = sorted(item.name.removesuffix(".json") for item in folder.iterdir()) if folder.is_dir() else []
    if set_name not in names:
        raise CorpusError(f"built-in key spans {set_name!r} are unknown; {choices(set_name, names)}")
    spans = _parse((folder / f"{set_name}.json").read_bytes(), f"built-in set {set_name!r}")
    return select_spans(spans, documents, place=f"built-in set {set_name!r}")


def _parse(raw: bytes, place: str) -> dict[str, KeySpans]:
    def refuse(reason: str) -> NoReturn:
        raise CorpusError(f"key spans {place}: {reason}; make the file anew with ropewalk.")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            refuse("some key is there twice")
        return dict(pairs)

    try:
        content = json.loads(raw, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        refuse(f"not JSON ({str(error).splitlines()[0]})")
    if not isinstance(content, dict):
        refuse(f"must be a mapping, not {type(content).__name__}")
    expected = {"version", *SETTINGS, "documents"}
    if content.keys() != expected:
        missing, unknown = sorted(expected - content.keys()), sorted(content.keys() - expected)
        refuse(f"keys missing: {missing}, unknown: {unknown}")
    if content["version"] != VERSION:
        refuse(f"version {content['version']!r} is not {VERSION}, the one this ropewalk reads")
    try:
        SpanFile.model_validate(content)
    except ValidationError as error:
        name, *document = error.errors()[0]["loc"]
        if document:
            refuse(f"spans of document {str(document[0])[:16]!r} must be a list of [start, end] in whole characters")
        wrong = f"{name}={content[str(name)]!r} has the wrong type"
        refuse("documents must map sha256 to spans" if name == "documents" else wrong)
    settings = {name: content[name] for name in SETTINGS}
    try:
        return {
            sha256: KeySpans(**settings, document_sha256=sha256, spans=tuple((s, e) for s, e in spans))
            for sha256, spans in content["documents"].items()
        }
    except CorpusError as error:
        raise CorpusError(f"{place}: {error}") from None
