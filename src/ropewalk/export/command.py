"""What `ropewalk export` does between its arguments and its output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ropewalk.errors import ExportError
from ropewalk.export import ENGINES, find
from ropewalk.export.checkpoint import Described, describe
from ropewalk.export.choice import recommended
from ropewalk.export.engine import Engine, Options, Order, printed
from ropewalk.export.line import line
from ropewalk.export.request import Request, request
from ropewalk.methods import inlined
from ropewalk.model_spec import ModelSpec

__all__ = ["Options", "run"]


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
    engine = find(target)
    _require_sense(engine, options)
    found, asked, directory, notes = _asked(engine, source, model, params, length, options)
    order = Order(engine=engine, found=found, asked=asked, run=directory, options=options)
    export, said = (engine.artefacts or line)(order)
    return printed(export), (*notes, f"{target}: {export.fidelity}, for {asked.length} tokens.", *export.notes, *said)


def _require_sense(engine: Engine, options: Options) -> None:
    if options.gguf is not None and not engine.reads_gguf:
        readers = " and ".join(each.name for each in ENGINES.values() if each.reads_gguf)
        raise ExportError(
            f"--gguf {options.gguf}: is a file of {readers}, and --target {engine.name} reads none; leave it out."
        )
    if options.with_code and not (engine.code and options.out is not None):
        takers = " or ".join(each.name for each in ENGINES.values() if each.code)
        raise ExportError(
            f"--with-code: a model directory brings its code along; give --target {takers} and --out DIR."
        )
    if options.endpoint is not None and not options.check:
        raise ExportError(f"--endpoint {options.endpoint}: is only asked to --check; add that, or leave it out.")
    if options.endpoint is not None and engine.server is None and engine.here is not None:
        raise ExportError(f"--endpoint: --target {engine.name} is checked with {engine.here.name} here; leave it out.")
    if options.check and options.endpoint is None and engine.here is None:
        raise ExportError(
            f"--check: {engine.name} does not run inside ropewalk; start it with the exported line, and give "
            "--endpoint URL."
        )
    if engine.refuses is not None:
        engine.refuses(options)


def _asked(
    engine: Engine, source: str, model: str | None, params: Mapping[str, Any], length: int | None, options: Options
) -> tuple[Described, Request, Path | None, tuple[str, ...]]:
    """A directory is a run, anything else a method."""
    if model is not None:
        found = describe(ModelSpec.parse(model))
        params = inlined(source, params)
        asked = request(
            found.geometry, source, params, length, found.checkpoint, branches=engine.branches, code=options.with_code
        )
        return found, asked, None, ()
    if not Path(source).is_dir():
        raise ExportError(f"{source!r} is no run directory; give --model as well to export a method by its name.")
    if params:
        raise ExportError(f"-p {next(iter(params))}: a run's recommendation has its own parameters; leave -p out.")
    if length is None:
        raise ExportError(f"{source}: a run recommends for a length; give --length, in tokens.")
    found, asked, said = recommended(
        Path(source), length, partial=options.partial, branches=engine.branches, code=options.with_code
    )
    return found, asked, Path(source), (said,)
