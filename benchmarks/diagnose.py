"""Faults put into live servers, and what `ropewalk diagnose` makes of them: docs/results/engines.md.

    python benchmarks/diagnose.py matrix      faults x five models, stock transformers behind a server
    python benchmarks/diagnose.py healthy     twenty servers without a fault: other methods, models, roundings
    python benchmarks/diagnose.py time THREADS [MODEL ...]   a whole diagnosis with strand and with SmolLM2
    python benchmarks/diagnose.py live PYTHON vllm|llama.cpp [MODEL ...]   the same faults in an engine that PYTHON has;
                                              MODEL is a first word of the table's heads, and vLLM's are kept in build/

Prints a table of Markdown each.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

sys.path += [str(Path(__file__).parents[1] / "tests" / part) for part in ("", "diagnose", "export", "models")]

import gguf_models
import injected
import live_servers
import vllm_faults
from faulty_servers import answers, rebuilt, serving
from kept import keep, kept

import checkpoints
from ropewalk.diagnosis import command, servers
from ropewalk.diagnosis.hypothesis import Hypothesis
from ropewalk.diagnosis.library import library
from ropewalk.diagnosis.match import Match
from ropewalk.diagnosis.rounding import judged
from ropewalk.diagnosis.score import losses
from ropewalk.export import command as export
from ropewalk.export import endpoint
from ropewalk.export.checkpoint import describe
from ropewalk.export.request import request
from ropewalk.models import LoadedModel, ModelSpec, builtin, load

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
        words = checkpoints.tokenizer(bos=True)
        name = "strand" if served.name == "strand" else str(checkpoints.save(Path(scratch) / "m", served.make(), words))
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


def matrix() -> None:
    """Which fault is called what."""
    cells: Cells = {}
    for served in SERVED:
        with bench(served) as here:
            for name, model, change in injected.faults(served, served.make(), bos=bool(here.bos)):
                with serving(answers(model, change)) as url:
                    row, said = _cell(name, *here.named(url))
                cells.setdefault(row, {})[served.name] = said
                print(served.name, name, "->", said, flush=True, file=sys.stderr)
    _table(cells, [each.name for each in SERVED])


def eight_bits(weight: torch.Tensor) -> torch.Tensor:
    """Rounded to 8 bits a row, as engines quantise."""
    if weight.ndim < 2:
        return weight
    scale = weight.abs().amax(-1, keepdim=True) / 127
    return (weight / scale).round() * scale


ROUNDINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "float32": lambda w: w,
    "bfloat16": lambda w: w.bfloat16().float(),
    "8 bits": eight_bits,
}


def healthy() -> None:
    """Twenty servers that run what was asked for."""
    plain = {"rope_type": "default", "rope_theta": 10000.0}
    long = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    asked: list[tuple[injected.Served, str, dict[str, Any], dict[str, Any]]] = [
        (SERVED[0], "none", {}, plain),
        (SERVED[0], "linear", {"factor": 4}, plain | {"rope_type": "linear", "factor": 4.0}),
        (SERVED[0], "yarn", {"factor": 4}, injected.yarn(10000.0, 256)),
        (SERVED[0], "llama3", {"factor": 4}, plain | long | {"factor": 4.0, "original_max_position_embeddings": 256}),
        *((each, each.method, each.params, each.rope) for each in SERVED[1:4]),
    ]
    print("| model | asked | rounding | called | nats/token from what was asked for (rms) |\n|---|---|---|---|---|")
    count = 0
    for served, method, params, rope in asked:
        with bench(served, params, method) as here:
            for rounding, change in ROUNDINGS.items():
                if count == 20:
                    return
                model = rebuilt(served.make(), served.placed(rope))
                for parameter in model.parameters():
                    parameter.data = change(parameter.data)
                with serving(answers(model)) as url:
                    called, found = here.named(url)
                apart = found.apart[0]
                assert apart is not None
                print(f"| {served.name} | {method} | {rounding} | {called} | {apart.rms:.2g} |", flush=True)
                count += 1


def timed(threads: str, *names: str) -> None:
    """Seconds of a whole diagnosis, model loading and server's answer included."""
    torch.set_num_threads(int(threads))
    print("| model | tokens | hypotheses | threads | wall s | CPU s |\n|---|---|---|---|---|---|")
    for name, length in ((name, command.LENGTH) for name in names or ("strand", "smollm2")):
        model = load(ModelSpec(id=name), dtype="float32").model
        own = model.config.rope_parameters["rope_theta"], model.config.max_position_embeddings
        with serving(answers(rebuilt(model, injected.yarn(*own)))) as url:
            start, used = time.perf_counter(), time.process_time()
            asked = command.Options(model=name, method="yarn", params={"factor": 4}, length=length)
            found = command.run(url, asked)
            wall, cpu = time.perf_counter() - start, time.process_time() - used
        assert isinstance(found, command.Diagnosis)
        assert found.healthy
        print(f"| {name} | {length} | {len(found.hypotheses)} | {threads} | {wall:.1f} | {cpu:.1f} |", flush=True)


Cells = dict[str, dict[str, str]]
"""Fault -> model -> what it was called."""


def _cell(name: str, called: str, found: Match) -> tuple[str, str]:
    """The row of a fault, and what stands in it."""
    apart = found.apart[0]
    far = "" if apart is None else f" ({apart.rms:.2g})"
    return _row(name), ("named" if called == name else f"**{called}**") + far


def _row(name: str) -> str:
    return name.split(" ")[0] + " N" if name.startswith("window ") else name.rstrip("0123456789 ")


def _table(cells: Cells, names: Sequence[str]) -> None:
    print("| fault | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for fault, row in cells.items():
        print(f"| {fault} | " + " | ".join(row.get(each, "-") for each in names) + " |")


def live(python: str, engine: str, *models: str) -> None:
    """Each fault in the engine's own server, what is done kept in build/."""
    {"vllm": _vllm, "llama.cpp": _llama_cpp}[engine](Path(python), models)


def _vllm(python: Path, models: Sequence[str]) -> None:
    """Of every model, in forks of one process."""
    names = models or [each.name for each in SERVED]
    chosen = [each for name in names for each in SERVED if each.name.startswith(name)]
    name = "live-vllm"
    done = kept(name)
    with ExitStack() as stack:
        forks = stack.enter_context(live_servers.vllm_forks(python))  # imports vLLM while hypotheses are scored
        for served in (replace(each, length=min(each.length, 1000)) for each in chosen):
            with bench(served) as here:
                for fault, model, _ in injected.faults(served, served.make(), bos=bool(here.bos)):
                    if f"{served.name}: {fault}" in done:
                        continue
                    if vllm_faults.impossible(fault):
                        done[f"{served.name}: {fault}"] = [_row(fault), "impossible"]
                        continue
                    start = time.perf_counter()
                    done[f"{served.name}: {fault}"] = _in_vllm(here, fault, model, forks, python)
                    keep(name, done)
                    print(f"{served.name}: {fault}", done[f"{served.name}: {fault}"][1], file=sys.stderr, end=" ")
                    print(f"{time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    cells: Cells = {}
    for key, (row, said) in done.items():
        cells.setdefault(row, {})[key.partition(":")[0]] = said
    _table(cells, [each.name for each in chosen])
    for fault, why in vllm_faults.IMPOSSIBLE.items():
        print(f"\n{fault}: impossible in vLLM: {why}.")


def _in_vllm(here: Bench, fault: str, model: Any, forks: live_servers.Forks, python: Path) -> tuple[str, str]:
    directory = Path(here.spec.id)
    if here.spec.id == "strand":
        directory = Path(str(builtin.locate("strand", weights=True)[0]))
    told = vllm_faults.overrides(here.served, fault, model)
    try:
        with forks.running(live_servers.vllm(python, directory, len(here.ids), told)) as url:
            return _cell(fault, *here.named(url))
    except RuntimeError as wrong:
        print(fault, wrong, file=sys.stderr, flush=True)
        return _row(fault), "not started"


def variants() -> dict[str, tuple[str, dict[str, Any]]]:
    """Faults as methods, for llama.cpp, which is given them in files: by the name that they must get."""
    factor = 0.1 * math.log(4) + 1
    return {
        "as asked": ("yarn", {"factor": 4}),
        "unscaled": ("none", {}),
        "linear": ("linear", {"factor": 4}),
        "factor squared": ("yarn", {"factor": 16}),
        "window 1024": ("yarn", {"factor": 4, "original_max_position_embeddings": 1024}),
        "attention factor missing": ("yarn", {"factor": 4, "attention_factor": 1.0}),
        "attention factor squared": ("yarn", {"factor": 4, "attention_factor": factor**2}),
        "truncate": ("yarn", {"factor": 4, "truncate": False}),
    }


def _llama_cpp(python: Path, models: Sequence[str]) -> None:
    """Of strand alone: its server takes text, and random models have none."""
    assert set(models) <= {"strand"}
    cells: Cells = {}
    with (
        bench(replace(SERVED[0], length=1000), bos_first=True) as here,
        tempfile.TemporaryDirectory() as name,
    ):
        scratch = Path(name)
        vocabulary = Path(str(builtin.locate("strand", weights=False)[0])) / "tokenizer.json"
        plain = gguf_models.write(scratch / "strand.gguf", here.loaded.model, tokenizer_json=vocabulary)
        for number, (fault, (method, params)) in enumerate(variants().items()):
            out = scratch / f"{number}.gguf"
            options = export.Options(gguf=plain, out=out)
            export.run(method, "llama.cpp", model=str(plain), params=params, length=1024, options=options)
            with live_servers.running(live_servers.llama_cpp(python, out, 1000)) as url:
                row, said = _cell(fault, *here.named(url))
                cells[row] = {"strand": said}
                print("strand", fault, said, file=sys.stderr, flush=True)
    _table(cells, ["strand"])


def main() -> None:
    """The part that is named."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    {"matrix": matrix, "healthy": healthy, "time": timed, "live": live}[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
