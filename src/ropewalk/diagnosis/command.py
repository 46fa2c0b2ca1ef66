"""What `ropewalk diagnose` does between its arguments and its output."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.corpus import load_documents
from ropewalk.corpus.tokens import tokenize_all, wants_bos
from ropewalk.diagnosis import servers
from ropewalk.diagnosis.between import Between, between
from ropewalk.diagnosis.library import library
from ropewalk.diagnosis.readback import ReadBack, of_file
from ropewalk.diagnosis.rounding import judged
from ropewalk.diagnosis.score import losses
from ropewalk.diagnosis.verdict import Diagnosis
from ropewalk.errors import ExportError
from ropewalk.export.checkpoint import describe
from ropewalk.export.endpoint import server_at
from ropewalk.export.request import Request, request
from ropewalk.methods import inlined
from ropewalk.models import ModelSpec, load, read_tokenizer

LENGTH = 1024
"""Tokens that are sent where --length does not say: enough to tell most faults apart, and a minute on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked, beside which server or model.

    Attributes:
        model: the checkpoint that is served.
        method, params: the scaling that was asked for; `none` is what the checkpoint ships.
        file: the text; None takes a built-in document.
        length: tokens of it.
        target: the kind of server; None finds it out.
        against: another server, to be compared with in place of any weights.
    """

    model: str | None = None
    method: str = "none"
    params: Mapping[str, Any]
    file: Path | None = None
    length: int | None = None
    target: str | None = None
    against: str | None = None


def run(source: str, options: Options) -> Diagnosis | ReadBack | Between:
    """Diagnose a server's address, or a model.

    Raises:
        RopewalkError: a mistake in the arguments, or a server or model that cannot be had.
    """
    servers.require_kind(options.target)
    if "://" not in source:
        _refuse_beside_model(source, options)
        return of_file(source, options.model, options.method, options.params, options.length)
    if options.model is None:
        raise ExportError(f"{source}: give --model, whose tokens and weights the server is compared with.")
    spec = ModelSpec.parse(options.model)
    return _two_servers(source, spec, options) if options.against is not None else _server(source, spec, options)


def _refuse_beside_model(source: str, options: Options) -> None:
    for name in ("file", "target", "against"):
        if getattr(options, name) is not None:
            raise ExportError(f"--{name}: is for servers, and {source!r} is no address; write http://HOST:PORT.")


def _server(url: str, spec: ModelSpec, options: Options) -> Diagnosis:
    found = describe(spec)
    length = options.length or LENGTH
    params = inlined(options.method, options.params)
    refused = request(found.geometry, options.method, params, length, found.checkpoint)  # before weights are read
    if refused.folding is not None:
        raise ExportError(
            f"{options.method}: its gains stand in the weights that are served; name the exported directory as "
            "--model, and leave -p and the method out."
        )
    server = server_at(url, length)
    kind = options.target or servers.kind_of(server)
    model = load(spec, dtype="float32")
    ids, bos = tokens(model.tokenizer, options.file, length, bos_first=_wants_bos(kind))
    asked = request(found.geometry, options.method, params, len(ids), found.checkpoint)
    engine = servers.losses(server, kind, ids, model.tokenizer.decode)
    given = int(np.isfinite(engine.nll).sum())
    hypotheses = library(asked, bos=bos, given=given + 1 if given < len(ids) - 2 else None)
    local = losses(model, ids, hypotheses)
    matched, rounding = judged(model, ids, hypotheses, local, engine.nll.astype(np.float64))
    return Diagnosis(
        server=engine.name,
        asked=said(options.method, asked),
        hypotheses=hypotheses,
        match=matched,
        rounding=rounding,
        line=_line(asked, kind),
    )


def said(method: str, asked: Request) -> str:
    """What was asked for, in words."""
    what = f"as shipped (rope_type {asked.shipped_type})" if method == "none" else method
    factor = getattr(asked.params, "factor", None)
    return what + (f" factor={factor:g}" if factor is not None else "") + f" at {asked.length} tokens"


def tokens(
    tokenizer: Any, file: Path | None, length: int, *, bos_first: bool = False
) -> tuple[NDArray[np.int32], bool | None]:
    """The ids of a text, int32 `[T]`, T at most `length`; and whether they begin with a BOS, None without any."""
    documents = load_documents({"corpus": "builtin", "count": 1} if file is None else {"files": [str(file)]})
    has = tokenizer.bos_token_id is not None
    bos = has and (bos_first or wants_bos(tokenizer))
    found = tokenize_all(tokenizer, documents[:1], bos=bos, upto=length)[0]
    return found.ids[:length], bos if has else None


def _wants_bos(kind: str) -> bool:
    engine = servers.engines().get(kind)
    return engine is not None and engine.server is not None and engine.server.bos


def _line(asked: Request, kind: str) -> str | None:
    """The command line that serves what was asked; None where the server is of no engine, or the engine has none."""
    engine = servers.engines().get(kind)
    if engine is None:
        return None
    try:
        return shlex.join(engine.configure(asked).command)
    except ExportError:
        return None


def _two_servers(url: str, spec: ModelSpec, options: Options) -> Between:
    assert options.against is not None
    tokenizer, length = read_tokenizer(spec), options.length or LENGTH
    named = (url, options.against)
    asked = [server_at(each, length) for each in named]
    kinds = [options.target or servers.kind_of(each) for each in asked]
    ids, _ = tokens(tokenizer, options.file, length, bos_first=any(map(_wants_bos, kinds)))
    one, other = (servers.losses(each, kind, ids, tokenizer.decode) for each, kind in zip(asked, kinds, strict=True))
    return between(one, other)
