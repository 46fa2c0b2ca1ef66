"""A parameter that is what a file holds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from typing_extensions import override

from ropewalk.errors import MethodError, short
from ropewalk.methods.parameters import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent(Kind):
    """The content of a file, or in what a user writes its path: `inline` reads it, and nothing later does, so that a
    file that changes is another value and what others recorded opens none.

    Attributes:
        method: whose parameter it is, for refusals.
        made: the type of the content, which has `plain`.
    """

    type = "file"
    method: ClassVar[str]
    made: ClassVar[Any]

    @abstractmethod
    def content(self, raw: Mapping[Any, Any], place: str) -> Any:
        """The content out of JSON values. Raises MethodError where it cannot be."""

    @abstractmethod
    def read(self, name: str) -> Any:
        """The content of a file. Raises MethodError where it cannot be read."""

    @override
    def admit(self, value: object) -> Any:
        if isinstance(value, str) and value:
            raise MethodError(
                f"{self.method}: file={short(value)} names a file, and only an experiment file or an argument may; "
                "give its content."
            )
        return self.content(value, "file") if isinstance(value, Mapping) else Kind.admit(self, value)

    @override
    def plain(self, value: Any) -> Any:
        return value.plain() if isinstance(value, self.made) else value

    @override
    def inline(self, value: object) -> object:
        if isinstance(value, list):
            return [self.inline(each) for each in value]
        return self.read(value).plain() if isinstance(value, str) and value else value
