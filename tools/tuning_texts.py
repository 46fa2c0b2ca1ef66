"""Texts to tune strand on that share nothing with the built-in documents: OUT of tools/long_texts.py -> a folder.

    python tools/tuning_texts.py OUT texts

writes the first 60,000 characters of each of sixteen plays, yearly messages and manuals that are not built in. A text
that shares a run of twelve words with a built-in document is left out, and said.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from ropewalk.corpus.builtin import builtin_documents

CHARACTERS, RUN, COUNT = 60_000, 12, 16


def runs(text: str) -> set[tuple[str, ...]]:
    """Every run of RUN words, in lower case and without punctuation."""
    words = re.findall(r"[a-z0-9']+", text.lower())
    return {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}


def apart(folder: Path) -> Iterator[tuple[str, str]]:
    """Names and beginnings of the texts that share no run with a built-in document."""
    known = set[tuple[str, ...]]().union(*(runs(each.text) for each in builtin_documents()))
    for path in [*sorted((folder / "long").glob("*-to-*.txt")), *sorted((folder / "manuals").glob("*.txt"))]:
        text = path.read_text()[:CHARACTERS]
        if shared := runs(text) & known:
            print(f"{path.name}: left out, {len(shared)} runs of {RUN} words are built in")
        else:
            yield path.name, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for _, (name, text) in zip(range(COUNT), apart(given.folder), strict=False):
        (given.out / name).write_text(text)
        print(name)


if __name__ == "__main__":
    main()
