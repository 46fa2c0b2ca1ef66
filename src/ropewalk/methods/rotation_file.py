"""The file of a searched rotation: one divisor per pair and a temperature, as JSON with a schema version.

Nothing writes such files any more; those that were written, and runs that recorded them, are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import InstanceOf, ValidationError
from typing_extensions import override

from ropewalk.errors import MethodError, short
from ropewalk.files import read_regular
from ropewalk.methods.file_content import FileContent
from ropewalk.methods.parameters import Kind, Number, Numbers

SCHEMA = 1
MAX_FILE_BYTES = 1_000_000
KEYS = ("schema", "rope_theta", "lambda", "attention_factor")
NOTE = "note"
"""A key that says where a file comes from; it is no part of what the file is."""
VALUES = {
    "rope_theta": Number(above=1, doc="the base"),
    "lambda": Numbers(optional=False, doc="per pair"),
    "attention_factor": Number(above=0, doc="A"),
}
REMEDY = "name a winner.json of a search, or use tuned with a file of ropewalk tune"


@dataclass(frozen=True, slots=True, kw_only=True)
class Divisors:
    """What a file holds.

    Attributes:
        rope_theta: the base that the divisors are meant for.
        divisors: lambda per pair.
        attention_factor: multiplies cos and sin.
    """

    rope_theta: float
    divisors: tuple[float, ...]
    attention_factor: float

    def plain(self) -> dict[str, Any]:
        """The content as JSON values."""
        values = (SCHEMA, self.rope_theta, list(self.divisors), self.attention_factor)
        return dict(zip(KEYS, values, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationFile(FileContent):
    """What the file of a searched rotation holds."""

    method = "searched"
    made = Divisors
    range = "the path of a JSON file, or its content as a mapping"
    annotation = InstanceOf[Divisors]

    @override
    def content(self, raw: Mapping[Any, Any], place: str) -> Divisors:
        return content(raw, place)

    @override
    def read(self, name: str) -> Divisors:
        return content(_read(name), name)


def _read(name: str) -> object:
    try:
        return json.loads(read_regular(Path(name), MAX_FILE_BYTES).decode())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise MethodError(f"searched: file={short(name)} cannot be read ({reason}); {REMEDY}.") from None


def content(raw: object, place: str) -> Divisors:
    """Check what a file holds.

    Raises:
        MethodError: a newer schema, a key that is missing or unknown, or a value that cannot be.
    """
    if not isinstance(raw, Mapping) or set(raw) - {NOTE} != set(KEYS):
        keys = f"{short(sorted(map(str, raw)))} as keys" if isinstance(raw, Mapping) else "no mapping"
        raise MethodError(f"searched: {short(place)} has {keys}, and {', '.join(KEYS)} are needed; {REMEDY}.")
    if raw["schema"] != SCHEMA or isinstance(raw["schema"], bool):
        raise MethodError(
            f"searched: {short(place)} has schema {short(raw['schema'])}, this ropewalk reads {SCHEMA}; {REMEDY}."
        )
    values = {name: _admitted(kind, raw[name], name, place) for name, kind in VALUES.items()}
    return Divisors(
        rope_theta=values["rope_theta"], divisors=values["lambda"], attention_factor=values["attention_factor"]
    )


def _admitted(kind: Kind, value: object, name: str, place: str) -> Any:
    try:
        return kind.admit(value)
    except ValidationError:
        raise MethodError(
            f"searched: {short(place)} has {name} {short(value)}, which must be {kind.range}; {REMEDY}."
        ) from None
