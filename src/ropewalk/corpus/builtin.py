"""The built-in corpus: public-domain documents in the package, checked against hashes on every reading."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from ropewalk.corpus.documents import Document
from ropewalk.errors import CorpusError
from ropewalk.files import sha256

# Printed by tools/build_corpus.py. It pins the manifest, the manifest pins archive and texts.
MANIFEST_SHA256 = "85a86c56992b272c2082961bf5dac06df37630f0d440892193fa7aca7c250a3a"
FOLDER = files("ropewalk") / "data" / "corpus"


def builtin_documents(count: int | None = None, *, folder: Traversable = FOLDER) -> tuple[Document, ...]:
    """The first `count` built-in documents in manifest order: novel, technical, play, speech, and round again.

    Raises:
        CorpusError: there are not so many, or what is installed is not what was published.
    """
    manifest = read_manifest(folder)
    entries = manifest["documents"]
    if count is not None and count > len(entries):
        raise CorpusError(
            f"documents: count={count}, but the built-in corpus has {len(entries)} documents; "
            f"ask for at most {len(entries)}, or bring your own with files or dataset."
        )
    archive = manifest["archive"]
    raw = _read(folder, archive["file"], expected=archive["sha256"])
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(raw))) as texts:
        return tuple(_document(entry, texts) for entry in entries[:count])


def read_manifest(folder: Traversable = FOLDER) -> dict[str, Any]:
    """`archive` {file, bytes, sha256} and `documents` [{id, title, kind, source, licence, characters, ...}].

    Raises:
        CorpusError: the manifest is missing or is not the published one.
    """
    manifest: dict[str, Any] = json.loads(_read(folder, "manifest.json", expected=MANIFEST_SHA256))
    return manifest


def _read(folder: Traversable, name: str, *, expected: str) -> bytes:
    try:
        raw = (folder / name).read_bytes()
    except OSError:
        raise CorpusError(f"the built-in corpus lacks its file {name} (in {folder}); reinstall ropewalk.") from None
    found = sha256(raw)
    if found != expected:
        raise CorpusError(
            f"the built-in corpus has been altered: {folder / name} has sha256 {found}, expected {expected}; "
            "reinstall ropewalk."
        )
    return raw


def _document(entry: dict[str, Any], texts: tarfile.TarFile) -> Document:
    member = texts.extractfile(f"{entry['id']}.txt")
    if member is None:
        raise CorpusError(f"the built-in corpus lacks the text of {entry['id']!r}; reinstall ropewalk.")
    source = entry["source"]
    return Document(
        id=entry["id"],
        title=entry["title"],
        kind=entry["kind"],
        source=f"{source['package']} {source['version']}: {source['file']}",
        licence=entry["licence"],
        sha256=entry["sha256"],
        text=member.read().decode(),
    )
