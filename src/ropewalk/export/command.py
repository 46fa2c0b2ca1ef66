"""What `ropewalk export` does between its arguments and its output."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ropewalk.errors import ExportError
from ropewalk.export import ENGINES
from ropewalk.export.check import check
from ropewalk.export.checkpoint import Described, describe
from ropewalk.export.choice import recommended
from ropewalk.export.directory import refuse_existing, write_directory, write_text
from ropewalk.export.request import Export, Request, request
from ropewalk.models.spec import ModelSpec


def run(
    source: str,
    target: str,
    *,
    model: str | None = None,
    params: Mapping[str, Any],
    length: int | None = None,
    out: Path | None = None,
    force: bool = False,
    checked: bool = False,
) -> tuple[str, tuple[str, ...]]:
    """The configuration as text for stdout, and the notes for stderr; writes `out` where there is one.

    Raises:
        RopewalkError: a mistake in the arguments, or a rotation that the engine cannot run.
    """
    if target not in ENGINES:
        raise ExportError(f"--target {target!r}: must be one of {', '.join(ENGINES)}.")
    if checked and target != "hf":
        raise ExportError(f"--check runs transformers alone, and --target {target} needs its own engine; leave it out.")
    if out is not None and target == "hf":
        refuse_existing(out, force=force)
    found, asked, notes = _asked(source, model, params, length)
    export = ENGINES[target](asked)
    text = printed(export)
    notes = (*notes, f"{target}: {export.fidelity}, for {asked.length} tokens.", *export.notes)
    if target == "hf":
        return text, (*notes, *_directory(found, asked, export, out, force=force, checked=checked))
    if out is not None:
        write_text(text + "\n", out, force=force)
    return text, notes


def printed(export: Export) -> str:
    """JSON for transformers, a shell line for an engine."""
    return shlex.join(export.command) if export.command else json.dumps(export.config, indent=2)


def _asked(
    source: str, model: str | None, params: Mapping[str, Any], length: int | None
) -> tuple[Described, Request, tuple[str, ...]]:
    """A directory is a run, anything else a method."""
    if model is not None:
        found = describe(ModelSpec.parse(model))
        return found, request(found.geometry, source, params, length, found.checkpoint), ()
    if not Path(source).is_dir():
        raise ExportError(f"{source!r} is no run directory; to export a method by its name give --model as well.")
    if params:
        raise ExportError(f"-p {next(iter(params))}: a run's recommendation has its own parameters; leave -p out.")
    if length is None:
        raise ExportError(f"{source}: a run recommends for a length; give --length, in tokens.")
    found, asked, said = recommended(Path(source), length)
    return found, asked, (said,)


def _directory(
    found: Described, asked: Request, export: Export, out: Path | None, *, force: bool, checked: bool
) -> tuple[str, ...]:
    if out is None and not checked:
        return ()
    said: list[str] = []

    def proof(directory: Path) -> None:
        if checked:
            said.append(check(directory, found, asked).sentence)

    if out is not None:
        write_directory(found, asked, export, out, force=force, proof=proof)
        return (*said, f"{out} is the whole model with this rotation.")
    with tempfile.TemporaryDirectory() as scratch:
        write_directory(found, asked, export, Path(scratch) / "exported", force=False, proof=proof)
    return tuple(said)
