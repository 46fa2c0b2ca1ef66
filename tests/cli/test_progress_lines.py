"""Where nobody looks at a bar, each part of a command says a line per tenth: named methods, then every seed's loss."""

from __future__ import annotations

import io

from rich.console import Console

from ropewalk.progress import progress


def test_every_part_has_its_own_tenths() -> None:
    err = Console(file=io.StringIO(), width=200)
    with progress(err, "steps") as report:
        report("loading the model", 0, 0)
        for done in range(20):
            report("named methods", done, 20)
        report("seed 0: loss 3.1", 1, 4)
        report("seed 0: loss 2.9", 4, 4)
        report("judging", 0, 0)
        report("judging documents", 3, 3)
    lines = err.file.getvalue().splitlines()
    assert [line for line in lines if "named" in line] == [f"named methods: {n} of 20 steps" for n in range(0, 20, 2)]
    assert lines[10:] == [
        "seed 0: loss 3.1: 1 of 4 steps",
        "seed 0: loss 2.9: 4 of 4 steps",
        "judging documents: 3 of 3 steps",
    ]
