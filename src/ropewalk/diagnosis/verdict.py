"""What was found, as lines for people and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ropewalk.diagnosis.hypothesis import Hypothesis
from ropewalk.diagnosis.match import BLOCK, CONFIDENCE, Match
from ropewalk.stats.findings.finding import spelled

SHOWN = 5
"""Hypotheses that a table names, nearest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A server, matched.

    Attributes:
        server: its name.
        asked: method and length in words.
        hypotheses: the library.
        match: which of them it is.
        rounding: what weights of 8 bits would leave of the nearest, root mean square, nats/token; None where less than
            that had to be explained.
        line: the command that serves what was asked for; None where no engine's is known.
    """

    server: str
    asked: str
    hypotheses: tuple[Hypothesis, ...]
    match: Match
    rounding: float | None = None
    line: str | None = None

    @property
    def name(self) -> str | None:
        """Of the hypothesis that fits; None where none does."""
        return None if self.match.found is None else self.hypotheses[self.match.found].name

    @property
    def healthy(self) -> bool:
        """It runs what was asked for."""
        return self.match.found == 0

    @property
    def sentence(self) -> str:
        """The verdict, with what to do."""
        found = self.match
        if found.found is None:
            return self._none_fits()
        said = f"{self.server} {self.hypotheses[found.found].says} ({self.asked})"
        if not self.healthy:
            said += self._margin()
        if self.line is not None and not self.healthy:
            said += f"; expected line: {self.line}"
        return f"{said}."

    def _margin(self) -> str:
        asked, best = self.match.apart[0], self.match.apart[self.match.nearest]
        if asked is None or best is None:
            return "; what was asked for cannot be it, as tokens are missing"
        return (
            f"; {best.rms:.2g} nats/token from it (root mean square), {asked.rms:.2g} from what was asked for, "
            f"margin {spelled(asked.margin, '.2g')}"
        )

    def _none_fits(self) -> str:
        found, nearest = self.match, self.hypotheses[self.match.nearest].name
        apart = found.apart[found.nearest]
        assert apart is not None
        shape = (
            f"the differences grow with position ({found.early:.2g} nats over the first tokens, {found.late:.2g} over "
            "the last half), so look for a rotation or a context that is none of these"
            if found.grows
            else f"the differences are as large at the beginning ({found.early:.2g} nats) as at the end "
            f"({found.late:.2g}), so look at its weights (quantised, others), its cache and its tokens first"
        )
        return (
            f"{self.server} runs none of the {len(self.hypotheses)} hypotheses for {self.asked}: nearest is "
            f"{nearest!r}, {apart.rms:.2g} nats/token off (root mean square{self._of_rounding()}); {shape}."
        )

    def _of_rounding(self) -> str:
        return "" if self.rounding is None else f"; weights of 8 bits would leave {self.rounding:.2g}"

    def lines(self) -> list[str]:
        """The verdict, what cannot be told from it, and the nearest hypotheses."""
        found = self.match
        head = [self.sentence]
        others = [self.hypotheses[index].name for index in found.tied if index != found.found]
        if found.found is not None and (same := self.hypotheses[found.found].also):
            head.append(f"It is the same here as: {', '.join(same)}.")
        if others and found.found is not None:
            head.append(f"On {found.tokens} tokens this cannot be told from: {', '.join(others)}.")
        if found.found is not None and self.rounding is not None:
            apart = found.apart[found.found]
            assert apart is not None
            head.append(
                f"It is {apart.rms:.2g} nats/token off (root mean square{self._of_rounding()}), and told from every "
                "other hypothesis: its weights or its cache are rounded, or an attention factor is a little off."
            )
        if found.found is not None and found.grows:
            head.append(
                f"The differences that are left grow with position ({found.early:.2g} to {found.late:.2g} nats): a "
                "rotation slightly off would show so."
            )
        table = [f"{'hypothesis':30} {'rms':>9} {'mean':>9}  margin over the nearest"]
        for index in self.nearest()[:SHOWN]:
            apart = found.apart[index]
            assert apart is not None
            table.append(
                f"{self.hypotheses[index].name:30} {apart.rms:9.2g} {apart.mean:9.2g}  {spelled(apart.margin, '.2g')}"
            )
        note = (
            f"nats/token on {found.tokens} tokens; intervals {CONFIDENCE:.0%}, paired over blocks of at least {BLOCK} "
            "positions, taken as independent"
        )
        return [*head, *table, note]

    def nearest(self) -> list[int]:
        """Indices of the hypotheses that have losses for all tokens, nearest first."""
        known = [(each.mean, index) for index, each in enumerate(self.match.apart) if each is not None]
        return [index for _, index in sorted(known)]

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        found = self.match
        return {
            "server": self.server,
            "asked": self.asked,
            "verdict": self.name,
            "healthy": self.healthy,
            "sentence": self.sentence,
            "line": self.line,
            "tokens": found.tokens,
            "tied": [self.hypotheses[index].name for index in found.tied],
            "early": found.early,
            "late": found.late,
            "rounding": self.rounding,
            "hypotheses": [self._row(index) for index in self.nearest()],
        }

    def _row(self, index: int) -> dict[str, Any]:
        apart, each = self.match.apart[index], self.hypotheses[index]
        assert apart is not None
        return {
            "name": each.name,
            "also": list(each.also),
            "says": each.says,
            "fingerprint": each.scheme.fingerprint,
            "rms": apart.rms,
            "mean": apart.mean,
            "margin": apart.margin.value,
            "margin_low": apart.margin.low,
            "margin_high": apart.margin.high,
        }
