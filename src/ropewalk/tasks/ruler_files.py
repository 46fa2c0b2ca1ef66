"""Samples that RULER's own preparation wrote (github.com/NVIDIA/RULER), read and judged by its rules; nothing is made
again, so whatever dialect wrote such files is scored as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ropewalk.corpus.documents import on_disk
from ropewalk.errors import ExperimentError
from ropewalk.files import read_regular, sha256

NEW_TOKENS = {"niah": 128, "vt": 30, "cwe": 120, "fwe": 50, "qa": 32}
"""New tokens of an answer, by the beginning of a task's name."""

ANY = "qa"
"""Whose references are alternatives."""

MAX_BYTES = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One sample: `prompt` is its input with the answer's beginning; `tokens` what was counted, answer included."""

    task: str
    place: str
    index: int
    prompt: str
    outputs: tuple[str, ...]
    tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """The samples of a task at a length: `<length>/.../<task>/<any>.jsonl` somewhere in the folder."""

    path: Path
    task: str
    length: int


def kind(task: str) -> str:
    """Which of RULER's five kinds a task is of."""
    return task.split("_")[0]


def new_tokens(task: str) -> int:
    """How many tokens an answer may have."""
    return NEW_TOKENS[kind(task)]


def files(folder: str, length: int | None = None) -> list[File]:
    """The files of a folder, sorted by length and task; of one length if given.

    Raises:
        ExperimentError: there are none; a file does not say in its path which task or length it is of, or a task has
            several files at a length.
    """
    root = on_disk(folder, "metrics.ruler.files")
    found = sorted((_named(root, path) for path in root.rglob("*.jsonl")), key=lambda file: (file.length, file.task))
    if not found:
        raise ExperimentError(
            f"metrics.ruler.files: {folder!r} holds no .jsonl file; give the folder that RULER's prepare.py wrote to, "
            "with a folder per length in it."
        )
    for one, other in pairwise(found):
        if (one.length, one.task) == (other.length, other.task):
            raise ExperimentError(
                f"metrics.ruler.files: {one.path} and {other.path} are both {one.task} at {one.length}; leave one."
            )
    lengths = sorted({file.length for file in found})
    if length is not None and length not in lengths:
        raise ExperimentError(
            f"metrics.ruler.files: {folder!r} has no files for {length} tokens (there are: "
            f"{', '.join(map(str, lengths))}); prepare them with --max_seq_length {length}, or drop that length."
        )
    return [file for file in found if length in (None, file.length)]


def _named(root: Path, path: Path) -> File:
    folders = path.relative_to(root).parts[:-1]
    lengths = [int(part) for part in folders if part.isdecimal()]
    task = folders[-1] if folders else ""
    if kind(task) not in NEW_TOKENS:
        raise ExperimentError(
            f"metrics.ruler.files: {path} is in no folder named after a task of RULER ({', '.join(NEW_TOKENS)}, as in "
            "niah_single_1); keep the folders that prepare.py makes."
        )
    if len(lengths) != 1:
        raise ExperimentError(
            f"metrics.ruler.files: the path of {path} names {len(lengths)} lengths, and one is needed; put the files "
            "of a length into a folder named after it, such as 4096."
        )
    return File(path=path, task=task, length=lengths[0])


def digest(file: File) -> str:
    """16 hex digits of what a file holds."""
    return sha256(_bytes(file))[:16]


def _bytes(file: File) -> bytes:
    try:
        return read_regular(file.path, MAX_BYTES)
    except OSError as error:
        raise ExperimentError(
            f"metrics.ruler.files: {file.path} cannot be read ({error.strerror or error}); mend its permissions, or "
            "take it out of the folder."
        ) from None


def lines(file: File, limit: int | None = None) -> list[Line]:
    """The samples of a file, the first `limit` of them.

    Raises:
        ExperimentError: a line is no sample; the message names file, line and what is wrong.
    """
    found = list[Line]()
    for number, raw in enumerate(_texts(file), start=1):
        if limit is not None and len(found) == limit:
            break
        place = f"{file.path}:{number}"
        try:
            values = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise _damaged(place, f"is no JSON ({error})") from None
        found.append(_line(values, file.task, place))
    if not found:
        raise _damaged(str(file.path), "is empty")
    return found


def _texts(file: File) -> Iterator[str]:
    try:
        text = _bytes(file).decode()
    except UnicodeDecodeError as error:
        raise _damaged(str(file.path), f"is not UTF-8 text (byte {error.start})") from None
    return (raw for raw in text.split("\n") if raw.strip())


def _line(values: Any, task: str, place: str) -> Line:
    if not isinstance(values, Mapping):
        raise _damaged(place, "is no JSON object")
    index, prompt, outputs = (values.get(key) for key in ("index", "input", "outputs"))
    prefix, tokens = values.get("answer_prefix", ""), values.get("length")
    if not isinstance(index, int) or not isinstance(prompt, str) or not isinstance(prefix, str):
        raise _damaged(place, "lacks `index` (a number), or its `input` or `answer_prefix` is no text")
    if not isinstance(outputs, list) or not outputs or not all(isinstance(each, str) and each for each in outputs):
        raise _damaged(place, f"has `outputs` {outputs!r:.60}, not a list of texts")
    if not (tokens is None or (isinstance(tokens, int) and tokens > 0)):
        raise _damaged(place, f"has `length` {tokens!r:.20}, not a count of tokens")
    return Line(task=task, place=place, index=index, prompt=prompt + prefix, outputs=tuple(outputs), tokens=tokens)


def _damaged(place: str, why: str) -> ExperimentError:
    return ExperimentError(f"metrics.ruler.files: {place} {why}; prepare the file again with RULER's prepare.py.")


def judge(task: str, outputs: Sequence[str], said: str) -> float:
    """RULER's score of one answer, 0 to 1: of a qa task whether any reference stands in it, else the share that does,
    whatever their case, anywhere."""
    text = re.sub(r"[\x00-\x1f]", "\n", said.strip()).strip().lower()
    hits = [each.lower() in text for each in outputs]
    return float(any(hits)) if kind(task) == ANY else sum(hits) / len(hits)


def fault(line: Line, file: File, count: int) -> str | None:
    """Why a sample does not belong to a tokenizer and a length; None if it does.

    Args:
        line: of the file.
        file: says for which length.
        count: tokens of its prompt under the tokenizer, special ones left out, as upstream counts.
    """
    room = new_tokens(line.task)
    if line.tokens is not None and count + room != line.tokens:
        return (
            f"{line.place} was prepared with another tokenizer: its prompt has {count} tokens here and "
            f"{line.tokens - room} there; prepare the files with this model's tokenizer"
        )
    if count + room > file.length:
        return (
            f"{line.place} takes {count + room} tokens, answer included, more than the {file.length} of its "
            "folder; prepare the files again with --max_seq_length as that folder is called"
        )
    return None


def check(folder: str, encode: Callable[[str], Sequence[int]], limit: int | None = None) -> list[str]:
    """What is wrong with the files of a folder under a tokenizer: a sentence for every file at fault; empty if none.

    Raises:
        ExperimentError: as `files` does.
    """
    found = list[str]()
    for file in files(folder):
        try:
            every = lines(file, limit)
        except ExperimentError as error:
            found.append(str(error))
            continue
        faults = [why for line in every if (why := fault(line, file, len(encode(line.prompt)))) is not None]
        if faults:
            found.append(f"{faults[0]} ({len(faults)} of {len(every)} lines).")
    return found
