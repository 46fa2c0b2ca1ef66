"""What one parameter of a method may be: a type that pydantic checks, and words. Nothing is repaired."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Union

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, Strict, TypeAdapter
from typing_extensions import override

LARGEST = 1e15
"""Beyond this a parameter is a slip of the keyboard; it also keeps every formula finite in float64."""

Plain = BeforeValidator(lambda value: value.item() if isinstance(value, np.generic) else value)
"""Numpy's numbers are taken as Python's."""
LITERAL: Any = Literal
UNION: Any = Union
"""For types that are put together while the program runs, which type checkers do not take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(ABC):
    """The type and the meaning of one parameter.

    Attributes:
        doc: one line, what the parameter does, with its unit.
        remedy: what to do instead of a refused value; empty means "leave it out for the default".
        type: the JSON type: number, integer, boolean, string or list of numbers.
    """

    doc: str
    remedy: str = ""
    type: ClassVar[str]

    @property
    @abstractmethod
    def range(self) -> str:
        """What is admitted, to follow the words "must be"."""

    @property
    @abstractmethod
    def annotation(self) -> Any:
        """The type, as pydantic checks it."""

    def admit(self, value: object) -> Any:
        """The value as it is stored (numbers as float, lists as tuple). Raises pydantic's ValidationError."""
        return adapter(self).validate_python(value)

    def plain(self, value: Any) -> Any:
        """A stored value as JSON."""
        return list(value) if isinstance(value, tuple) else value

    def inline(self, value: object) -> object:
        """A written value (or an axis of them) with the content of files in place of their paths."""
        return value


@cache
def adapter(kind: Kind) -> TypeAdapter[Any]:
    """The compiled check of a Kind."""
    return TypeAdapter(kind.annotation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number(Kind):
    """A finite number within bounds, or one of a few words (`auto`), or null where None means "not given"."""

    minimum: float | None = None
    above: float | None = None
    maximum: float = LARGEST
    words: tuple[str, ...] = ()
    optional: bool = False
    type = "number"

    @property
    @override
    def range(self) -> str:
        low = f">= {self.minimum:g}" if self.minimum is not None else f"> {self.above:g}"
        extra = [repr(word) for word in self.words] + ["null"] * self.optional
        return " or ".join([f"a number {low} and <= {self.maximum:g}", *extra])

    @property
    @override
    def annotation(self) -> Any:
        number = Annotated[float, Strict(), Field(ge=self.minimum, gt=self.above, le=self.maximum), Plain]
        return UNION[(number, *([LITERAL[self.words]] if self.words else []), *[None] * self.optional)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens(Kind):
    """A whole number of tokens, or null where None means "not given"."""

    optional: bool = True
    type = "integer"

    @property
    @override
    def range(self) -> str:
        return f"a whole number >= 1 and <= {LARGEST:g}" + " or null" * self.optional

    @property
    @override
    def annotation(self) -> Any:
        whole = Annotated[int, Strict(), Field(ge=1, le=int(LARGEST)), Plain]
        return UNION[(whole, *[None] * self.optional)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Kind):
    """One of a few words."""

    options: tuple[str, ...]
    type = "string"

    @property
    @override
    def range(self) -> str:
        return " or ".join(repr(option) for option in self.options)

    @property
    @override
    def annotation(self) -> Any:
        return LITERAL[self.options]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag(Kind):
    """True or false."""

    type = "boolean"
    range = "true or false"
    annotation = Annotated[bool, Strict()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers(Kind):
    """A list of finite numbers > 0, one per rotated pair, or null where None means "not given"."""

    optional: bool = True
    type = "list of numbers"

    @property
    @override
    def range(self) -> str:
        return f"a list of numbers > 0 and <= {LARGEST:g}" + " or null" * self.optional

    @property
    @override
    def annotation(self) -> Any:
        entries = Sequence[Annotated[float, Strict(), Field(gt=0, le=LARGEST), Plain]]
        listed = Annotated[entries, Field(min_length=1), AfterValidator(tuple)]
        return listed | None if self.optional else listed
