"""Documents of the user's own: text files, or rows of a data set on disk. Nothing is downloaded."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropewalk.corpus.documents import Document, choices, local_document, on_disk
from ropewalk.errors import CorpusError
from ropewalk.files import read_regular

if TYPE_CHECKING:
    import pandas as pd

TABLES = (".parquet", ".jsonl", ".csv")
MAX_BYTES = 2**28
"""Of one text file."""
MAX_ENTRIES = 100_000
"""Files and folders that one pattern may reach."""


def file_documents(patterns: Sequence[str], count: int | None = None) -> tuple[Document, ...]:
    """Text files in the order of the patterns, names sorted within each; one document per file.

    A pattern is a path or a glob (`**` descends). A byte-order mark is not part of the text.

    Raises:
        CorpusError: a pattern matches nothing, there are fewer than `count` files, or one is not text.
    """
    paths = list(dict.fromkeys(path for pattern in patterns for path in _matches(pattern)))
    if count is not None and count > len(paths):
        raise CorpusError(f"documents: count={count}, but files {list(patterns)} match only {len(paths)}; lower count.")
    return tuple(
        local_document(_read_text(path), id=path.as_posix(), title=path.stem, kind="file", source=path.as_posix())
        for path in paths[:count]
    )


def _matches(pattern: str) -> list[Path]:
    path = on_disk(pattern, "documents: files")
    if path.is_file():  # before globbing: a file may be called `a[1].txt`
        return [path]
    if path.is_dir():
        raise CorpusError(f"documents: files: {pattern!r} is a directory; write {(path / '*.txt').as_posix()!r}.")
    if "**" in path.parts:
        _require_small(Path(*path.parts[: path.parts.index("**")]), pattern)
    names = list(islice(glob.iglob(str(path), recursive=True), MAX_ENTRIES + 1))
    if len(names) > MAX_ENTRIES:
        raise _too_many(pattern)
    found = sorted(path for path in map(Path, names) if path.is_file())
    if not found:
        raise CorpusError(
            f"documents: files: {pattern!r} matches no file in {Path.cwd()}; mend the path (globs: *, ?, **)."
        )
    return found


def _require_small(root: Path, pattern: str) -> None:
    """Refuse to descend into a disk. Links are followed, as glob does, so that two in a circle have no end."""
    seen = 0
    for _, folders, files in os.walk(root, followlinks=True):
        seen += len(folders) + len(files)
        if seen > MAX_ENTRIES:
            raise _too_many(pattern)


def _too_many(pattern: str) -> CorpusError:
    return CorpusError(
        f"documents: files: {pattern!r} reaches more than {MAX_ENTRIES} files and folders; name a narrower place."
    )


def _read_text(path: Path) -> str:
    try:
        return read_regular(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path.as_posix()} is not UTF-8 text (byte {error.start} is 0x{error.object[error.start]:02x}); "
            "convert it, or choose another file."
        ) from None
    except OSError as error:
        raise CorpusError(f"{path.as_posix()} cannot be read: {error.strerror}; mend its permissions.") from None


def dataset_documents(
    path: str, column: str = "text", *, split: str | None = None, count: int | None = None
) -> tuple[Document, ...]:
    """Rows of a data set: a directory of `datasets.save_to_disk`, or one .parquet, .jsonl or .csv file.

    Args:
        path: the directory or file.
        column: holds the text.
        split: which one, where the directory holds several.
        count: take the first so many rows; None: all.

    Raises:
        CorpusError: nothing there, not a data set, no such column or split, too few rows, or a row without text.
    """
    place = on_disk(path, "documents: dataset")
    if not (place.is_dir() or place.is_file()):
        raise CorpusError(
            f"documents: dataset: nothing at {path!r}; name a file or a directory of "
            "datasets.save_to_disk, or OWNER/NAME on the Hub."
        )
    if place.is_dir():
        rows = _saved_rows(place, column, split, count)
    elif split is not None:
        raise CorpusError(f"documents: split={split!r}, but {path!r} is one file; leave split out.")
    else:
        rows = _table_rows(place, column, count)
    if count is not None and count > len(rows):
        raise CorpusError(f"documents: count={count}, but dataset {path!r} has {len(rows)} rows; lower count.")
    if not rows:
        raise CorpusError(f"documents: dataset {path!r} has no rows; choose another.")
    return tuple(
        _row_document(text, place=place, source=f"{place.as_posix()} (column {column!r}, row {i})", row=i)
        for i, text in enumerate(rows)
    )


def _row_document(text: object, *, place: Path, source: str, row: int) -> Document:
    if not isinstance(text, str):
        raise CorpusError(f"{source} holds {type(text).__name__}, not text; choose another column or drop the row.")
    name = f"{place.stem}-{row}"
    return local_document(text, id=name, title=name, kind="dataset", source=source)


def _saved_rows(place: Path, column: str, split: str | None, count: int | None) -> list[object]:
    try:
        from datasets import DatasetDict, load_from_disk
    except ImportError:
        raise CorpusError(
            f"documents: reading the data set {place.as_posix()!r} needs the package datasets: "
            "pip install 'ropewalk[datasets]'."
        ) from None
    try:
        data: Any = load_from_disk(str(place))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            f"documents: dataset: {place.as_posix()!r} is no directory of datasets.save_to_disk "
            f"({str(error).splitlines()[0]}); save it again, or give one {', '.join(TABLES)} file."
        ) from None
    if isinstance(data, DatasetDict):
        if split not in data:
            raise CorpusError(
                f"documents: split={split!r} is not in {place.as_posix()!r}; {choices(split, map(str, data))}"
            )
        data = data[split]
    elif split is not None:
        raise CorpusError(f"documents: split={split!r}, but {place.as_posix()!r} has no splits; leave split out.")
    _require_column(column, data.column_names, place)
    return list(data.select(range(len(data) if count is None else min(count, len(data))))[column])


def _table_rows(place: Path, column: str, count: int | None) -> list[object]:
    if place.suffix not in TABLES:
        raise CorpusError(
            f"documents: dataset: {place.as_posix()!r} is no {', '.join(TABLES)} file; plain text goes under files."
        )
    try:
        table = _read_table(place, count)
    except ImportError:
        raise CorpusError(f"reading {place.as_posix()} needs pyarrow: pip install 'ropewalk[datasets]'.") from None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorpusError(f"{place.as_posix()} cannot be read as {place.suffix[1:]} ({reason}); repair it.") from None
    _require_column(column, [str(name) for name in table.columns], place)
    return list(table[column].tolist()[:count])


def _read_table(place: Path, count: int | None) -> pd.DataFrame:
    import pandas as pd

    match place.suffix:
        case ".parquet":
            return pd.read_parquet(place)
        case ".jsonl":  # not pandas.read_json, which guesses dates and numbers
            with place.open(encoding="utf-8-sig") as lines:  # a byte-order mark is no part of the first row
                rows = (json.loads(line) for line in lines if line.strip())
                return pd.DataFrame(list(islice(rows, count)), dtype=object)
        case _:
            return pd.read_csv(place, nrows=count, dtype=str, keep_default_na=False)


def _require_column(column: str, columns: Sequence[str], place: Path) -> None:
    if column not in columns:
        raise CorpusError(f"documents: column={column!r} is not in {place.as_posix()!r}; {choices(column, columns)}")
