"""What `ropewalk export` does between its arguments and its output."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ropewalk.errors import ExportError
from ropewalk.export import ENGINES, proof
from ropewalk.export.checkpoint import Described, describe
from ropewalk.export.choice import recommended
from ropewalk.export.directory import refuse_existing, write_directory, write_text
from ropewalk.export.gguf_file import architecture_of, open_gguf, require_fits, vocabulary_of
from ropewalk.export.gguf_file import rewrite as rewrite_gguf
from ropewalk.export.llamacpp import OLLAMA, served
from ropewalk.export.native import change
from ropewalk.export.request import Export, Request, common_notes, request
from ropewalk.methods import inlined
from ropewalk.model_spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `ropewalk export` beside what is exported and where to.

    Attributes:
        out: a model directory (hf), a rewritten .gguf (with `gguf`), or a file for the command line.
        gguf: the file that llama.cpp serves.
        check: run the exported form.
        endpoint: on this server, and not here.
        force: replace `out`.
        partial: choose from what there is of an unfinished run.
    """

    out: Path | None = None
    gguf: Path | None = None
    check: bool = False
    endpoint: str | None = None
    force: bool = False
    partial: bool = False


def run(
    source: str,
    target: str,
    *,
    model: str | None = None,
    params: Mapping[str, Any],
    length: int | None = None,
    options: Options,
) -> tuple[str, tuple[str, ...]]:
    """The configuration as text for stdout, and the notes for stderr; writes `out` where there is one.

    Raises:
        RopewalkError: a mistake in the arguments, or a rotation that the engine cannot run.
    """
    _require_sense(target, options)
    if options.out is not None and target == "hf":
        refuse_existing(options.out, force=options.force)
    found, asked, directory, notes = _asked(source, model, params, length, options)
    proven = proof.Proof(found=found, asked=asked, run=directory, endpoint=options.endpoint, check=options.check)
    if target == "llama.cpp":
        export, said = _llamacpp(proven, options)
    else:
        export = ENGINES[target](asked)
        said = _directory(proven, export, options) if target == "hf" else proven.of_server(target)
    text = printed(export)
    if options.out is not None and target != "hf" and options.gguf is None:
        write_text(text + "\n", options.out, force=options.force)
    return text, (*notes, f"{target}: {export.fidelity}, for {asked.length} tokens.", *export.notes, *said)


def printed(export: Export) -> str:
    """JSON for transformers, a shell line for an engine."""
    return shlex.join(export.command) if export.command else json.dumps(export.config, indent=2)


def _require_sense(target: str, options: Options) -> None:
    if target not in ENGINES:
        raise ExportError(f"--target {target!r}: must be one of {', '.join(ENGINES)}.")
    if options.gguf is not None and target != "llama.cpp":
        raise ExportError(
            f"--gguf {options.gguf}: is a file of llama.cpp, and --target {target} reads none; leave it out."
        )
    if options.endpoint is not None and not options.check:
        raise ExportError(f"--endpoint {options.endpoint}: is only asked to --check; add that, or leave it out.")
    if options.endpoint is not None and target == "hf":
        raise ExportError("--endpoint: --target hf is checked with transformers here; leave it out.")
    if options.check and options.endpoint is None and target in ("vllm", "sglang"):
        raise ExportError(
            f"--check: {target} does not run inside ropewalk; start it with the exported line, and give --endpoint URL."
        )


def _asked(
    source: str, model: str | None, params: Mapping[str, Any], length: int | None, options: Options
) -> tuple[Described, Request, Path | None, tuple[str, ...]]:
    """A directory is a run, anything else a method."""
    if model is not None:
        found = describe(ModelSpec.parse(model))
        params = inlined(source, params)
        return found, request(found.geometry, source, params, length, found.checkpoint), None, ()
    if not Path(source).is_dir():
        raise ExportError(f"{source!r} is no run directory; to export a method by its name give --model as well.")
    if params:
        raise ExportError(f"-p {next(iter(params))}: a run's recommendation has its own parameters; leave -p out.")
    if length is None:
        raise ExportError(f"{source}: a run recommends for a length; give --length, in tokens.")
    found, asked, said = recommended(Path(source), length, partial=options.partial)
    return found, asked, Path(source), (said,)


def _directory(proven: proof.Proof, export: Export, options: Options) -> tuple[str, ...]:
    if options.out is None and not options.check:
        return ()
    said: list[str] = []
    check: Callable[[Path], None] = lambda directory: said.extend(proven.of_directory(directory))  # noqa: E731
    if options.out is not None:
        write_directory(proven.found, proven.asked, export, options.out, force=options.force, proof=check)
        return (*said, f"{options.out} is the whole model with this rotation.")
    with tempfile.TemporaryDirectory() as scratch:
        write_directory(proven.found, proven.asked, export, Path(scratch) / "exported", force=False, proof=check)
    return tuple(said)


def _llamacpp(proven: proof.Proof, options: Options) -> tuple[Export, tuple[str, ...]]:
    """Flags over a file, or the file with the rotation in it."""
    asked = proven.asked
    file = options.gguf or (proven.found.source.gguf.path if proven.found.source.gguf is not None else None)
    if file is None:
        export = ENGINES["llama.cpp"](asked)
        return export, proven.of_file(None, export.command)
    reader = open_gguf(file)
    architecture, vocabulary = architecture_of(reader), vocabulary_of(reader)
    if options.gguf is not None and options.out is None and proof.held(file, asked, architecture) == asked.rotation:
        return _already(asked, file), proven.of_file(file, (), vocabulary)
    require_fits(reader, asked, file)
    asked = replace(asked, checkpoint=replace(asked.checkpoint, name=str(file), architecture=architecture))
    if options.gguf is None or options.out is None:
        export = ENGINES["llama.cpp"](asked)
        return export, proven.of_file(file, export.command, vocabulary)
    said: list[str] = []

    def check(scratch: Path) -> None:
        proof.read_back(scratch, asked)
        said.extend(proven.of_file(scratch, (), vocabulary))

    changed = change(asked, architecture)
    rewrite_gguf(reader, file, changed, asked, options.out, force=options.force, proof=check)
    return _rewritten(asked, tuple(changed.tensors), options.out), tuple(said)


def _already(asked: Request, file: Path) -> Export:
    notes = (*common_notes(asked), f"{file} holds this rotation itself, and flags would stack on it.")
    command = served(str(file), asked.length)
    return Export(engine="llama.cpp", fidelity="exact", config={}, command=command, notes=notes)


def _rewritten(asked: Request, tensors: tuple[str, ...], out: Path) -> Export:
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
