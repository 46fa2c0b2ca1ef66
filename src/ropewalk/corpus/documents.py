"""A document: a text that is what it says it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ropewalk.errors import CorpusError, nearest

PART = 2**20
"""Characters of a text that are encoded at a time."""


def on_disk(name: str | Path, key: str) -> Path:
    """A path as the user wrote it, `~` expanded; `key` names its place in a refusal.

    Raises:
        CorpusError: it names the home of a user that does not exist, or holds a NUL.
    """
    if "\0" in str(name):
        raise CorpusError(f"{key}: {str(name)!r} holds a NUL, which no path does; mend the path.")
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise CorpusError(f"{key}: {str(name)!r} names a home directory that does not exist; write the path.") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text and where it comes from.

    Attributes:
        id: unique within a run; rows of results are named after it.
        kind: "novel", "play", ... for built-in documents, else "file" or "dataset".
        source: package, version and file; or path, column and row.
        licence: why it may be used, as far as known.
        sha256: of the text in UTF-8, 64 hex digits.

    Raises:
        CorpusError: the text is empty, is not text, or does not have that hash.
    """

    id: str
    title: str
    kind: str
    source: str
    licence: str
    sha256: str
    text: str

    def __post_init__(self) -> None:
        found = text_sha256(self.text, place=self.source)
        if found != self.sha256:
            raise CorpusError(
                f"document {self.id!r} ({self.source}) has been altered: its sha256 is {found}, "
                f"expected {self.sha256}; restore the text, or reinstall ropewalk if it is a built-in one."
            )


def text_sha256(text: str, *, place: str) -> str:
    """Hash of a text in UTF-8, 64 hex digits.

    Raises:
        CorpusError: the text is empty or blank, or has characters that no text has; the message names `place`.
    """
    if not text or text.isspace():
        raise CorpusError(f"{place} is empty: a document needs text; leave it out or mend it.")
    if "\0" in text:
        raise CorpusError(
            f"{place} is binary (NUL at character {text.index(chr(0))}): documents are plain text in UTF-8."
        )
    digest = hashlib.sha256()
    for start in range(0, len(text), PART):
        try:
            digest.update(text[start : start + PART].encode())
        except UnicodeEncodeError as error:
            raise CorpusError(
                f"{place} has half a surrogate pair at character {start + error.start}, which UTF-8 cannot hold; "
                "repair its encoding at the source."
            ) from None
    return digest.hexdigest()


def local_document(text: str, *, id: str, title: str, kind: str, source: str) -> Document:
    """A document of the user's own; ropewalk cannot know its licence."""
    sha256 = text_sha256(text, place=source)
    return Document(id=id, title=title, kind=kind, source=source, licence="not known", sha256=sha256, text=text)


def refuse_duplicates(documents: Sequence[Document]) -> None:
    """Two documents of one text would count one observation twice.

    Raises:
        CorpusError: naming both.
    """
    seen: dict[str, Document] = {}
    for document in documents:
        first = seen.setdefault(document.sha256, document)
        if first is not document:
            raise CorpusError(
                f"documents {first.id!r} and {document.id!r} are the same text (sha256 {document.sha256}): "
                "it would count twice as evidence; remove one."
            )


def choices(name: object, names: Iterable[str]) -> str:
    """The end of a refusal: the nearest valid name, if one is near, and all of them."""
    known = list(names)
    close = nearest(name, known)
    return (f"did you mean {close!r}? There" if close else "there") + f" are: {', '.join(known) or 'none'}."
