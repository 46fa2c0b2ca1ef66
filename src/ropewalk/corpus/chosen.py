"""Which documents, as the user says it: the `documents` mapping of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from ropewalk.corpus.documents import choices
from ropewalk.errors import CorpusError
from ropewalk.validation import sentence

SENTENCES = {
    "known": "leave it out; there are: {known}.",
    "near": "did you mean {near!r}? There are: {known}.",
    "unknown": "key {where!r} is unknown; {hint}",
    "value_error": "{where}={value} {message}.",
}
WAYS = "write {corpus: builtin}, {files: [...]} or {dataset: PATH}"


def _or(say: Callable[[Any], str]) -> WrapValidator:
    """Whatever a value is refused for, in the words of its key."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(say(value)) from None

    return WrapValidator(check)


def _must(be: str) -> WrapValidator:
    return _or(lambda value: f"must be {be}")


Some: TypeAlias = Annotated[int, Field(ge=1, strict=True)]
Text: TypeAlias = Annotated[str, Field(min_length=1, strict=True)]
Words: TypeAlias = Annotated[Text, _must("a text that is not empty; put it in quotes")]


class Chosen(BaseModel):
    """What every source of documents takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    count: Annotated[Some | None, _must("a whole number >= 1; leave it out to take all")] = None
    """Take the first so many; all if left out."""
    windows: Annotated[
        Some | Literal["auto"], _must("a whole number >= 1, or auto with tokens: N; leave it out for 1")
    ] = 1
    """Separate stretches read of each document; auto for as many as tokens allow."""
    tokens: Annotated[Some | None, _must("a whole number >= 1; write how many windows: auto may read in all")] = None
    """What windows: auto may read in all."""

    @model_validator(mode="after")
    def _auto_has_tokens(self) -> Chosen:
        if self.windows == "auto" and self.tokens is None:
            raise ValueError("windows: auto needs tokens: N, how many to read in all; got tokens=None")
        if self.windows != "auto" and self.tokens is not None:
            raise ValueError(f"tokens={self.tokens} is what windows: auto may read; write that, or leave it out")
        return self


class Builtin(Chosen):
    """Books of the package."""

    corpus: Annotated[Literal["builtin"], _or(lambda value: f"is unknown; {choices(value, ['builtin'])[:-1]}")]
    """17 texts in the public domain that come with the package."""


class Files(Chosen):
    """Texts of the user's own."""

    files: Annotated[
        Text | Annotated[list[Text], Field(min_length=1)],
        _must("a list of paths or globs, such as ['books/*.txt']"),
    ]
    """Paths or globs of UTF-8 text files, one document each; ** descends."""


class Dataset(Chosen):
    """Rows of a data set, on disk or on the Hub."""

    dataset: Words
    """Directory of datasets.save_to_disk, a .parquet, .jsonl or .csv file, or OWNER/NAME of the Hub."""
    column: Words = "text"
    """The column of a data set that holds the text."""
    split: Words | None = None
    """Of a data set, where it has several."""
    revision: Words | None = None
    """Branch, tag or commit of a data set on the Hub; main if left out."""


Source: TypeAlias = Builtin | Files | Dataset
SOURCES: Mapping[str, type[Source]] = {"corpus": Builtin, "files": Files, "dataset": Dataset}
"""By the key that says which it is."""


def keys(source: type[Chosen]) -> list[str]:
    """What a source takes, its own keys first."""
    return sorted(source.model_fields, key=lambda name: name in Chosen.model_fields)


def chosen(spec: object) -> Source:
    """The `documents` mapping of an experiment, checked.

    Raises:
        CorpusError: no source or several, an unknown key, or a value that cannot be.
    """
    if not isinstance(spec, Mapping):
        raise CorpusError(f"documents={spec!r} must be a mapping; {WAYS}.")
    named = [name for name in SOURCES if name in spec]
    if len(named) > 1:
        raise CorpusError(f"documents has {' and '.join(named)}, which are different sources; keep one.")
    if not named:
        unknown = next((key for key in spec if key not in Chosen.model_fields), None)
        said = f": key {unknown!r} is unknown; {choices(unknown, SOURCES)}" if unknown else f" names no source; {WAYS}."
        raise CorpusError(f"documents{said}")
    source = SOURCES[named[0]]
    try:
        return source.model_validate({str(key): value for key, value in spec.items()})
    except ValidationError as error:
        raise CorpusError(f"documents: {sentence(error, lambda _: dict.fromkeys(keys(source)), SENTENCES)}") from None
