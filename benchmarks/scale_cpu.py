"""One worker with all cores against a worker per core with one thread each, on strand, in turn.

    python benchmarks/scale_cpu.py [--repeat 3] [--model smollm2 --documents 2 --trials 2]

Beside seconds stand those that the processor worked: where the machine is shared, they say more.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from scale_gpu import TIMED, TIMED_ALONE, Timed, compared, rows

from ropewalk.execution.executor import Fleet
from ropewalk.execution.run import sweep
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask

EXPERIMENT: dict[str, Any] = {
    "model": "strand",
    "dtype": "float32",
    "lengths": [512, 1024],
    "documents": {"corpus": "builtin", "count": 6},
    "methods": {"yarn": {"factor": [2, 4, 8]}, "linear": {"factor": [2, 4]}},
    "metrics": {"perplexity": {}, "passkey": {"trials": 10}},
}


def cpu_s() -> float:
    """Of this process and its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--model", default="strand")
    parser.add_argument("--documents", type=int, default=6)
    parser.add_argument("--trials", type=int, default=10)
    args = parser.parse_args()
    EXPERIMENT["model"], EXPERIMENT["documents"]["count"] = args.model, args.documents
    EXPERIMENT["metrics"]["passkey"]["trials"] = args.trials
    cores = os.cpu_count() or 1
    torch.set_num_threads(cores)
    reference: dict[str, Any] | None = None
    with tempfile.TemporaryDirectory() as folder:
        for place in range(2 * args.repeat):
            executor, workers = ((TIMED_ALONE, 1), (TIMED, cores))[place % 2]
            out, start, used = Path(folder) / str(place), time.perf_counter(), cpu_s()
            sweep(ask(schema.parse(EXPERIMENT, "cpu")), out, executor=executor, fleet=Fleet(workers=workers))
            found = {
                "workers": workers,
                "threads": cores // workers,
                "first_to_last_s": round(Timed.last - Timed.ready, 2),
                "command_s": round(time.perf_counter() - start, 2),
                "cpu_s": round(cpu_s() - used, 2),
            }
            own = rows(out)
            reference = reference or own
            print(json.dumps(found | compared(reference, own)), flush=True)


if __name__ == "__main__":
    main()
