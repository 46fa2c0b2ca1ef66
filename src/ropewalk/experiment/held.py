"""What prompts still hold once their context is dropped: counted in the stored prompts, as nothing is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ropewalk.experiment.plan import BASELINE
from ropewalk.experiment.raw import Raw
from ropewalk.methods import resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """How many of `n` prompts of a column hold what they ask for in the last `kept` of their `length` tokens."""

    metric: str
    length: int
    kept: int
    count: int
    n: int

    def row(self) -> Mapping[str, Any]:
        """A line for a table of results: no value, as no answer was measured; `status` says the count."""
        empty = dict.fromkeys(("value", "ci_low", "ci_high", "fingerprint"))
        return empty | {
            "label": BASELINE.label,
            "method": BASELINE.method,
            "params": {},
            "length": self.length,
            "metric": self.metric,
            "n": self.n,
            "status": f"holds {self.count} of {self.n}",
            "reason": f"of these {self.n} prompts so many hold what they ask for in their last {self.kept} "
            "tokens; none was asked",
        }


def held(raw: Raw) -> Iterator[Held]:
    """What dropping the context leaves of the prompts of every length beyond the window, where that is known."""
    asked = [(metric, options) for metric, options in raw.experiment.asked() if metric.held is not None]
    for length in raw.experiment.lengths:
        kept = resolve(raw.geometry, BASELINE.method, BASELINE.params, length).scheme.context
        if kept is None or length <= raw.geometry.window("stack").length:
            continue
        for metric, options in asked:
            assert metric.held is not None
            stored = raw.index.prompts.get((metric.name, length), ())
            stands = [metric.held(options, prompt.facts, length, kept) for prompt in stored]
            if stands and None not in stands:
                count, n = sum(map(bool, stands)), len(stands)
                yield from (Held(metric=c.name, length=length, kept=kept, count=count, n=n) for c in metric.columns)
