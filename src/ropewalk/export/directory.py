"""A ready model directory: weights linked or copied, config.json patched; all of it or nothing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import snapshot_download

from ropewalk.errors import ExportError
from ropewalk.export import with_code
from ropewalk.export.checkpoint import Described, patched_config, read_raw
from ropewalk.export.folding_hf import fold_into
from ropewalk.export.request import Export, Request, request
from ropewalk.files import write_whole
from ropewalk.models import ModelSpec, read_geometry
from ropewalk.models.foreign import quiet, sentences
from ropewalk.models.source import find

LINKED = ".safetensors"
SUFFIXES = frozenset({".model", ".jinja", ".tiktoken", ".py", LINKED})
NAMES = frozenset({
    "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "added_tokens.json", "chat_template.json", "config.json",
    "generation_config.json", "merges.txt", "model.safetensors.index.json", "preprocessor_config.json",
    "processor_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json",
    "vocab.txt",
})  # fmt: skip
"""What a model directory needs to be loaded, and its papers; all else stays behind, pickled weights and secrets too."""

Proof = Callable[[Path], None]
"""Looks at the finished directory before it gets its name, and raises if it is wrong."""


def write_directory(
    found: Described, asked: Request, export: Export, out: Path, *, force: bool, proof: Proof
) -> tuple[str, ...]:
    """Write the model with its new rotation and gains beside `out`, read it back, and then rename it; what moved.

    The weights are hard links where the file system allows (the same bytes, no space), else copies. The source is only
    read. With `force` a model directory of that name is replaced, and nothing else.

    Raises:
        ExportError: `out` exists, is the source, or cannot be written; what was written reads back differently.
        ModelError: the source holds no safetensors.
    """
    source = _source(found)
    refuse_existing(out, force=force)
    _refuse_source(source, out)
    if asked.needs_code:
        with_code.refuse_other_code(source)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as wrong:
        raise unwritable(out, wrong) from wrong
    try:
        _fill(source, scratch, export)
        notes = () if asked.folding is None else (fold_into(scratch, asked.folding),)
        if asked.needs_code:
            (scratch / f"{with_code.FILE}.py").write_text(with_code.code(asked), encoding="utf-8")
            with_code.read_back(scratch, asked)
        else:
            read_back(scratch, asked)
        proof(scratch)
        scratch.chmod(0o755)
        _rename(scratch, out)
    except OSError as wrong:
        raise unwritable(out, wrong) from wrong
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return notes


def write_text(text: str, out: Path, *, force: bool) -> None:
    """A configuration into one file, whole or not at all. Raises ExportError where it exists or cannot be written."""
    if out.is_dir() or (out.exists() and not force):
        raise ExportError(f"{out} exists; choose another --out{'' if out.is_dir() else ', or --force to replace it'}.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out.parent, out.name, text.encode())
    except OSError as wrong:
        raise unwritable(out, wrong) from wrong


def read_back(directory: Path, asked: Request) -> None:
    """The directory's own rotation must be the one that was asked for. Raises ExportError if it is not."""
    again = request(read_geometry(ModelSpec(id=str(directory))), "none", {}, asked.length, asked.checkpoint)
    if again.rotation != asked.rotation:
        raise ExportError(
            f"{asked.method}: the written config.json reads back as rotation {again.rotation.fingerprint} and not "
            f"{asked.rotation.fingerprint}; this model cannot hold it, so nothing was written: choose another method."
        )


def refuse_existing(out: Path, *, force: bool) -> None:
    """Raises ExportError unless `out` is free, or may be replaced."""
    if not os.path.lexists(out):
        return
    if not force:
        raise ExportError(f"{out} exists; choose another --out, or --force to replace it.")
    if out.is_symlink() or not (out / "config.json").is_file():
        raise ExportError(f"{out} is no model directory, so --force does not replace it; choose another --out.")


def _source(found: Described) -> Path:
    if found.source.gguf is not None:
        raise ExportError(
            f"{found.spec.id} is a GGUF file, and a model directory needs safetensors; give the original model, or "
            "leave --out away for the keys alone."
        )
    if found.source.is_local:
        return Path(find(found.spec).location)
    with quiet(), sentences(found.spec.id, found.spec.revision):
        patterns = [*NAMES, *(f"*{suffix}" for suffix in SUFFIXES)]
        return Path(snapshot_download(found.spec.id, revision=found.source.revision, allow_patterns=patterns))


def _refuse_source(source: Path, out: Path) -> None:
    here, there = source.resolve(), out.resolve()
    if here == there or there in here.parents or here in there.parents:
        raise ExportError(f"{out} lies in, around or on the model itself, which stays as it is; choose another --out.")


def _fill(source: Path, scratch: Path, export: Export) -> None:
    for file in sorted(source.iterdir()):
        if file.is_file() and (file.name in NAMES or file.suffix in SUFFIXES):
            real = _inside(source, file)
            if file.name != "config.json":
                _place(real, scratch / file.name, link=file.suffix == LINKED)
    config = patched_config(read_raw(source), export.config)
    (scratch / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _inside(source: Path, file: Path) -> Path:
    """The file itself. Raises ExportError where a link leads out of the model: out of its directory, or in a cache of
    the Hub out of the directory of its blobs."""
    home, real = source.resolve(), file.resolve()
    blobs = (home.parent.parent / "blobs",) if home.parent.name == "snapshots" else ()
    if not any(real.is_relative_to(place) for place in (home, *blobs)):
        raise ExportError(
            f"{file} is a link to {real}, outside the model, and might not be meant for whoever gets the copy; replace "
            "it by the file, or export from a whole directory."
        )
    return real


def _place(file: Path, target: Path, *, link: bool) -> None:
    if link:
        try:
            return os.link(file, target)
        except OSError:  # another file system, or one without links
            pass
    shutil.copyfile(file, target)
    return None


def _rename(scratch: Path, out: Path) -> None:
    """An old directory is moved aside first and comes back if the new one cannot take its name."""
    if not out.exists():
        scratch.rename(out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
    out.rename(aside / out.name)
    try:
        scratch.rename(out)
    except OSError:
        (aside / out.name).rename(out)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def unwritable(out: Path, wrong: OSError) -> ExportError:
    return ExportError(f"{out} cannot be written ({wrong.strerror or wrong}); choose another --out, or make room.")
