"""The script behind the table of claims still runs on this code, and its claims can be made and be wrong."""

from __future__ import annotations

import runpy
from pathlib import Path

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "claims.py"))


def test_every_claim_can_be_drawn_and_rare_failures_break_them() -> None:
    designs, rate = SCRIPT["DESIGNS"], SCRIPT["rate"]
    for claims in (SCRIPT["ERRORS"], SCRIPT["OTHERS"]):
        for claim in claims.values():
            assert 0 <= rate(claim, designs["symmetric"], 8, 1) <= 1
    best_set_errs = SCRIPT["best_set_errs"]
    assert rate(best_set_errs, designs["contaminated"], 8, 30) > 0.2 > rate(best_set_errs, designs["symmetric"], 8, 30)
