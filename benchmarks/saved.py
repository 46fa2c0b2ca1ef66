"""What a run that stopped by itself saved against the complete run of the same experiment, and whether they agree.

    ropewalk run FILE --until decided --out STOPPED; ropewalk run FILE --reuse STOPPED --out COMPLETE
    python benchmarks/saved.py STOPPED COMPLETE

Prints Markdown: passes and answers stored by each (what the complete one took over counts, as it would have measured
it), the best set of each by what decided, and what `recommend` answers. Reads stored outcomes alone.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from ropewalk.report.recommend import recommend
from ropewalk.report.study import read
from ropewalk.stats.best import best_set

KINDS = ("passes", "answers")


def counts(directory: Path) -> list[int]:
    """How many passes and answers are stored."""
    with closing(sqlite3.connect(f"file:{directory / 'run.sqlite'}?mode=ro", uri=True)) as db:
        return [db.execute(f"SELECT count(*) FROM {kind}").fetchone()[0] for kind in KINDS]


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    stopped, complete = (Path(name) for name in sys.argv[1:])
    (early, late), (some, every) = (read(stopped).run, read(complete).run), (counts(stopped), counts(complete))
    decided = early.meta["decided"]
    length = max(length for _, length in late.blocks)
    metric = next(name for name in ("tail", "passkey") if (name, length) in late.blocks)
    running, best = set(decided["running"]), set(best_set(late.blocks[metric, length]).members)
    print("| | stopped by itself | complete | saved |\n|---|---|---|---|")
    for kind, a, b in zip(KINDS, some, every, strict=True):
        print(f"| {kind} | {a} | {b} | {(1 - a / b if b else 0):.2f} |")
    print(f"| left in the best set by {metric} | {len(running)} | {len(best)} | |")
    print(f"| recommended | {recommend(early, length).choice.label} | {recommend(late, length).choice.label} | |")
    print(f"\nstopped because: {decided['why']}, {decided['look']}; {len(decided['left'])} left on the way")
    print(
        f"left by the stopped run alone: {sorted(best - running)}; by the complete one alone: {sorted(running - best)}"
    )


if __name__ == "__main__":
    main()
