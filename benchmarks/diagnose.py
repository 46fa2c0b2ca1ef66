"""Faults put into live servers, and what `ropewalk diagnose` makes of them: docs/results/engines.md.

    python benchmarks/diagnose.py matrix      faults x five models, stock transformers behind a server
    python benchmarks/diagnose.py healthy     twenty servers without a fault: other methods, models, roundings
    python benchmarks/diagnose.py time THREADS [MODEL ...]   a whole diagnosis with strand and with SmolLM2
    python benchmarks/diagnose.py live PYTHON vllm|llama.cpp [MODEL ...]   the same faults in an engine that PYTHON has;
                                              MODEL is a first word of the table's heads; results are kept in build/
    python benchmarks/diagnose.py saved PYTHON   Ministral 3 in vLLM as transformers saves it, temperature and all

Prints a table of Markdown each, or a line.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

sys.path += [str(Path(__file__).parents[1] / "tests" / part) for part in ("", "diagnose", "export", "models")]

import injected
from diagnose_live import as_saved, live
from faulted import SERVED, Cells, bench, cell, table
from faulty_servers import answers, rebuilt, serving

from ropewalk.diagnosis import command
from ropewalk.models import ModelSpec, load


def matrix() -> None:
    """Which fault is called what."""
    cells: Cells = {}
    for served in SERVED:
        with bench(served) as here:
            for name, model, change in injected.faults(served, served.make(), bos=bool(here.bos)):
                with serving(answers(model, change)) as url:
                    fault, said = cell(name, *here.named(url))
                cells.setdefault(fault, {})[served.name] = said
                print(served.name, name, "->", said, flush=True, file=sys.stderr)
    table(cells, [each.name for each in SERVED])


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


def main() -> None:
    """The part that is named."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    {"matrix": matrix, "healthy": healthy, "time": timed, "live": live, "saved": as_saved}[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
