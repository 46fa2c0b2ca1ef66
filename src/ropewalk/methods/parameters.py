"""What one parameter of a method may be: kind, range, meaning. Anything else is refused, nothing is repaired."""

from __future__ import annotations

import math
import numbers
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LARGEST = 1e15
"""Beyond this a parameter is a slip of the keyboard; it also keeps every formula finite in float64."""


class Refused(ValueError):
    """A value outside the range of its parameter; the caller knows the place and writes the sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(ABC):
    """The range and the meaning of one parameter.

    Attributes:
        doc: one line, what the parameter does, with its unit.
        remedy: what to do instead of a refused value; empty means "leave it out for the default".
    """

    doc: str
    remedy: str = ""

    @property
    @abstractmethod
    def type(self) -> str:
        """The JSON type: number, integer, boolean, string or list of numbers."""

    @property
    @abstractmethod
    def range(self) -> str:
        """What is admitted, to follow the words "must be"."""

    @abstractmethod
    def admit(self, value: object) -> Any:
        """The value as it is stored (numbers as float, lists as tuple). Raises Refused."""

    def plain(self, value: Any) -> Any:
        """A stored value as JSON."""
        return list(value) if isinstance(value, tuple) else value

    def inline(self, value: object) -> object:
        """A written value (or an axis of them) with the content of files in place of their paths."""
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Number(Kind):
    """A finite number within bounds, or one of a few words (`auto`), or null where None means "not given"."""

    minimum: float | None = None
    above: float | None = None
    maximum: float = LARGEST
    words: tuple[str, ...] = ()
    optional: bool = False

    @property
    def type(self) -> str:
        return "number"

    @property
    def range(self) -> str:
        low = f">= {self.minimum:g}" if self.minimum is not None else f"> {self.above:g}"
        extra = [repr(word) for word in self.words] + ["null"] * self.optional
        return " or ".join([f"a number {low} and <= {self.maximum:g}", *extra])

    def admit(self, value: object) -> float | str | None:
        if (value is None and self.optional) or (isinstance(value, str) and value in self.words):
            return value
        number = finite(value)
        too_low = number < self.minimum if self.minimum is not None else number <= (self.above or 0.0)
        if too_low or number > self.maximum:
            raise Refused
        return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens(Kind):
    """A whole number of tokens, or null."""

    @property
    def type(self) -> str:
        return "integer"

    @property
    def range(self) -> str:
        return f"a whole number >= 1 and <= {LARGEST:g} or null"

    def admit(self, value: object) -> int | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 1 <= int(value) <= LARGEST:
            raise Refused
        return int(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Kind):
    """One of a few words."""

    options: tuple[str, ...]

    @property
    def type(self) -> str:
        return "string"

    @property
    def range(self) -> str:
        return " or ".join(repr(option) for option in self.options)

    def admit(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.options:
            raise Refused
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag(Kind):
    """True or false."""

    @property
    def type(self) -> str:
        return "boolean"

    @property
    def range(self) -> str:
        return "true or false"

    def admit(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise Refused
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers(Kind):
    """A list of finite numbers > 0, one per rotated pair, or null."""

    @property
    def type(self) -> str:
        return "list of numbers"

    @property
    def range(self) -> str:
        return f"a list of numbers > 0 and <= {LARGEST:g} or null"

    def admit(self, value: object) -> tuple[float, ...] | None:
        if value is None:
            return None
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise Refused
        entries = tuple(finite(entry) for entry in value)
        if not all(0 < entry <= LARGEST for entry in entries):
            raise Refused
        return entries


def finite(value: object) -> float:
    """A real number as a finite float; booleans, strings, NaN and infinities are Refused."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise Refused
    try:
        number = float(value)
    except OverflowError:
        raise Refused from None
    if not math.isfinite(number):
        raise Refused
    return number


def short(value: object) -> str:
    """A value as an error message shows it: `repr`, cut to a line."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return f"a very large {type(value).__name__}"
