"""A GGUF file with another rotation: its rope keys and tensors replaced, all else copied; whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFEndian, GGUFReader, GGUFValueType, GGUFWriter, ReaderField
from numpy.typing import NDArray

from ropewalk.errors import ExportError
from ropewalk.export.directory import unwritable
from ropewalk.export.native import Change
from ropewalk.export.request import NOTHING, Request
from ropewalk.models.gguf import RECORD_A, RECORD_INV_FREQ
from ropewalk.models.gguf_limits import require_bounded

ROPE_TENSORS = ("rope_freqs", "rope_factors_long", "rope_factors_short")
KEPT = ("dimension_count", "freq_base_swa", "dimension_sections")
"""Keys below `<architecture>.rope.` that lay out heads or belong to sliding layers; the others are the rotation."""

SINGLE = {str: GGUFValueType.STRING, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32}


def open_gguf(path: Path) -> GGUFReader:
    """Read a file's metadata; its weights are mapped, not read.

    Raises:
        ExportError: it does not exist, is cut off, or is no single little-endian GGUF of a model.
    """
    if not path.is_file():
        raise ExportError(f"--gguf {path}: there is no such file; give the .gguf that is to be served.")
    try:
        require_bounded(path)
        reader = GGUFReader(str(path))
    except OSError as wrong:
        raise ExportError(
            f"--gguf {path}: cannot be read ({wrong.strerror or wrong}); mend its permissions."
        ) from wrong
    except (ValueError, LookupError, OverflowError, MemoryError) as wrong:
        reason = " ".join(str(wrong).split()) or type(wrong).__name__
        raise ExportError(f"--gguf {path}: is no whole GGUF file ({reason}); download or copy it again.") from wrong
    reason = _foreign(reader)
    if reason is not None:
        raise ExportError(f"--gguf {path}: {reason}.")
    return reader


def _foreign(reader: GGUFReader) -> str | None:
    if reader.endianess is not GGUFEndian.LITTLE:
        return "is big-endian; convert it with gguf-py's gguf_convert_endian.py first"
    if not isinstance(value_of(reader, "general.architecture"), str):
        return "has no general.architecture, so it holds no model; give the file of a language model"
    if (value_of(reader, "split.count") or 1) > 1:
        return "is one part of several; join them with llama-gguf-split --merge first"
    if value_of(reader, f"{architecture_of(reader)}.context_length") is None:
        return "has no context_length, so it holds no language model; give the file of one"
    return None


def value_of(reader: GGUFReader, key: str) -> Any:
    """One piece of metadata; None where there is none."""
    field = reader.get_field(key)
    return None if field is None else field.contents()


def architecture_of(reader: GGUFReader) -> str:
    """`general.architecture`."""
    return str(value_of(reader, "general.architecture"))


def vocabulary_of(reader: GGUFReader) -> int:
    """How many tokens the embedding has; 0 where a file has none."""
    return next((int(tensor.shape[1]) for tensor in reader.tensors if tensor.name == "token_embd.weight"), 0)


def require_fits(reader: GGUFReader, asked: Request, path: Path) -> None:
    """Raises ExportError where the file's base or rotated dimensions are not those of the model."""
    name = architecture_of(reader)
    base = value_of(reader, f"{name}.rope.freq_base") or 10000.0
    head = value_of(reader, f"{name}.attention.key_length")
    if head is None:
        head = value_of(reader, f"{name}.embedding_length") // value_of(reader, f"{name}.attention.head_count")
    rotated = value_of(reader, f"{name}.rope.dimension_count") or head
    geometry = asked.geometry
    for what, found, wanted in (
        ("rope_theta", base, geometry.rope_theta),
        ("rotary_dim", rotated, geometry.rotary_dim),
    ):
        if not np.isclose(found, wanted, rtol=1e-6, atol=0):
            raise ExportError(
                f"--gguf {path}: its {what} is {found:g}, and the model's is {wanted:g}, so it is not this model; give "
                "the file that was converted from it."
            )


def rewrite(
    reader: GGUFReader,
    source: Path,
    changed: Change,
    asked: Request,
    out: Path,
    *,
    force: bool,
    folded: Mapping[str, NDArray[np.generic]] = NOTHING,
    proof: Callable[[Path], None],
) -> None:
    """Write beside `out`, let `proof` look at it, and then rename it; `source` is only read, and the tensors of
    `folded` stand in place of its own, of the same shape and dtype.

    Raises:
        ExportError: `out` exists, is the source, or cannot be written.
    """
    refuse(source, out, force=force)
    with contextlib.ExitStack() as cleanup:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{out.stem}-", suffix=".gguf", dir=out.parent)
            scratch = Path(name)
            cleanup.callback(scratch.unlink, missing_ok=True)
            os.close(handle)
            _write(reader, changed, asked, folded, scratch)
            proof(scratch)
            scratch.chmod(0o644)
            scratch.replace(out)
        except OSError as wrong:
            raise unwritable(out, wrong) from wrong


def refuse(source: Path, out: Path, *, force: bool) -> None:
    """Raises ExportError unless `out` is another file than `source`, and free or to be replaced."""
    if out.suffix.lower() != ".gguf":
        raise ExportError(f"--out {out}: a rewritten file must be named .gguf; choose such a name.")
    if out.exists() and out.samefile(source):
        raise ExportError(f"{out} is the source itself, which stays as it is; choose another --out.")
    if out.is_dir() or (os.path.lexists(out) and not force):
        raise ExportError(f"{out} exists; choose another --out{'' if out.is_dir() else ', or --force to replace it'}.")


def _write(
    reader: GGUFReader, changed: Change, asked: Request, folded: Mapping[str, NDArray[np.generic]], scratch: Path
) -> None:
    """Writes a copy with what was changed; folded tensors have their own shape."""
    name = architecture_of(reader)
    writer = GGUFWriter(str(scratch), name)
    writer.data_alignment = int(reader.alignment)
    new = {f"{name}.{key}": value for key, value in changed.metadata.items()}
    for field in reader.fields.values():
        if not (field.name.startswith(("GGUF.", "ropewalk.")) or field.name in new or _is_rope(field.name, name)):
            _copy(writer, field)
    for key, value in new.items():
        writer.add_key_value(key, value, SINGLE[type(value)])
    _record(writer, asked)
    for tensor in reader.tensors:
        if tensor.name.removesuffix(".weight") not in ROPE_TENSORS:
            writer.add_tensor(
                tensor.name, np.asarray(folded.get(tensor.name, tensor.data)), raw_dtype=tensor.tensor_type
            )
    _add_divisors(writer, changed.tensors)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _is_rope(key: str, architecture: str) -> bool:
    tail = key.removeprefix(f"{architecture}.rope.")
    return tail != key and tail not in KEPT


def _copy(writer: GGUFWriter, field: ReaderField) -> None:
    """`general.architecture` is the writer's own already; an empty array has no bytes of its own, and is left out."""
    if field.name == "general.architecture" or (field.types[0] == GGUFValueType.ARRAY and not field.data):
        return
    kind, *inner = field.types
    if len(inner) > 1:
        raise ExportError(
            f"{field.name} is an array of arrays, which the gguf package cannot copy; use llama.cpp's tools."
        )
    writer.add_key_value(field.name, field.contents(), kind, inner[0] if inner else None)


def _record(writer: GGUFWriter, asked: Request) -> None:
    """The rotation in float64: what stands above is rounded to float32, so its fingerprint would not come back."""
    writer.add_key_value(RECORD_INV_FREQ, asked.rotation.inv_freq.tolist(), GGUFValueType.ARRAY, GGUFValueType.FLOAT64)
    writer.add_key_value(RECORD_A, asked.rotation.attention_factor, GGUFValueType.FLOAT64)


def _add_divisors(writer: GGUFWriter, tensors: Mapping[str, list[float]]) -> None:
    for name, divisors in tensors.items():
        writer.add_tensor(name, np.array(divisors, dtype=np.float32))
