"""A model whose hypotheses are scored once, what its servers are called, and a table of that."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parents[1] / "tests" / part) for part in ("", "diagnose")]

import injected

import checkpoints
from ropewalk.diagnosis import command, servers
from ropewalk.diagnosis.hypothesis import Hypothesis
from ropewalk.diagnosis.library import library
from ropewalk.diagnosis.match import Match
from ropewalk.diagnosis.rounding import judged
from ropewalk.diagnosis.score import losses
from ropewalk.export import endpoint
from ropewalk.export.checkpoint import describe
from ropewalk.export.request import request
from ropewalk.models import LoadedModel, ModelSpec, load, read_tokenizer

SERVED = (injected.strand(), injected.LLAMA, injected.GEMMA, injected.PHI, injected.MINISTRAL)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A model whose hypotheses are scored once, for all of its servers."""

    served: injected.Served
    spec: ModelSpec
    loaded: LoadedModel
    ids: Any
    bos: bool | None
    hypotheses: tuple[Hypothesis, ...]
    local: list[Any]

    def named(self, url: str, target: str | None = None) -> tuple[str, Match]:
        """What a server at an address is called."""
        server = endpoint.server_at(url, len(self.ids))
        kind = target or servers.kind_of(server)
        nll = servers.losses(server, kind, self.ids, self.loaded.tokenizer.decode).nll
        found, _ = judged(self.loaded, self.ids, self.hypotheses, self.local, nll)
        return "none fits" if found.found is None else self.hypotheses[found.found].name, found


@contextmanager
def bench(
    served: injected.Served,
    params: dict[str, Any] | None = None,
    method: str | None = None,
    *,
    bos_first: bool = False,
) -> Iterator[Bench]:
    """A model on disk, loaded, with its hypotheses scored."""
    with tempfile.TemporaryDirectory() as scratch:
        whole = served.name == "strand" and not bos_first
        name = "strand" if whole else str(checkpoints.save(Path(scratch) / "m", served.make(), _words(served)))
        spec = ModelSpec(id=name)
        loaded, found = load(spec, dtype="float32"), describe(spec)
        ids, bos = command.tokens(loaded.tokenizer, None, served.length, bos_first=bos_first)
        asked = request(
            found.geometry,
            served.method if method is None else method,
            served.params if params is None else params,
            len(ids),
            found.checkpoint,
        )
        hypotheses = library(asked, bos=bos, given=served.context + 64)
        yield Bench(
            served=served,
            spec=spec,
            loaded=loaded,
            ids=ids,
            bos=bos,
            hypotheses=hypotheses,
            local=losses(loaded, ids, hypotheses),
        )


def _words(served: injected.Served) -> Any:
    """A tokenizer with a BOS, which strand's own has not."""
    if served.name != "strand":
        return checkpoints.tokenizer(bos=True)
    words = read_tokenizer(ModelSpec(id="strand"))
    words.bos_token = words.convert_ids_to_tokens(0)
    return words


Cells = dict[str, dict[str, str]]
"""Fault -> model -> what it was called."""


def cell(name: str, called: str, found: Match) -> tuple[str, str]:
    """The row of a fault, and what stands in it."""
    apart = found.apart[0]
    far = "" if apart is None else f" ({apart.rms:.2g})"
    return row(name), ("named" if called == name else f"**{called}**") + far


def row(name: str) -> str:
    """A fault's name without its number of tokens, which differs by model."""
    return name.split(" ")[0] + " N" if name.startswith("window ") else name.rstrip("0123456789 ")


def table(cells: Cells, names: Sequence[str]) -> None:
    """Print a row per fault, a column per model."""
    print("| fault | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for fault, said in cells.items():
        print(f"| {fault} | " + " | ".join(said.get(each, "-") for each in names) + " |")
