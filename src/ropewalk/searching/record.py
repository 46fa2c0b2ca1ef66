"""What a search has measured, a line of JSON an answer: to go on with the record of somebody else runs nothing of it.

    {"identity": {...}}                                                     what is searched for; the first line
    {"study": "seed 0", "candidate": 3, "values": [...], "outcome": {...}}  what a candidate did

Optuna's own storage keeps the state of its samplers as pickles, which run whatever they say, so a study lives in
memory. A search that goes on asks for the same candidates again and takes from here what was measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ropewalk.errors import StoreError
from ropewalk.experiment.store import writing
from ropewalk.files import open_own, read_inside
from ropewalk.searching.objective import Outcome

FILE = "search.jsonl"
MAX_BYTES = 2**29


class Answer(BaseModel):
    """What a candidate did, or the reason why that is not known.

    Attributes:
        study: of which repeat it is one, or of the named methods.
        candidate: its number, or the label of a named method.
        values: its coordinates in [-1, 1].
        objective: an estimate if racing ended it.
        wall_s: its share of the time that its batch took.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, ser_json_inf_nan="constants")

    study: str
    candidate: int | str
    values: tuple[float, ...] = ()
    outcome: Outcome | None = None
    reason: str | None = None
    objective: float | None = None
    wall_s: float = 0.0

    @model_validator(mode="after")
    def _fits_together(self) -> Answer:
        """An outcome has as many short losses for each document, and counts tokens."""
        if (found := self.outcome) is not None:
            ragged = len(found.short_DL) != len(found.long_D) or len({len(each) for each in found.short_DL}) > 1
            if not found.long_D or ragged or any(count < 1 for _, count in found.keys_D):
                raise ValueError("its outcome does not fit together")
        return self


class _First(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    identity: dict[str, Any]


@dataclass(slots=True)
class Record:
    """An open record; what is added is in the file before `add` returns, and survives a kill.

    Attributes:
        identity: what is searched for; None in a new record.
        answers: by study, then by candidate.
    """

    directory: Path
    _file: IO[bytes]
    identity: Any = None
    answers: dict[str, dict[int | str, Answer]] = field(default_factory=dict)

    def of(self, study: str) -> Mapping[int | str, Answer]:
        """The answers of one study."""
        return self.answers.get(study, {})

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Record what is searched for."""
        self.identity = json.loads(json.dumps(identity))
        self._write(json.dumps({"identity": self.identity}))

    def add(self, answer: Answer) -> None:
        self._write(answer.model_dump_json())
        self.answers.setdefault(answer.study, {})[answer.candidate] = answer

    def _write(self, line: str) -> None:
        with writing(self.directory):
            self._file.write(f"{line}\n".encode())
            self._file.flush()


@contextmanager
def opened(directory: Path) -> Iterator[Record]:
    """The record of a directory, made if it is not there.

    Raises:
        StoreError: it is a link, no file, or holds what no search writes.
    """
    with writing(directory):
        file = os.fdopen(open_own(directory, FILE), "r+b")
    with file:
        record = Record(directory, file)
        with writing(directory):
            *whole, torn = read_inside(directory, FILE, MAX_BYTES).split(b"\n")
        for number, line in enumerate(whole, start=1):
            try:
                _read(record, line)
            except (ValidationError, ValueError, RecursionError) as error:
                raise _damaged(directory, number) from error
        file.seek(-len(torn), os.SEEK_END)  # a kill cut it off
        file.truncate()
        yield record


def _read(record: Record, line: bytes) -> None:
    if record.identity is None and line.startswith(b'{"identity"'):
        record.identity = _First.model_validate_json(line).identity
        return
    answer = Answer.model_validate_json(line)
    record.answers.setdefault(answer.study, {})[answer.candidate] = answer


def _damaged(directory: Path, number: int) -> StoreError:
    return StoreError(
        f"{directory / FILE}:{number}: is nothing that a search writes; restore it, or choose another --out."
    )
