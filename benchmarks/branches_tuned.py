"""Schemes tuned with and without near, with and without gains, on the built-in model: found, then judged in one run.

    python benchmarks/branches_tuned.py OUT                    # everything; resumes
    python benchmarks/branches_tuned.py OUT --only gains-60    # one tuning, and no judgement
    python benchmarks/branches_tuned.py OUT --budget-s 300     # what is found by then is judged

The descents are those of `ropewalk tune examples/tune-strand.yaml --length 1024 --steps S --near W --what WHAT` without
its judgement; named methods are measured once for all (OUT/named.json). Then all that was found, llama3, rerope and
self_extend are one run of 256 and 1024 tokens (OUT/run), compared on the eight documents that no tuning saw: paired,
intervals by Bonferroni. OUT/tuned.md has the tables.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from branches_contrasts import block_of, contrasts, markdown

import ropewalk as rw
from ropewalk.cli.arguments import read_experiment
from ropewalk.execution.lock import locked
from ropewalk.experiment.prepare import Prepared, prepare
from ropewalk.report import study
from ropewalk.scoring import split
from ropewalk.tuning import asked, named, run, winner
from ropewalk.tuning.asked import Request
from ropewalk.tuning.course import Course

EXPERIMENT = Path(__file__).parent.parent / "examples/tune-strand.yaml"
LENGTH = 1024
TUNINGS = {
    "gains-60": Request(length=LENGTH, steps=60, near=(128, 256), what="rotation+head+pair"),
    "plain-120": Request(length=LENGTH, steps=120, what="rotation+head+pair"),
    "near-60": Request(length=LENGTH, steps=60, near=(128, 256), what="rotation"),
    "gains-120": Request(length=LENGTH, steps=120, near=(128, 256), what="rotation+head+pair"),
    "rotation-60": Request(length=LENGTH, steps=60, what="rotation"),
}
UNSEEN = (
    *("hamlet", "pride-and-prejudice", "jargon-lexicon-k-z", "truman-1946", "coriolanus", "persuasion"),
    *("roosevelt-1906-1907", "troilus-and-cressida"),
)
"""The judge's half of the documents of EXPERIMENT (docs/results/tune.md)."""


class Spent(Exception):
    """The time is over; what was found is kept."""


def found(name: str, out: Path, prepared: Prepared, end: float) -> None:
    """The winners of a tuning's descents, in OUT/NAME-*.safetensors; those that are there are not sought again."""
    request, own = TUNINGS[name], out / name
    tuning, parts = asked.tuning(prepared, request), split(prepared.model.model)
    course = Course(tuning=tuning, parts=parts, out=own, report=lambda what, done, total: None)
    own.mkdir(parents=True, exist_ok=True)
    if (out / named.FILE).is_file() and not (own / named.FILE).is_file():
        shutil.copy(out / named.FILE, own / named.FILE)

    def told(state: Any, loss: Any) -> None:
        if state.done % 20 == 0:
            print(f"  {name}: step {state.done} of {state.steps}, loss {loss.total(request.weights):.4f}", flush=True)
        if time.monotonic() > end:
            raise Spent

    with locked(own):
        run._begin(own, course.identity)
        with course.quick() as quick:
            methods = course.methods(lambda: course.tuning_bench(quick))
        shutil.copy(own / named.FILE, out / named.FILE)
        for way in request.ways:
            file = out / f"{name}-{way.file}"
            if file.is_file():
                continue
            begun = time.process_time()
            scheme, state = course.descent(methods, way, told)
            with course.quick() as quick:
                (scored,) = course.found(methods, {way: (scheme, state)}, lambda: course.tuning_bench(quick))
            facts = {"length": LENGTH, "what": tuning.what, "seed": way.seed, "steps": state.done}
            file.write_bytes(winner.content(scheme, prepared.asked.geometry, tuning.turns, facts))
            print(
                f"{file.stem}: {scheme.fingerprint}, {state.wall_s:.0f} s of steps, {time.process_time() - begun:.0f} "
                f"of processor here (s), objective {scored.score.objective:.4f} on the tuning set, A "
                f"{scheme.far.attention_factor:.4f}",
                flush=True,
            )


def judged(out: Path, trials: int, reuse: Path | None) -> str:
    """All that was found, in one run, as tables."""
    files = {file.stem: str(file) for file in sorted(out.glob("*.safetensors"))}
    methods: dict[str, Any] = {
        "llama3": {"factor": 4},
        "rerope": {"neighbor_window": 128},
        "self_extend": {"neighbor_window": 128},
        "truncate": {},
        "tuned": {"file": list(files.values())},
    }
    metrics = {"perplexity": {}} | ({"passkey": {"trials": trials}} if trials else {})
    found = rw.sweep("strand", methods=methods, lengths=[256, LENGTH], metrics=metrics, out=out / "run", reuse=reuse)
    fingerprints = {scheme_of(file).fingerprint: name for name, file in files.items()}
    names = {row.label: fingerprints[row.fingerprint] for row in rows_of(found) if row.fingerprint in fingerprints}
    said = [f"- {label}: {name}" for label, name in sorted(names.items(), key=lambda each: each[1])]
    for metric, length in (("perplexity", 256), ("perplexity", LENGTH), ("tail", LENGTH)):
        block = block_of(found.directory, metric, length, UNSEEN)
        first = [label for label, name in names.items() if name.startswith(("plain", "rotation", "near"))]
        against = [*first, *(label for label in block.labels if label.split()[0] in ("rerope", "none", "truncate"))]
        against = [label for label in against if label in block.labels]
        said += ["", f"## {metric} {length}", "", markdown(block, contrasts(block, against), against)]
    return "\n".join(said)


def scheme_of(file: str) -> Any:
    geometry = rw.load("strand").geometry
    params = rw.methods.make_params("tuned", rw.methods.inlined("tuned", {"file": file}))
    return rw.methods.resolve(geometry, "tuned", params, LENGTH).scheme


def rows_of(found: Any) -> Any:
    return [row for row in study.read(found.directory).run.rows if row.length == LENGTH]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", choices=TUNINGS, help="these tunings, and no judgement")
    parser.add_argument("--trials", type=int, default=20, help="passkeys of the judgement; 0 for none")
    parser.add_argument("--reuse", type=Path, help="a run of which passes are taken")
    parser.add_argument("--budget-s", type=float, default=1e9, help="of the descents")
    args = parser.parse_args()
    end = time.monotonic() + args.budget_s
    args.out.mkdir(parents=True, exist_ok=True)
    experiment, _ = read_experiment(str(EXPERIMENT))
    prepared = prepare(asked.checked(experiment, TUNINGS["gains-60"], None))
    try:
        for name in args.only or TUNINGS:
            found(name, args.out, prepared, end)
    except Spent:
        print("the time for descents is over; the same command goes on from here")
    if not args.only:
        told = judged(args.out, args.trials, args.reuse)
        (args.out / "tuned.md").write_text(told + "\n", encoding="utf-8")
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        print(f"{device}, torch {torch.__version__}\n\n{told}")


if __name__ == "__main__":
    main()
