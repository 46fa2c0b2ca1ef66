"""The faults of tests/diagnose/injected.py in engines' own servers: `benchmarks/diagnose.py live`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parents[1] / "tests" / part) for part in ("", "diagnose", "export")]

import injected
import live_servers
import llamacpp_faults
import vllm_faults
from faulted import SERVED, Bench, Cells, bench, cell, row, table
from kept import keep, kept

from ropewalk.export import ENGINES as EXPORTED
from ropewalk.export.checkpoint import describe
from ropewalk.export.request import request
from ropewalk.models import builtin

Run = Callable[[Bench, str, Any], AbstractContextManager[str]]
"""The address of a server with the fault of a name, which a model of transformers also has."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How its servers are started, and which faults it cannot be made to run.

    Attributes:
        models: that the benchmark can write for it, by the first words of their names.
        bos_first: its server takes text alone, with a BOS in it.
    """

    started: Callable[[Path], AbstractContextManager[Run]]
    impossible: Callable[[injected.Served, str], str | None]
    models: tuple[str, ...]
    bos_first: bool = False


def live(python: str, engine: str, *models: str) -> None:
    """Each fault in the engine's own server, what is done kept in build/."""
    kind = ENGINES[engine]
    names = models or kind.models
    chosen = [_shorter(each) for each in SERVED if each.name.startswith(tuple(names))]
    done = kept(f"live-{engine}")
    reasons: dict[str, dict[str, None]] = {}
    with kind.started(Path(python)) as run:
        for served in chosen:
            with bench(served, bos_first=kind.bos_first) as here:
                for fault, model, _ in injected.faults(served, served.make(), bos=bool(here.bos)):
                    why, key = kind.impossible(served, fault), f"{served.name}: {fault}"
                    if why is not None:
                        done[key] = [row(fault), "impossible"]
                        reasons.setdefault(why, {})[row(fault)] = None
                    elif key not in done:
                        start = time.perf_counter()
                        done[key] = _one(run, here, fault, model)
                        keep(f"live-{engine}", done)
                        print(f"{key} {done[key][1]} {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    _print(done, reasons, chosen)


def as_saved(python: str) -> None:
    """What vLLM makes of a directory of transformers whose rope_parameters ship a query temperature, without a word and
    with what is exported."""
    served = replace(injected.MINISTRAL, length=250)  # its yarn ends at factor x window
    with bench(served) as here, live_servers.vllm_forks(Path(python)) as forks:
        found = describe(here.spec)
        asked = request(found.geometry, "none", {}, served.length, found.checkpoint)
        for told in ({}, dict(EXPORTED["vllm"].configure(asked).config)):
            line = live_servers.vllm(Path(python), _directory(here), served.length, told)
            with forks.running(line) as url:
                called, match = here.named(url)
            near, own = (each and each.rms for each in (match.apart[match.nearest], match.apart[0]))
            print(f"--hf-overrides {told}: {called}; nats/token from that {near:.2g}, from what ships {own:.2g}")


def _shorter(served: injected.Served) -> injected.Served:
    """Beside a window of 256, servers of a thousand tokens see what those of 1024 do."""
    return served if served.length <= 1000 else replace(served, length=1000)


def _one(run: Run, here: Bench, fault: str, model: Any) -> tuple[str, str]:
    try:
        with run(here, fault, model) as url:
            return cell(fault, *here.named(url))
    except RuntimeError as wrong:
        print(fault, wrong, file=sys.stderr, flush=True)
        return row(fault), "not started"


def _print(done: dict[str, Any], reasons: dict[str, dict[str, None]], chosen: Sequence[injected.Served]) -> None:
    cells: Cells = {}
    for key, (fault, said) in done.items():
        cells.setdefault(fault, {})[key.partition(":")[0]] = said
    table(cells, [each.name for each in chosen])
    for why, faults in reasons.items():
        print(f"\nImpossible there, {', '.join(faults)}: {why}.")


def _directory(here: Bench) -> Path:
    strand = here.spec.id == "strand"
    return Path(str(builtin.locate("strand", weights=True)[0])) if strand else Path(here.spec.id)


@contextmanager
def _vllm(python: Path) -> Iterator[Run]:
    """Forks of one process."""
    with live_servers.vllm_forks(python) as forks:  # imports vLLM while hypotheses are scored

        def run(here: Bench, fault: str, model: Any) -> AbstractContextManager[str]:
            told = vllm_faults.overrides(here.served, fault, model)
            return forks.running(live_servers.vllm(python, _directory(here), len(here.ids), told))

        yield run


@contextmanager
def _llama_cpp(python: Path) -> Iterator[Run]:
    """Each over a file of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "served.gguf"

        def run(here: Bench, fault: str, model: Any) -> AbstractContextManager[str]:
            llamacpp_faults.write(file, here.served, fault, model, _directory(here) / "tokenizer.json")
            room = len(here.ids) + 8  # for what a random model generates until a letter is whole
            return live_servers.running(live_servers.llama_cpp(python, file, room))

        yield run


ENGINES = {
    "vllm": Engine(started=_vllm, impossible=vllm_faults.impossible, models=tuple(each.name for each in SERVED)),
    "llama.cpp": Engine(
        started=_llama_cpp,
        impossible=llamacpp_faults.impossible,
        models=("strand", "llama", "gemma3", "phi3"),
        bos_first=True,
    ),
}
