"""What llama.cpp serves: flags over a file, or the file with the rotation in it; and how it is proven."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gguf import GGUFReader
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

from ropewalk.errors import ExportError
from ropewalk.export import proof, run_llamacpp
from ropewalk.export import reference as measured
from ropewalk.export.check import compared
from ropewalk.export.engine import Made, Order
from ropewalk.export.folding_gguf import folded
from ropewalk.export.gguf_file import architecture_of, open_gguf, require_fits, rewrite, vocabulary_of
from ropewalk.export.line import line, require_no_gains, written
from ropewalk.export.native import OLLAMA, change, served
from ropewalk.export.request import NOTHING, Export, Request, common_notes, request
from ropewalk.models import ModelSpec, read_geometry
from ropewalk.rope import Rotation


def artefacts(order: Order) -> Made:
    """Flags over a file, or the file with the rotation in it. Raises ExportError."""
    options, asked = order.options, order.asked
    file = options.gguf or (order.found.source.gguf.path if order.found.source.gguf is not None else None)
    if file is None or options.gguf is None or options.out is None:
        require_no_gains(order)
    if file is None:
        return line(order)
    reader = open_gguf(file)
    architecture = architecture_of(reader)
    if options.gguf is not None and options.out is None and _held(file, asked, architecture) == asked.rotation:
        export = _already(asked, file)
        return export, proof.prove(order, export, file)
    require_fits(reader, asked, file)
    asked = replace(asked, checkpoint=replace(asked.checkpoint, name=str(file), architecture=architecture))
    order = replace(order, asked=asked)
    if options.gguf is None or options.out is None:
        export = order.engine.configure(asked)
        return export, written(order, export, file)
    return _rewritten(order, reader, file, options.out)


def prove(order: Order, export: Export, file: Path | None) -> tuple[str, ...]:
    """A GGUF file with the exported command's flags, through llama-cpp-python."""
    if file is None:
        raise ExportError("--check: llama.cpp runs a file, and none was named; give --gguf FILE, or --endpoint URL.")
    library = run_llamacpp.library()  # before minutes are spent on the reference
    reference = proof.reference_of(order)
    reference = measured.shortened(reference, run_llamacpp.limit(vocabulary_of(open_gguf(file))))
    return (compared(order.asked, reference, run_llamacpp.run(library, file, export.command, reference.ids)),)


def _rewritten(order: Order, reader: GGUFReader, file: Path, out: Path) -> Made:
    asked = order.asked
    changed = change(asked, str(asked.checkpoint.architecture))
    export, said = _holding(asked, tuple(changed.tensors), out), list[str]()
    held = None if asked.folding is None else folded(reader, asked.folding)

    def check(scratch: Path) -> None:
        _read_back(scratch, asked)
        said.extend(proof.prove(order, export, scratch))

    tensors = NOTHING if held is None else held.tensors
    rewrite(reader, file, changed, asked, out, force=order.options.force, folded=tensors, proof=check)
    return export, (*said, *(() if held is None else (held.note(),)))


def _already(asked: Request, file: Path) -> Export:
    notes = (*common_notes(asked), f"{file} holds this rotation itself, and flags would stack on it.")
    command = served(str(file), asked.length)
    return Export(engine="llama.cpp", fidelity="exact", config={}, command=command, notes=notes)


def _holding(asked: Request, tensors: tuple[str, ...], out: Path) -> Export:
    held = f"lambda as {' and '.join(tensors)}" if tensors else "metadata that llama.cpp has a method for"
    return Export(
        engine="llama.cpp",
        fidelity="approximated" if (asked.rotation.inv_freq == 0).any() else "exact",
        config={},
        command=served(str(out), asked.length),
        notes=(
            *common_notes(asked),
            f"{out} holds the rotation as {held}, in place of what the file shipped; flags would stack on it.",
            f"Its context_length is {asked.length}, as llama.cpp caps the context there (n_ctx_train).",
            OLLAMA.format(file=out.name, length=asked.length),
        ),
    )


def _read_back(file: Path, asked: Request) -> None:
    """A rewritten file's own rotation must be the one that was asked for.

    Only for architectures that transformers reads out of GGUF files; `ropewalk inspect` knows no others.

    Raises:
        ExportError: it is another.
    """
    again = _held(file, asked, str(asked.checkpoint.architecture))
    if again is not None and again != asked.rotation and (asked.rotation.inv_freq > 0).all():
        raise ExportError(
            f"{asked.method}: the rewritten file reads back as rotation {again.fingerprint} and not "
            f"{asked.rotation.fingerprint}; nothing was written, so choose another method and report this."
        )


def _held(file: Path, asked: Request, architecture: str) -> Rotation | None:
    """The rotation that a GGUF file ships; None where transformers does not read its architecture."""
    if architecture not in GGUF_SUPPORTED_ARCHITECTURES:
        return None
    return request(read_geometry(ModelSpec(id=str(file))), "none", {}, asked.length, asked.checkpoint).rotation
