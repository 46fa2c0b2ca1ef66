"""The contract of an engine: what it is told, what is written for it, and how `--check` proves that it does it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ropewalk.export.asking import Server
from ropewalk.export.request import Export, Request

if TYPE_CHECKING:  # they load torch, and this module also names the engines in `ropewalk export --help`
    from ropewalk.export.check import Observed
    from ropewalk.export.checkpoint import Described

Text = Callable[[Sequence[int]], str]
"""Token ids to text, special tokens as they are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `ropewalk export` beside what is exported and where to.

    Attributes:
        out: a model directory, a rewritten .gguf (with `gguf`), or a file for the command line.
        gguf: the file that the engine serves.
        check: run the exported form.
        endpoint: on this server, and not here.
        force: replace `out`.
        partial: choose from what there is of an unfinished run.
        with_code: bring code along for what no configuration says.
    """

    out: Path | None = None
    gguf: Path | None = None
    check: bool = False
    endpoint: str | None = None
    force: bool = False
    partial: bool = False
    with_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """A proof that needs no server.

    Attributes:
        name: of what proves it, as sentences say it ("is checked with transformers here").
        prove: the sentences of a finished artefact, or of an export alone where there is none. Live: `check.compared`
            with what the engine made of known tokens; or by reading the artefact back. Raises ExportError if it is
            wrong.
    """

    name: str
    prove: Callable[[Order, Export, Path | None], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of server, which gives the losses of tokens that it is sent.

    Attributes:
        name: as `ropewalk diagnose --target` takes it.
        known: whether a server is of this kind, by what only this one has. Raises ExportError where nothing answers.
        losses: the `check.Observed` that it makes of token ids. Raises ExportError.
    """

    name: str
    known: Callable[[Server], bool]
    losses: Callable[[Server, list[int], Text], Observed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A proof on the user's own running server.

    Attributes:
        kinds: of servers that the engine has; the last is asked where none before is known.
        room: tokens of a served context that a prompt has to leave free.
        bos: its API takes text, whose tokens begin with BOS where the model has one.
    """

    kinds: tuple[Kind, ...]
    room: int = 1
    bos: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine, ready for the table ENGINES or for an entry point of the group `ropewalk.engines`.

    Attributes:
        name: as `--target` takes it.
        configure: pure; the configuration for one rotation. Raises ExportError where the engine cannot run it.
        here: the proof without a server, or None.
        server: the proof on a running server, or None; an engine has one of the two, or both.
        artefacts: writes the files of an order, lets `proof.prove` look at each before it gets its name, and gives the
            export with the proof's sentences. None: the line that is printed is all there is (`line.line`).
        refuses: raises ExportError for options that make no sense, before anything is read.
        reads_gguf: `--gguf` names a file that it serves.
        branches: `configure` takes schemes that tell tokens other positions by their distance, and refuses those that
            the engine cannot run; others never see one.
        code: it runs code that a model directory brings along (`--with-code`).
    """

    name: str
    configure: Callable[[Request], Export]
    here: Here | None = None
    server: Live | None = None
    artefacts: Callable[[Order], Made] | None = None
    refuses: Callable[[Options], None] | None = None
    reads_gguf: bool = False
    branches: bool = False
    code: bool = False

    def __post_init__(self) -> None:
        if self.here is None and self.server is None:
            raise ValueError(f"engine {self.name!r} has no proof; give it `here` or `server`, for --check.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be made for one engine.

    Attributes:
        found: the model.
        run: the run directory whose stored losses are the reference of a proof; None takes the patched model.
    """

    engine: Engine
    found: Described
    asked: Request
    run: Path | None
    options: Options


Made = tuple[Export, tuple[str, ...]]
"""An export, and what its proof said."""


def printed(export: Export) -> str:
    """JSON for a configuration, a shell line for a command."""
    return shlex.join(export.command) if export.command else json.dumps(export.config, indent=2)
