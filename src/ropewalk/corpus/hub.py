"""Documents out of a data set of the Hugging Face Hub, pinned to the commit that was read."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import Any

from ropewalk.corpus.documents import Document, choices, local_document
from ropewalk.errors import CorpusError

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")
FILES = (".parquet", ".jsonl", ".csv", ".json", ".txt")
MAX_ROWS = 100_000


def is_on_hub(name: str) -> bool:
    """Whether a name that is nothing on this disk is written as `OWNER/NAME`."""
    return NAME.fullmatch(name) is not None and not name.endswith(FILES) and not Path(name).exists()


def hub_documents(
    name: str, column: str = "text", *, split: str | None = None, revision: str | None = None, count: int | None = None
) -> tuple[Document, ...]:
    """Rows of a data set, in its order; only as much is downloaded as `count` rows take.

    Args:
        name: `OWNER/NAME`.
        column: holds the text.
        split: None takes the only one.
        revision: branch, tag or commit; None takes main. Each document's source names the commit.
        count: take the first so many rows; None: all.

    Raises:
        CorpusError: no network, no such data set, column or split, too few rows, or a row without text.
    """
    try:
        import datasets
        from huggingface_hub import HfApi, constants
    except ImportError:
        raise CorpusError(
            f"documents: reading {name!r} from the Hub needs the package datasets: pip install 'ropewalk[datasets]'."
        ) from None
    if constants.HF_HUB_OFFLINE:
        raise CorpusError(
            f"documents: dataset={name!r}: HF_HUB_OFFLINE is set, so nothing is asked of the Hub; unset it, or save "
            "the data set where there is a network with datasets.load_dataset(...).save_to_disk(PATH) and name PATH."
        )
    try:
        commit = HfApi().dataset_info(name, revision=revision).sha
        splits = datasets.get_dataset_split_names(name, revision=commit)
        chosen = _split(name, split, splits)
        rows = datasets.load_dataset(name, split=chosen, revision=commit, streaming=True)
        texts = [row.get(column, row) for row in islice(rows, MAX_ROWS if count is None else count)]
    except CorpusError:
        raise
    except Exception as error:  # of three libraries and the network, which share no class
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise CorpusError(
            f"documents: dataset={name!r} (revision {revision or 'main'}) cannot be had from the Hub ({said}); check "
            "the name and the network, or save it with datasets.load_dataset(...).save_to_disk(PATH) and name PATH."
        ) from error
    if count is not None and len(texts) < count:
        raise CorpusError(f"documents: count={count}, but dataset {name!r} has {len(texts)} rows; lower count.")
    if not texts:
        raise CorpusError(f"documents: dataset {name!r} has no rows; choose another.")
    place = f"hub {name}@{commit} (split {chosen!r}, column {column!r}"
    return tuple(_document(name, text, column, f"{place}, row {row})", row) for row, text in enumerate(texts))


def _split(name: str, split: str | None, splits: list[str]) -> str:
    if split is None and len(splits) == 1:
        return splits[0]
    if split not in splits:
        raise CorpusError(f"documents: split={split!r} is not in {name!r}; {choices(split, splits)}")
    return split


def _document(name: str, text: Any, column: str, source: str, row: int) -> Document:
    if isinstance(text, dict):
        raise CorpusError(f"documents: column={column!r} is not in {name!r}; {choices(column, [str(k) for k in text])}")
    if not isinstance(text, str):
        raise CorpusError(f"{source} holds {type(text).__name__}, not text; choose another column or drop the row.")
    title = f"{name.rpartition('/')[2]}-{row}"
    return local_document(text, id=title, title=title, kind="dataset", source=source)
